"""From stored pixels to the network's input.

Legend: B9HW = views 0, 1, 2, each red, green, blue; B3HW = depth of views 0, 1, 2; B12HW = the one after the
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import DataConfig, DepthMode
from pipeline.data.channels import CHANNELS, NO_RETURN_MM, RGB_CHANNELS, SENTINEL_MM, VIEWS
from pipeline.data.moments import (
    DEPTH_CLIP_M,
    RGB_MAX,
    RGB_ROWS,
    VALID_DEPTH_ROWS,
    mean_and_std,
    share_colours,
)
from pipeline.errors import CheckpointError, DataError
from pipeline.units import MM_PER_M

INVALID_DEPTH_M = -0.5  # stands for "no distance known"; half a metre below every real one
INVALID_DEPTH_SHARE = -0.5  # the same where an image's distances lie between 0 and 1
REPORT_DEPTH_RANGE_M = 65.535  # what the report divided by: the largest uint16 in metres
SMALLEST_RANGE_MM = 1.0  # of an image's distances; a flat one is all zero
# Mean and deviation in metres of the modes that take no statistics from the data
FIXED_DEPTH_M: dict[DepthMode, tuple[float, float]] = {
    "report": (0.0, REPORT_DEPTH_RANGE_M),
    "symmetric": (REPORT_DEPTH_RANGE_M / 2, REPORT_DEPTH_RANGE_M / 2),
    "per_image": (0.0, 1 / MM_PER_M),  # nothing is left to do: each image is scaled by itself
}


@dataclass(frozen=True)
class Preprocess:
    """Normalises stored pixels, and keeps every number this needs so that predictions repeat it exactly.

    RGB becomes (x / 255 - mean) / std by channel. Depth becomes (metres - mean) / std by view, where mode
    `clip` first limits distances to DEPTH_CLIP_M and replaces invalid pixels (0, 65535) by INVALID_DEPTH_M,
    and modes `report` and `symmetric` leave the pixels as they are. Mode `per_image` limits distances too,
    then takes the nearest of each image (one view of one sample) to 0 and its farthest to 1, as the report
    did, but without the invalid pixels, which would set both ends; they become INVALID_DEPTH_SHARE.
    Channels that `inputs` leaves out are zero.
    """

    height: int
    width: int
    inputs: Literal["rgbd", "rgb", "depth"]
    depth: DepthMode
    rgb_mean: tuple[float, ...]
    rgb_std: tuple[float, ...]
    depth_mean_m: tuple[float, ...]
    depth_std_m: tuple[float, ...]

    @classmethod
    def from_moments(
        cls, config: DataConfig, moments_N153: NDArray[np.float64], height: int, width: int
    ) -> Preprocess:
        """Statistics of the training rows' moments [N, 15, 3] (see pipeline.data.moments).

        Depth modes other than `clip` take nothing from the data. DataError if there are no rows.
        """
        if not len(moments_N153):
            raise DataError("no training samples to take the input statistics from")
        shared = config.rgb_statistics == "shared"
        mean, std = mean_and_std(share_colours(moments_N153) if shared else moments_N153)
        if config.depth in FIXED_DEPTH_M:
            mean[VALID_DEPTH_ROWS], std[VALID_DEPTH_ROWS] = FIXED_DEPTH_M[config.depth]
        return cls(
            height=height,
            width=width,
            inputs=config.inputs,
            depth=config.depth,
            rgb_mean=tuple(mean[RGB_ROWS].tolist()),
            rgb_std=tuple(std[RGB_ROWS].tolist()),
            depth_mean_m=tuple(mean[VALID_DEPTH_ROWS].tolist()),
            depth_std_m=tuple(std[VALID_DEPTH_ROWS].tolist()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, which JSON, YAML and checkpoints keep exactly."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The inverse of `to_dict`. CheckpointError if keys are missing or unknown."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            odd = ", ".join(sorted(set(values) ^ known))
            raise CheckpointError(f"input statistics: missing or unknown {odd}; made by another version?")
        restored: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**restored)

    def __call__(self, rgb_B9HW: torch.Tensor, depth_mm_B3HW: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 9, H, W] and int32 millimetres [B, 3, H, W] to float32 [B, 12, H, W] on their device.

        DataError if the images' size or the tensors' types differ from those expected.
        """
        self._check(rgb_B9HW, depth_mm_B3HW)
        out_B12HW = torch.empty(
            (len(rgb_B9HW), CHANNELS, self.height, self.width), dtype=torch.float32, device=rgb_B9HW.device
        )
        scale_12, shift_12 = _affine(self, rgb_B9HW.device)
        rgb, depth = out_B12HW[:, :RGB_CHANNELS], out_B12HW[:, RGB_CHANNELS:]
        if self.inputs == "depth":
            rgb.zero_()
        else:
            rgb.copy_(rgb_B9HW).mul_(scale_12[:RGB_CHANNELS]).add_(shift_12[:RGB_CHANNELS])
        if self.inputs == "rgb":
            depth.zero_()
        else:
            depth.copy_(depth_mm_B3HW)
            if self.depth == "clip":
                _clip(depth)
            elif self.depth == "per_image":
                _scale_each_image(depth)
            depth.mul_(scale_12[RGB_CHANNELS:]).add_(shift_12[RGB_CHANNELS:])
        return out_B12HW

    def _check(self, rgb_B9HW: torch.Tensor, depth_mm_B3HW: torch.Tensor) -> None:
        batch, size = len(rgb_B9HW), (self.height, self.width)
        for name, tensor, channels, dtype in (
            ("rgb", rgb_B9HW, RGB_CHANNELS, torch.uint8),
            ("depth", depth_mm_B3HW, VIEWS, torch.int32),
        ):
            expected = (batch, channels, *size)
            if tuple(tensor.shape) != expected or tensor.dtype != dtype:
                raise DataError(
                    f"{name}: found {tensor.dtype} {list(tensor.shape)}, but the model was trained on "
                    f"{dtype} {list(expected)}; pack the data at {self.height} x {self.width} pixels"
                )


