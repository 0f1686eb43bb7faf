"""What the cameras report: 8-bit colours with noise, depth in whole millimetres with the sensor's faults."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.data.channels import NO_RETURN_MM, SENTINEL_MM
from pipeline.data.twin.render import View
from pipeline.units import MM_PER_M

DISPLAY_GAMMA = 2.2
TONE_STEPS = 4096  # resolution of the table from linear light to grey levels
COLOUR_NOISE = 2.2  # grey levels, standard deviation
EXPOSURE_JITTER = 0.015  # standard deviation of a view's log exposure from frame to frame

BASELINE = 0.050  # metres between the depth sensor's two eyes
DEPTH_NOISE = 0.0018  # standard deviation in metres at 1 m; grows with the square of the distance
GRAZING = 0.14  # cosine of the viewing angle below which nothing comes back
SPECKLE = 0.004  # share of pixels without return for no visible reason
SENTINEL_RATES = (
    4e-5,
    7e-5,
    2e-4,
)  # share of pixels of views 0, 1, 2, from the depth's spread in the recordings

_levels = np.arange(TONE_STEPS + 1) / TONE_STEPS
TONES = (255 * _levels ** (1 / DISPLAY_GAMMA)).astype(np.float32)


def develop(
    light_P3: NDArray[np.float32], gain_3: NDArray[np.float32], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Linear light to an image uint8 [3, size, size]: gain, gamma, noise."""
    exposure = np.float32(np.exp(rng.normal(0, EXPOSURE_JITTER)))
    level = light_P3 * (gain_3 * exposure * np.float32(TONE_STEPS))
    grey = TONES[np.minimum(level, TONE_STEPS, out=level).astype(np.int32)]
    noise = rng.standard_normal(grey.shape, np.float32)
    noise *= np.float32(COLOUR_NOISE)
    grey += noise
    np.clip(np.rint(grey, out=grey), 0, 255, out=grey)
    return np.ascontiguousarray(grey.astype(np.uint8).T).reshape(3, size, size)


def measure_depth(view: View, focal: float, number: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Depth of view `number` as the sensor gives it: uint16 millimetres [P], 0 = no return, some 65535.

    focal is the image's focal length in pixels.
    """
    depth = view.depth_P.astype(np.float32)
    noise = rng.standard_normal(depth.shape, np.float32)
    noise *= np.float32(DEPTH_NOISE) * depth * depth
    reading: NDArray[np.uint16] = np.rint(np.float32(MM_PER_M) * (depth + noise)).astype(np.uint16)
    unseen = hidden_from_one_eye(depth, focal) | (view.cosine_P < GRAZING)
    reading[unseen | (rng.random(reading.shape, np.float32) < SPECKLE)] = NO_RETURN_MM
    wrong = rng.poisson(SENTINEL_RATES[number] * len(reading))
    reading[rng.integers(len(reading), size=wrong)] = SENTINEL_MM
    return reading


def hidden_from_one_eye(depth_P: NDArray[np.float32], focal: float) -> NDArray[np.bool_]:
    """Pixels [P] that the second eye, BASELINE to the right of the first, cannot see: they have no depth.

    A point at column x appears in the second image at x - focal * BASELINE / depth; it is hidden if a point
    further right lands at or before that column.
    """
    size = math.isqrt(len(depth_P))
    disparity = np.float32(focal * BASELINE) / depth_P.reshape(size, size)
    column = np.arange(size, dtype=np.float32) - disparity
    leftmost_after = np.minimum.accumulate(column[:, :0:-1], axis=1)[:, ::-1]
    hidden = np.zeros((size, size), bool)
    hidden[:, :-1] = leftmost_after < column[:, :-1]
    return hidden.ravel()
