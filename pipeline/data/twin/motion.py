"""How hand and cube move through a recording, before contact is taken into account.

A track is a chain of key poses: it moves to the next one along a smooth step, rests there, moves on.
Durations and joint habits are tuned so that label ranges, their spread and the label gap between neighbouring
frames come near those of the recorded data set; tests hold them there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.hand import CHAINS, JOINTS_PER_CHAIN
from pipeline.data.twin.randomness import Purpose, generator

FloatArray = NDArray[np.float64]
Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class Habit:
    """How a chain is used: a curl ~ Beta(*curl) mixes open and closed joints, then each joint varies."""

    opened: Four
    closed: Four
    curl: tuple[float, float]
    spread: Four  # standard deviation of each joint, radians


# Joint 0 of a finger is abduction, which the recording hardly uses; joint 1 of the thumb goes up to 2 rad.
HABITS = (
    Habit((-0.021, 0.11, 0.19, 0.04), (-0.024, 0.86, 0.97, 0.30), (0.47, 2.11), (0.016, 0.03, 0.06, 0.12)),
    Habit((-0.071, -0.05, 0.37, -0.23), (0.036, 0.93, 0.60, 0.65), (1.54, 1.65), (0.028, 0.14, 0.01, 0.51)),
    Habit(
        (0.067, 0.022, 0.267, 0.896), (0.029, 1.358, 1.567, 1.215), (0.43, 0.62), (0.068, 0.102, 0.156, 0.4)
    ),
    Habit((0.293, 0.54, 0.77, 0.19), (0.27, 1.32, 1.53, 1.69), (2.05, 0.99), (0.297, 0.23, 0.04, 0.01)),
)


@dataclass(frozen=True)
class Pace:
    """Frames from one key pose to the next and, of these, frames spent moving; each uniform in its range."""

    every: tuple[float, float]
    moving: tuple[float, float]


HAND_PACE = Pace(every=(6.5, 11.0), moving=(1.0, 3.0))
CUBE_PACE = Pace(every=(8.0, 22.0), moving=(3.0, 6.0))


@dataclass(frozen=True)
class Track:
    """Key poses in time: when the move away from each begins and how long it takes, frames."""

    starts_K: FloatArray
    moves_K: FloatArray
    values_KD: FloatArray

    def at(self, position: int) -> FloatArray:
        """The pose [D] at a frame of the recording."""
        before, after, share = self.between(position)
        return before + (after - before) * share

    def between(self, position: int) -> tuple[FloatArray, FloatArray, float]:
        """The key poses around a frame and how far the move between them has come, 0..1."""
        key = int(np.searchsorted(self.starts_K, position, side="right")) - 1
        progress = min((position - self.starts_K[key]) / self.moves_K[key], 1.0)
        return self.values_KD[key], self.values_KD[key + 1], float(smooth_step(progress))


def smooth_step(progress: float) -> float:
    """0 to 1 with zero speed at both ends: 3 p^2 - 2 p^3."""
    return progress * progress * (3.0 - 2.0 * progress)


def draw_track(
    rng: np.random.Generator, frames: int, pace: Pace, draw_pose: Callable[[np.random.Generator], FloatArray]
) -> Track:
    """A track over `frames` frames; a longer one drawn from the same state begins with the same poses."""
    starts, moves, values = [], [], [draw_pose(rng)]
    start = -float(rng.uniform(*pace.every))
    while start < frames:
        starts.append(start)
        moves.append(float(rng.uniform(*pace.moving)))
        values.append(draw_pose(rng))
        start += float(rng.uniform(*pace.every))
    return Track(np.array(starts), np.array(moves), np.stack(values))


def hand_tracks(seed: int, frames: int) -> list[Track]:
    """The four chains' joint tracks, radians, of a recording."""
    return [
        draw_track(generator(seed, Purpose.JOINTS, chain), frames, HAND_PACE, _pose_drawer(chain))
        for chain in range(len(CHAINS))
    ]


def joints_at(tracks: list[Track], position: int) -> FloatArray:
    """The 16 joint angles at a frame, radians, inside the limits."""
    joints: FloatArray = np.concatenate([track.at(position) for track in tracks])
    return joints


def _pose_drawer(chain: int) -> Callable[[np.random.Generator], FloatArray]:
    habit, limits = HABITS[chain], np.array(CHAINS[chain].limits)
    opened, closed, spread = np.array(habit.opened), np.array(habit.closed), np.array(habit.spread)

    def draw(rng: np.random.Generator) -> FloatArray:
        curl = rng.beta(*habit.curl)
        joints = opened + curl * (closed - opened) + spread * rng.standard_normal(JOINTS_PER_CHAIN)
        clipped: FloatArray = np.clip(joints, limits[:, 0], limits[:, 1])
        return clipped

    return draw
