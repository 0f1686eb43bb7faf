"""The backbones: twelve channels of three RGB-D views in, twelve fingertip coordinates in millimetres out.

`build(name)` makes a network; `table.py` is the list of them. Importing this package does not import torch.
"""

from pipeline.models.factory import build, set_output_mean
from pipeline.models.table import arch, names
from pipeline.models.weights import require_weights

__all__ = ["arch", "build", "names", "require_weights", "set_output_mean"]
