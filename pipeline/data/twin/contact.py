"""Keeps fingers, palm and cube out of one another: a pose is corrected frame by frame, without dynamics."""

from __future__ import annotations

import numpy as np

from pipeline.data.twin.hand import CHAINS, JOINTS_PER_CHAIN
from pipeline.data.twin.model import CUBE, FloatArray, HandModel
from pipeline.data.twin.motion import HABITS

THUMB = len(CHAINS) - 1
HAND_TOLERANCE, CUBE_TOLERANCE = 0.002, 0.002  # metres of overlap that are left as they are
HAND_STEPS, OPENING = 12, 0.12  # corrections at most; the part of the way to the open pose that each goes
CUBE_STEPS = 6  # pushes at most from each start
# Where the cube is pushed from in turn, metres from the wanted place: there, above, toward the index side.
CUBE_STARTS = ((0, 0, 0), (0.02, 0, 0), (0, 0.03, 0), (0.05, 0, 0), (0.03, 0.04, -0.02), (0.08, 0.01, 0))


def settle_hand(hand: HandModel, joints_16: FloatArray, cube_7: FloatArray) -> FloatArray:
    """Joint angles near the wanted ones at which no finger sits deep in another one or in the palm.

    Fingers that do are opened step by step; where thumb and finger meet, the thumb gives way.
    """
    joints = joints_16.copy().reshape(len(CHAINS), JOINTS_PER_CHAIN)
    opened = np.array([habit.opened for habit in HABITS])
    for _ in range(HAND_STEPS):
        hand.pose(joints.ravel(), cube_7)
        clashing = _clashing(hand)
        if not clashing:
            break
        for chain in clashing:
            joints[chain] += OPENING * (opened[chain] - joints[chain])
    return joints.ravel()


def _clashing(hand: HandModel) -> set[int]:
    """The chains that have to give way."""
    found = hand.contacts()
    deep = (found.depth_C > HAND_TOLERANCE) & (found.owner_C2 != CUBE).all(1)
    pairs = ({int(owner) for owner in pair if owner >= 0} for pair in found.owner_C2[deep])
    return {chain for pair in pairs for chain in ({THUMB} if THUMB in pair else pair)}


def settle_cube(hand: HandModel, joints_16: FloatArray, cube_7: FloatArray) -> FloatArray:
    """A cube pose near the wanted one with little overlap: the first start that ends free, else the best."""
    ends = []
    for start in CUBE_STARTS:
        cube = cube_7.copy()
        cube[:3] += start
        overlap = _push(hand, joints_16, cube)
        if overlap <= CUBE_TOLERANCE:
            return cube
        ends.append((overlap, cube))
    return min(ends, key=lambda end: end[0])[1]


def _push(hand: HandModel, joints_16: FloatArray, cube_7: FloatArray) -> float:
    """Moves the cube out of its deepest overlap, again and again; returns what is left, metres."""
    overlap = 0.0
    for _ in range(CUBE_STEPS):
        hand.pose(joints_16, cube_7)
        overlap, push_3 = _deepest(hand)
        if overlap <= CUBE_TOLERANCE:
            break
        cube_7[:3] += push_3
    return overlap


def _deepest(hand: HandModel) -> tuple[float, FloatArray]:
    """The cube's deepest overlap, metres, and the shift [3] that ends it."""
    found = hand.contacts()
    depth = np.where((found.owner_C2 == CUBE).any(1), found.depth_C, 0.0)
    if not depth.any():
        return 0.0, np.zeros(3)
    worst = int(depth.argmax())
    away = 1.0 if found.owner_C2[worst, 1] == CUBE else -1.0
    return float(depth[worst]), away * depth[worst] * found.normal_C3[worst]
