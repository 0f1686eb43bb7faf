"""Small helpers for writing MJCF text."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

Vector = tuple[float, float, float]


class Group(IntEnum):
    """The MuJoCo geom groups, by which rays choose what they may meet."""

    STATIC = 0
    MOVING = 1  # links and cube
    DETAIL = 2  # moving, but smaller than a pixel in small images
    VIEW_0 = (
        3  # static things that one view shows and whose true place is unknown, so that no other shows them
    )
    VIEW_1 = 4
    VIEW_2 = 5


def numbers(values: Sequence[float]) -> str:
    """Numbers as an MJCF attribute."""
    return " ".join(f"{value:.8g}" for value in values)


def geom(
    material: str,
    shape: str,
    size: Sequence[float],
    group: Group,
    at: Vector = (0.0, 0.0, 0.0),
    extra: str = "",
    solid: bool = True,
) -> str:
    """One geom element; `solid=False` keeps it out of collisions (it is only seen)."""
    # A contype that no conaffinity answers: with contype 0, MuJoCo would leave the geom out of its body's
    # bounding volume, by which mj_multiRay discards bodies.
    collides = "" if solid else 'contype="2" conaffinity="0"'
    place = "" if "fromto" in extra else f'pos="{numbers(at)}"'
    return (
        f'<geom material="{material}" type="{shape}" size="{numbers(size)}" {place} group="{group.value}" '
        f"{collides} {extra}/>"
    )
