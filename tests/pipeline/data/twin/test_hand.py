import numpy as np

from pipeline.data.twin.hand import CHAINS
from pipeline.data.twin.model import JOINTS, HandModel

NO_CUBE = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
# base xyz, base rpy, offsets (j1, j2, j3, tip), axes: the URDF's table, written out again on purpose.
FINGER = (
    [(0, 0, 0.0164), (0, 0, 0.054), (0, 0, 0.0384), (0, 0, 0.0267)],
    [(0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 1, 0)],
)
TABLE = [
    ((0, 0.0435, -0.001542), (-0.0873, 0, 0), *FINGER),
    ((0, 0, 0.0007), (0, 0, 0), *FINGER),
    ((0, -0.0435, -0.001542), (0.0873, 0, 0), *FINGER),
    (
        (-0.0182, 0.019333, -0.045987),
        (0, -1.65806, -1.5708),
        [(-0.027, 0.005, 0.0399), (0, 0, 0.0177), (0, 0, 0.0514), (0, 0, 0.0423)],
        [(-1, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 0)],
    ),
]


def turn(axis, angle):
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def forward_kinematics(joints_16):
    tips = []
    for (base, (roll, pitch, yaw), offsets, axes), joints in zip(TABLE, joints_16.reshape(4, 4), strict=True):
        frame = turn((0, 0, 1), yaw) @ turn((0, 1, 0), pitch) @ turn((1, 0, 0), roll)
        point = np.array(base, float)
        for offset, axis, joint in zip(offsets, axes, joints, strict=True):
            frame = frame @ turn(axis, joint)
            point = point + frame @ np.array(offset, float)
        tips.append(point)
    return np.concatenate(tips)


def test_fingertips_equal_an_independent_forward_kinematics():
    hand = HandModel()
    limits = np.array([chain.limits for chain in CHAINS]).reshape(JOINTS, 2)
    rng = np.random.default_rng(3)
    for _ in range(50):
        joints = rng.uniform(limits[:, 0], limits[:, 1])
        hand.pose(joints, NO_CUBE)
        np.testing.assert_allclose(hand.fingertips(), forward_kinematics(joints), atol=1e-12)


def test_the_thumb_reaches_two_radians_and_labels_are_float64():
    assert CHAINS[3].limits[1] == (-0.105, 2.0)
    hand = HandModel()
    hand.pose(np.zeros(JOINTS), NO_CUBE)
    assert hand.fingertips().dtype == np.float64
    np.testing.assert_allclose(hand.fingertips()[3:6], [0, 0, 0.0007 + 0.0164 + 0.054 + 0.0384 + 0.0267])
