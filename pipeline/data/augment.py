"""Random changes of training images: torch operations on whole batches of stored pixels, on their device.

To add one: a row in AUGMENTATIONS and a field of the same name in `pipeline.augment_config.AugmentConfig`.

All randomness comes from torch's global generators, which the caller seeds; a batch is augmented before it is
split into pieces, so that a sample's changes do not depend on how many fit into memory. Batches that come in
are left as they are. Labels never change: nothing here moves a pixel.

Legend: B9HW = views 0, 1, 2, each red, green, blue; B3HW = depth of views 0, 1, 2; B33HW = views, colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pipeline.augment_config import (
    AugmentConfig,
    ColourJitterConfig,
    DepthNoiseConfig,
    PixDropoutConfig,
    RandomErasingConfig,
    ReportDropoutConfig,
)
from pipeline.data.channels import COLOURS, NO_RETURN_MM, SENTINEL_MM, VIEWS
from pipeline.data.dataset import Batch
from pipeline.data.moments import DEPTH_CLIP_M, RGB_MAX
from pipeline.errors import ConfigError
from pipeline.units import MM_PER_M, to_mm

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
LARGEST_ASPECT = 3.3  # of an erased rectangle, and its inverse the smallest: arXiv:1708.04896
DROPPED_MM = {"background": round(to_mm(DEPTH_CLIP_M)), "no_return": NO_RETURN_MM}


def augment(batch: Batch, config: AugmentConfig) -> Batch:
    """The batch after every augmentation whose probability is not zero, in the order of AUGMENTATIONS."""
    for name in AUGMENTATIONS:
        if dict(config)[name].probability > 0:
            batch = apply(name, batch, config)
    return batch


def apply(name: str, batch: Batch, config: AugmentConfig) -> Batch:
    """The batch after one augmentation. Raises ConfigError for an unknown name."""
    if name not in AUGMENTATIONS:
        raise ConfigError(f"unknown augmentation {name!r}; known: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name](batch, dict(config)[name])


def colour_jitter(batch: Batch, config: ColourJitterConfig) -> Batch:
    """Brightness, then contrast, then saturation, by factors drawn for each view of each sample.

    As torchvision's adjust_brightness, adjust_contrast and adjust_saturation, which take one factor for a
    whole batch.
    """
    pixels = _by_view(batch.rgb_B9HW).float()
    gate_B3 = _gate(config.probability, (len(batch), VIEWS), pixels.device)

    def factor(strength: float) -> torch.Tensor:
        change_B3 = strength * (2 * torch.rand(gate_B3.shape, device=pixels.device) - 1)
        return (1 + gate_B3 * change_B3)[:, :, None, None, None]

    pixels = _blend(pixels, torch.zeros_like(pixels[:, :, :1]), factor(config.brightness))
    pixels = _blend(pixels, _grey(pixels).mean(dim=(-2, -1), keepdim=True), factor(config.contrast))
    pixels = _blend(pixels, _grey(pixels), factor(config.saturation))
    return replace(batch, rgb_B9HW=pixels.round_().to(torch.uint8).flatten(1, 2))


def _blend(pixels_B33HW: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (pixels_B33HW * factor + other * (1 - factor)).clamp_(0, RGB_MAX)


def _grey(pixels_B33HW: torch.Tensor) -> torch.Tensor:
    """Luminance, [B, 3, 1, H, W]."""
    red, green, blue = torch.split(pixels_B33HW, 1, dim=2)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def depth_noise(batch: Batch, config: DepthNoiseConfig) -> Batch:
    """Adds Gaussian noise, sigma_mm x (distance in metres)^2, to the valid pixels of some views.

    They stay valid. It is drawn for each view of each sample whether it is changed.
    """
    depth_mm = batch.depth_mm_B3HW
    gate_B3 = _gate(config.probability, (len(batch), VIEWS), depth_mm.device)
    sigma_mm = config.sigma_mm * (depth_mm / MM_PER_M).square_()
    noisy_mm = torch.randn(depth_mm.shape, device=depth_mm.device).mul_(sigma_mm).add_(depth_mm)
    noisy_mm = noisy_mm.round_().clamp_(NO_RETURN_MM + 1, SENTINEL_MM - 1).to(depth_mm.dtype)
    changed = _valid(depth_mm) & gate_B3[:, :, None, None]
    return replace(batch, depth_mm_B3HW=torch.where(changed, noisy_mm, depth_mm))


def random_erasing(batch: Batch, config: RandomErasingConfig) -> Batch:
    """Fills a rectangle of one random view with random colours and no depth, in some of the samples.

    A rectangle that would be longer than the image is as long as the image.
    """
    device = batch.rgb_B9HW.device
    size = batch.rgb_B9HW.shape[-2:]
    view_B = torch.randint(VIEWS, (len(batch),), device=device)
    chosen_B3 = torch.nn.functional.one_hot(view_B, VIEWS).bool()
    chosen_B3 &= _gate(config.probability, (len(batch), 1), device)
    erased_B3HW = chosen_B3[:, :, None, None] & _rectangles(config.area, len(batch), size, device)[:, None]
    colours_B13HW = torch.randint(
        RGB_MAX + 1, (len(batch), 1, COLOURS, *size), dtype=torch.uint8, device=device
    )
    rgb_B33HW = torch.where(erased_B3HW[:, :, None], colours_B13HW, _by_view(batch.rgb_B9HW))
    return replace(
        batch,
        rgb_B9HW=rgb_B33HW.flatten(1, 2),
        depth_mm_B3HW=batch.depth_mm_B3HW.masked_fill(erased_B3HW, NO_RETURN_MM),
    )


def _rectangles(
    area: tuple[float, float], count: int, size: torch.Size, device: torch.device
) -> torch.Tensor:
    """A rectangle of random area, aspect and place in each image, bool [count, H, W]."""
    low, high = area
    area_B = (low + (high - low) * torch.rand(count, device=device)) * size.numel()
    aspect_B = LARGEST_ASPECT ** (2 * torch.rand(count, device=device) - 1)
    rows_BH = _stretch((area_B * aspect_B).sqrt(), size[0])
    columns_BW = _stretch((area_B / aspect_B).sqrt(), size[1])
    return rows_BH[:, :, None] & columns_BW[:, None, :]


def _stretch(length_B: torch.Tensor, size: int) -> torch.Tensor:
    """Runs of about these lengths at random places of a line of `size` pixels, bool [B, size]."""
    length_B = length_B.round().clamp_(1, size)
    start_B = (torch.rand_like(length_B) * (size - length_B + 1)).floor_()
    pixel = torch.arange(size, device=length_B.device)
    return (pixel >= start_B[:, None]) & (pixel < (start_B + length_B)[:, None])


def pix_dropout(batch: Batch, config: PixDropoutConfig) -> Batch:
    """Turns some foreground pixels of depth into background, drawn for each view of each sample."""
    depth_mm = batch.depth_mm_B3HW
    foreground = _valid(depth_mm)
    if config.nearer_than_m is not None:
        foreground &= depth_mm < to_mm(config.nearer_than_m)
    dropped = _some(foreground, config.probability, config.p_max)
    return replace(batch, depth_mm_B3HW=depth_mm.masked_fill(dropped, DROPPED_MM[config.value]))


def report_dropout(batch: Batch, config: ReportDropoutConfig) -> Batch:
    """Turns some pixels of view 0's depth into the sentinel, drawn for each sample."""
    first, others = torch.split(batch.depth_mm_B3HW, [1, VIEWS - 1], dim=1)
    dropped = _some(first != SENTINEL_MM, config.probability, config.p_max)
    return replace(batch, depth_mm_B3HW=torch.cat([first.masked_fill(dropped, SENTINEL_MM), others], dim=1))


