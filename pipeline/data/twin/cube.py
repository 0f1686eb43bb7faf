"""The coloured cube that the hand turns: where it would lie if nothing pushed it."""

from __future__ import annotations

import numpy as np

from pipeline.data.twin.motion import CUBE_PACE, FloatArray, Track, draw_track
from pipeline.data.twin.randomness import Purpose, generator
from pipeline.data.twin.scene import CUBE_SIDE

PALM_TOP = 0.012  # x of the surface that the cube lies on, metres
Y_MEAN, Y_SPREAD, Y_RANGE = -0.018, 0.014, (-0.040, 0.020)
Z_MEAN, Z_SPREAD, Z_RANGE = -0.006, 0.014, (-0.035, 0.022)
LIFT_CHANCE, LIFT_RANGE = 0.3, (0.005, 0.035)  # held up between fingers instead of lying, metres
TURN_CHANCE = 0.5  # of tipping over to the next face between two key poses
YAW_SPREAD, TILT_SPREAD = 0.28, 0.07  # radians
QUARTER = np.pi / 2


def cube_track(seed: int, frames: int) -> Track:
    """Key poses [7] of the cube in a recording: position in metres, unit quaternion w x y z."""
    flat = [np.array([1.0, 0.0, 0.0, 0.0])]  # the face-up orientation, which turns build on
    last = [flat[0]]

    def draw(rng: np.random.Generator) -> FloatArray:
        flat[0] = _tipped(rng, flat[0])
        last[0] = _nearest(_jittered(rng, flat[0]), last[0])
        return np.concatenate([_place(rng), last[0]])

    return draw_track(generator(seed, Purpose.CUBE), frames, CUBE_PACE, draw)


def cube_at(track: Track, position: int) -> FloatArray:
    """The cube's pose [7] at a frame; its orientation is interpolated and normalised."""
    pose = track.at(position)
    pose[3:] /= np.linalg.norm(pose[3:])
    return pose


def _place(rng: np.random.Generator) -> FloatArray:
    lift = float(rng.uniform(*LIFT_RANGE)) if rng.random() < LIFT_CHANCE else 0.0
    y = np.clip(rng.normal(Y_MEAN, Y_SPREAD), *Y_RANGE)
    z = np.clip(rng.normal(Z_MEAN, Z_SPREAD), *Z_RANGE)
    return np.array([PALM_TOP + CUBE_SIDE / 2 + lift, y, z])


def _tipped(rng: np.random.Generator, flat_4: FloatArray) -> FloatArray:
    """The next face-up orientation: the same, or a quarter turn about a horizontal axis or the vertical."""
    if rng.random() >= TURN_CHANCE:
        return flat_4
    axis = np.eye(3)[rng.integers(3)]
    return multiply(rotation(axis, QUARTER * rng.choice((-1, 1))), flat_4)


def _jittered(rng: np.random.Generator, flat_4: FloatArray) -> FloatArray:
    """An orientation as a hand leaves it: turned about the vertical and tilted a little."""
    yaw = rotation(np.array([1.0, 0.0, 0.0]), rng.normal(0, YAW_SPREAD))
    tilt = rotation(np.array([0.0, 1.0, 0.0]), rng.normal(0, TILT_SPREAD))
    return multiply(yaw, multiply(tilt, flat_4))


def _nearest(quaternion_4: FloatArray, reference_4: FloatArray) -> FloatArray:
    """The one of the two equal quaternions q and -q that lies nearer the reference."""
    return quaternion_4 if quaternion_4 @ reference_4 >= 0 else -quaternion_4


def rotation(axis_3: FloatArray, angle: float) -> FloatArray:
    """The unit quaternion w x y z of a rotation about a unit axis, radians."""
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * axis_3])


def multiply(left_4: FloatArray, right_4: FloatArray) -> FloatArray:
    """The quaternion of `right` followed by `left`."""
    (a, u), (b, v) = (left_4[0], left_4[1:]), (right_4[0], right_4[1:])
    return np.concatenate([[a * b - u @ v], a * v + b * u + np.cross(u, v)])
