"""Sums per sample, from which the mean and deviation of any split are a reduction.

Legend: 9HW = views 0, 1, 2, each red, green, blue; 3HW = depth of views 0, 1, 2; 15 = the ROWS below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.data.channels import COLOURS, NO_RETURN_MM, RGB_CHANNELS, SENTINEL_MM, VIEWS
from pipeline.units import MM_PER_M

DEPTH_CLIP_M = 2.0  # beyond the hand and its table in every view
RGB_MAX = 255

RGB_ROWS = slice(0, RGB_CHANNELS)  # RGB channels, scaled to 0..1
RAW_DEPTH_ROWS = slice(RGB_ROWS.stop, RGB_ROWS.stop + VIEWS)  # metres of each view, all pixels
# Metres of each view, valid pixels only, clipped to DEPTH_CLIP_M:
VALID_DEPTH_ROWS = slice(RAW_DEPTH_ROWS.stop, RAW_DEPTH_ROWS.stop + VIEWS)
ROWS = VALID_DEPTH_ROWS.stop
SUMS = 3  # count, sum, sum of squares

_UNITS_PER_ONE = np.repeat([float(RGB_MAX), MM_PER_M], [RGB_CHANNELS, 2 * VIEWS])
_SMALLEST_STD = 1e-6  # below it a channel counts as constant; rounding alone gives less


def sample_moments(rgb_9HW: NDArray[np.uint8], depth_mm_3HW: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Count, sum and sum of squares of each channel, float64 [15, 3], in 0..1 (RGB) and metres (depth).

    The sums are taken over whole numbers, exact in float64, so they do not depend on the order of summation.
    """
    moments = np.empty((ROWS, SUMS))
    for row, values in enumerate(rgb_9HW):
        moments[row] = _sums(values)
    for view, values in enumerate(depth_mm_3HW):
        moments[RAW_DEPTH_ROWS.start + view] = _sums(values)
        valid = values[(values != NO_RETURN_MM) & (values != SENTINEL_MM)]
        moments[VALID_DEPTH_ROWS.start + view] = _sums(np.minimum(valid, round(DEPTH_CLIP_M * MM_PER_M)))
    moments[:, 1] /= _UNITS_PER_ONE
    moments[:, 2] /= _UNITS_PER_ONE**2
    return moments


def _sums(whole_numbers: NDArray[np.uint8] | NDArray[np.uint16]) -> tuple[int, float, float]:
    values = whole_numbers.ravel().astype(np.float64)
    return values.size, float(values.sum()), float(values @ values)


def mean_and_std(moments_N153: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over the given samples, float64 [15] each.

    A constant channel gets deviation 1, a channel without any pixel mean 0 and deviation 1, so that dividing
    by the deviation is always possible.
    """
    count, total, squares = moments_N153.sum(axis=0).T
    pixels = np.maximum(count, 1)
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    return mean, np.where(std < _SMALLEST_STD, 1.0, std)


def share_colours(moments_N153: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same moments, except that each colour's are those of all views' pixels together."""
    shared = moments_N153.copy()
    per_view = moments_N153[:, RGB_ROWS].reshape(-1, VIEWS, COLOURS, SUMS)
    shared[:, RGB_ROWS] = np.tile(per_view.sum(axis=1), (1, VIEWS, 1))
    return shared