def _some(candidates_BVHW: torch.Tensor, probability: float, p_max: float) -> torch.Tensor:
    """In each image, with this probability, floor(p n) of its n candidates, drawn without replacement.

    p is uniform between 0 and p_max, for each image. Returns a mask of the candidates' shape.
    """
    device, candidates_BVP = candidates_BVHW.device, candidates_BVHW.flatten(2)
    gate_BV = _gate(probability, candidates_BVP.shape[:2], device)
    p_BV = p_max * torch.rand(gate_BV.shape, dtype=torch.float64, device=device)
    count_BV = (gate_BV * p_BV * candidates_BVP.sum(dim=-1)).floor_()
    ticket_BVP = torch.rand(candidates_BVP.shape, device=device).masked_fill_(~candidates_BVP, -1)
    most = math.floor(p_max * candidates_BVP.shape[-1])
    winners_BVM = ticket_BVP.topk(most).indices  # sorted by ticket: the first n are a draw of n
    drawn_BVM = torch.arange(most, device=device) < count_BV[:, :, None]
    mask_BVP = torch.zeros_like(candidates_BVP).scatter_(-1, winners_BVM, drawn_BVM)
    return mask_BVP.view(candidates_BVHW.shape)


def _by_view(rgb_B9HW: torch.Tensor) -> torch.Tensor:
    return rgb_B9HW.view(-1, VIEWS, COLOURS, *rgb_B9HW.shape[2:])


def _gate(probability: float, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.rand(shape, device=device) < probability


def _valid(depth_mm_B3HW: torch.Tensor) -> torch.Tensor:
    return (depth_mm_B3HW != NO_RETURN_MM) & (depth_mm_B3HW != SENTINEL_MM)


# What the light and the sensor do comes before what hides pixels, so that noise leaves hidden pixels alone.
AUGMENTATIONS: dict[str, Callable[[Batch, Any], Batch]] = {
    "colour_jitter": colour_jitter,
    "depth_noise": depth_noise,
    "random_erasing": random_erasing,
    "pix_dropout": pix_dropout,
    "report_dropout": report_dropout,
}
