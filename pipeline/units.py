"""Metres and millimetres: labels, files and the metric are in metres, networks and losses in millimetres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

MM_PER_M = 1000.0
BYTES_PER_GB = 1e9  # in every text that names a size

Number = TypeVar("Number", float, "np.ndarray[Any, Any]", "torch.Tensor")


def to_mm(metres: Number) -> Number:
    """Metres as millimetres."""
    return metres * MM_PER_M


def to_metres(millimetres: Number) -> Number:
    """Millimetres as metres."""
    return millimetres / MM_PER_M
