"""Patterns on the static surfaces: wood grain, carpet, a window's blurred reflections."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.randomness import Purpose, generator

FloatArray = NDArray[np.float64]
TABLE_SEED = 7  # the scene is the same whatever the recording's seed
LATTICE = 64
TABLE_SLOPE = 0.9  # relative change of brightness along the table, per metre


def value_noise(points_N2: FloatArray, stream: int) -> FloatArray:
    """Smooth noise [N] in 0..1 with features about one unit wide, repeating after LATTICE units."""
    table = generator(TABLE_SEED, Purpose.TEXTURE, stream).random((LATTICE, LATTICE))
    cell = np.floor(points_N2).astype(np.intp)
    share = points_N2 - cell
    share = share * share * (3 - 2 * share)
    x, y = cell[:, 0] % LATTICE, cell[:, 1] % LATTICE
    right, down = (x + 1) % LATTICE, (y + 1) % LATTICE
    top = table[x, y] + share[:, 0] * (table[right, y] - table[x, y])
    bottom = table[x, down] + share[:, 0] * (table[right, down] - table[x, down])
    mixed: FloatArray = top + share[:, 1] * (bottom - top)
    return mixed


def wood(points_N3: FloatArray) -> FloatArray:
    """Fine grain along y with slow bands, brighter toward the window's light at +y, as a factor [N]."""
    yz = points_N3[:, 1:]
    bend = 1.5 * value_noise(yz * 9, 1)
    fine = value_noise(yz * (22, 420) + bend[:, None] * (0, 4), 2)
    bands = value_noise(yz * (5, 60) + bend[:, None] * (0, 3), 3)
    return (0.86 + 0.10 * fine + 0.18 * bands) * (1 + TABLE_SLOPE * points_N3[:, 1])


def carpet(points_N3: FloatArray) -> FloatArray:
    """Office carpet: short streaks and grain, as a factor [N]."""
    yz = points_N3[:, 1:]
    return 0.66 + 0.44 * value_noise(yz * (160, 24), 4) + 0.30 * value_noise(yz * (300, 160), 5)


def window(points_N3: FloatArray) -> FloatArray:
    """Blurred reflections in glass, as a factor [N]."""
    xz = points_N3[:, ::2]
    return 0.45 + 0.80 * value_noise(xz * (14, 5), 6) + 0.15 * value_noise(xz * (40, 12), 7)


PATTERNS: dict[str, Callable[[FloatArray], FloatArray]] = {"table": wood, "carpet": carpet, "glass": window}
