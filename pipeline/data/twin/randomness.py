"""Every random number of the twin comes from a generator keyed by (seed, purpose, index)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for; the values are part of what a seed means."""

    JOINTS = 1
    CUBE = 2
    LIGHT = 3
    SENSOR = 4
    SHUFFLE = 5
    TEXTURE = 6


def generator(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """The generator of one purpose and one index; independent of all the others and of the order of calls."""
    return np.random.default_rng([seed, int(purpose), index])
