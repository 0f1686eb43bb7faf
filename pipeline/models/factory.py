"""From a name to a network that is ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config import Stem
from pipeline.errors import ConfigError
from pipeline.models.table import find
from pipeline.models.weights import load_weights, require_weights

if TYPE_CHECKING:
    from torch import nn

REPORT_SIZE = 224
SMALL_SIZE = 64  # what the small siblings are made for
SIZE_MULTIPLE = 32  # the deepest stage of every backbone sees one pixel for 32 of the image


def build(
    name: str,
    small: bool = False,
    pretrained: bool | str = False,
    size: int = REPORT_SIZE,
    stem: Stem = "adapted",
) -> nn.Module:
    """A backbone for images of `size` x `size` pixels: float [B, 12, size, size] to [B, 12] in millimetres.

    `small` takes the small sibling, `pretrained` is what `require_weights` allows, `stem` what becomes of
    a pretrained input layer (see ModelConfig). Random weights come from torch's global generator: seed it
    first. The pose networks accept only the size they were built for.
    Raises ConfigError for an unknown name, a size that is not a multiple of 32, or weights that are missing
    or do not fit.
    """
    backbone = find(name)
    if size <= 0 or size % SIZE_MULTIPLE:
        raise ConfigError(
            f"image size {size} does not fit {name}: needs a multiple of {SIZE_MULTIPLE}, such as 64 or 224; "
            "render or pack the data at such a size"
        )
    weights = require_weights(name, pretrained, small)
    model = (backbone.small if small else backbone.full)(size)
    if weights is not None:
        load_weights(model, backbone, weights, stem)
    return model


def set_output_mean(model: nn.Module, mean_mm_12: Sequence[float]) -> None:
    """Makes a fresh network of `build` start from the mean of the training labels, in millimetres.

    The labels lie around 50 mm with a spread of about 20; Adam moves a bias by about the learning rate a
    step, so without this the first epochs go into finding the mean: the small ResNet-50 was at 1.03 times the
    error of predicting the mean after four epochs, and with it at 0.66. Only the bias is set: the fresh
    output weights contribute a few millimetres at most, and scaling them down gained nothing.
    Raises ConfigError if the count differs from the outputs.
    """
    import torch

    output = model.get_classifier()  # type: ignore[operator]  # timm's accessor, which PoseNet has too
    if len(mean_mm_12) != len(output.bias):
        raise ConfigError(f"{len(mean_mm_12)} label means for a network with {len(output.bias)} outputs")
    with torch.no_grad():
        output.bias.copy_(torch.as_tensor(mean_mm_12))
