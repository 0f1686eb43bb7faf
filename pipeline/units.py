"""Metres and millimetres: labels, files and the metric are in metres, networks and losses in millimetres."""

from __future__ import annotations

from typing import TypeVar

MM_PER_M = 1000.0

Number = TypeVar("Number")  # a float, a numpy array or a torch tensor


def to_mm(metres: Number) -> Number:
    """Metres as millimetres."""
    return metres * MM_PER_M  # type: ignore[operator, no-any-return]


def to_metres(millimetres: Number) -> Number:
    """Millimetres as metres."""
    return millimetres / MM_PER_M  # type: ignore[operator, no-any-return]