def _clip(depth_mm_B3HW: torch.Tensor) -> None:
    """Limits float millimetres to the clip distance and marks invalid pixels, in place."""
    invalid = _invalid(depth_mm_B3HW)
    depth_mm_B3HW.clamp_(max=DEPTH_CLIP_M * MM_PER_M).masked_fill_(invalid, INVALID_DEPTH_M * MM_PER_M)


def _scale_each_image(depth_mm_B3HW: torch.Tensor) -> None:
    """Float millimetres, limited to the clip distance, to shares of each image's range, in place."""
    invalid = _invalid(depth_mm_B3HW)
    depth_mm_B3HW.clamp_(max=DEPTH_CLIP_M * MM_PER_M)
    nearest = depth_mm_B3HW.masked_fill(invalid, torch.inf).amin(dim=(-2, -1), keepdim=True)
    farthest = depth_mm_B3HW.masked_fill(invalid, -torch.inf).amax(dim=(-2, -1), keepdim=True)
    depth_mm_B3HW.sub_(nearest).div_((farthest - nearest).clamp_(min=SMALLEST_RANGE_MM))
    depth_mm_B3HW.masked_fill_(invalid, INVALID_DEPTH_SHARE)


def _invalid(depth_mm_B3HW: torch.Tensor) -> torch.Tensor:
    return (depth_mm_B3HW == NO_RETURN_MM) | (depth_mm_B3HW == SENTINEL_MM)


@lru_cache(maxsize=16)
def _affine(preprocess: Preprocess, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift, float32 [12, 1, 1] each: (x / unit - mean) / std as a product and a sum."""
    mean = np.array(preprocess.rgb_mean + preprocess.depth_mean_m)
    std = np.array(preprocess.rgb_std + preprocess.depth_std_m)
    unit = np.repeat([RGB_MAX, MM_PER_M], [RGB_CHANNELS, VIEWS])
    scale, shift = (
        torch.tensor(values, dtype=torch.float32, device=device).view(CHANNELS, 1, 1)
        for values in (1 / (unit * std), -mean / std)
    )
    return scale, shift
