"""Losses by name, over predictions and labels in millimetres."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from pipeline.config import LossName

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LOSSES: dict[LossName, Loss] = {
    "mse": functional.mse_loss,  # mm^2
    "smooth_l1": functional.smooth_l1_loss,  # quadratic below 1 mm, linear above
}
