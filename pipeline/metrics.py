"""The metric: RMSE in metres over every validation number."""

from __future__ import annotations

import math

import torch

from pipeline.units import to_metres


class SquaredError:
    """Adds up squared errors in float64 on the device, so that batches of any size give the same RMSE."""

    def __init__(self, device: torch.device) -> None:
        self._sum_mm2 = torch.zeros((), dtype=torch.float64, device=device)
        self._count = 0

    def add(self, predicted_mm_B12: torch.Tensor, label_mm_B12: torch.Tensor) -> None:
        """Takes one batch, in millimetres; the difference is formed in float64."""
        error_mm = predicted_mm_B12.double() - label_mm_B12.double()
        self._sum_mm2 += error_mm.square().sum()
        self._count += error_mm.numel()

    def rmse_m(self) -> float:
        """Root of the mean over all numbers so far, in metres; NaN before the first batch."""
        if not self._count:
            return math.nan
        return to_metres(math.sqrt(self._sum_mm2.item() / self._count))
