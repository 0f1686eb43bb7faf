"""The Allegro right hand: its kinematic table and the MJCF text of its moving links.

The chains are the published URDF's. Radii and boxes of the geoms are our own approximation of the look;
labels depend on the chains only.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data.twin.mjcf import Group, Vector, geom, numbers

JOINTS_PER_CHAIN = 4


@dataclass(frozen=True)
class Chain:
    """One finger: where it starts and its four hinges; metres and radians.

    offsets[k] leads from joint k to joint k + 1 in joint k's frame, the last one to the fingertip frame.
    rpy is the URDF's: rotations about the fixed x, y, z axes, in that order.
    """

    name: str
    base_xyz: Vector
    base_rpy: Vector
    offsets: tuple[Vector, Vector, Vector, Vector]
    axes: tuple[Vector, Vector, Vector, Vector]
    limits: tuple[tuple[float, float], ...]


FINGER_OFFSETS = ((0.0, 0.0, 0.0164), (0.0, 0.0, 0.054), (0.0, 0.0, 0.0384), (0.0, 0.0, 0.0267))
FINGER_AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
FINGER_LIMITS = ((-0.47, 0.47), (-0.196, 1.61), (-0.174, 1.709), (-0.227, 1.618))
THUMB_OFFSETS = ((-0.027, 0.005, 0.0399), (0.0, 0.0, 0.0177), (0.0, 0.0, 0.0514), (0.0, 0.0, 0.0423))
THUMB_AXES = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
THUMB_LIMITS = ((0.263, 1.396), (-0.105, 2.0), (-0.189, 1.644), (-0.162, 1.719))

# The order of the 12 label numbers and of the 16 joints.
CHAINS = (
    Chain("index", (0.0, 0.0435, -0.001542), (-0.0873, 0.0, 0.0), FINGER_OFFSETS, FINGER_AXES, FINGER_LIMITS),
    Chain("middle", (0.0, 0.0, 0.0007), (0.0, 0.0, 0.0), FINGER_OFFSETS, FINGER_AXES, FINGER_LIMITS),
    Chain("ring", (0.0, -0.0435, -0.001542), (0.0873, 0.0, 0.0), FINGER_OFFSETS, FINGER_AXES, FINGER_LIMITS),
    Chain(
        "thumb",
        (-0.0182, 0.019333, -0.045987),
        (0.0, -1.65806, -1.5708),
        THUMB_OFFSETS,
        THUMB_AXES,
        THUMB_LIMITS,
    ),
)
TIP_SITES = tuple(f"{chain.name}_tip" for chain in CHAINS)

# Half sizes of the links' boxes: thickness (x) and width (y); the length follows from the joint distances.
HALF_X, HALF_Y = 0.0112, 0.0132
JOINT_GAP = 0.0020  # between a link's box and the joint's axle
TIP_RADIUS = 0.0148  # the rubber cap, slightly wider than the 12 mm of the bare fingertip
TIP_LENGTH = 0.0205  # of the cap's cylindrical part


def hand_mjcf() -> str:
    """The MJCF bodies of the four chains, to be placed in a worldbody whose frame is the hand's base frame.

    Needs `eulerseq="XYZ"` (fixed axes, as in URDF) and radians in the compiler element.
    """
    return "".join(_chain_mjcf(chain) for chain in CHAINS)


def _chain_mjcf(chain: Chain) -> str:
    inner = f'<site name="{chain.name}_tip" pos="{numbers(chain.offsets[-1])}"/>'
    for joint in reversed(range(JOINTS_PER_CHAIN)):
        place = (
            f'pos="{numbers(chain.base_xyz)}" euler="{numbers(chain.base_rpy)}"'
            if joint == 0
            else f'pos="{numbers(chain.offsets[joint - 1])}"'
        )
        hinge = f'<joint axis="{numbers(chain.axes[joint])}" range="{numbers(chain.limits[joint])}"/>'
        inner = f'<body name="{chain.name}_{joint}" {place}>{hinge}{_link_geoms(chain, joint)}{inner}</body>'
    return inner


def _link_geoms(chain: Chain, joint: int) -> str:
    """What is seen of the link that moves with a joint."""
    length = chain.offsets[joint][2]
    if joint == JOINTS_PER_CHAIN - 1:
        return _tip_geoms(length)
    if chain.name == "thumb" and joint == 0:
        return _thumb_root_geoms()
    if joint <= (1 if chain.name == "thumb" else 0):
        return _box("black", (HALF_X, HALF_Y, length / 2 - 0.0005), (0, 0, length / 2))
    return _segment_geoms(length)


def _segment_geoms(length: float) -> str:
    """A long link: axle, body, motor cover on the back, a brighter seam near its end."""
    middle = length / 2
    return (
        _axle(0.0105)
        + _box("black", (HALF_X, HALF_Y, middle - 2 * JOINT_GAP), (0, 0, middle + JOINT_GAP))
        + _trim("cover", (0.0040, 0.0105, middle - 0.009), (-HALF_X - 0.003, 0, middle))
        + _trim("edge", (0.0020, HALF_Y + 0.0006, 0.0012), (HALF_X - 0.001, 0, length - 0.0085))
    )


def _tip_geoms(length: float) -> str:
    """The last link: axle, short black socket, white rubber cap round the fingertip frame."""
    start = length - TIP_LENGTH
    ends = f'fromto="0 0 {start:.6g} 0 0 {length:.6g}"'
    socket = (start + JOINT_GAP) / 2
    return (
        _axle(0.0115)
        + _box("black", (HALF_X, HALF_Y - 0.001, socket), (0, 0, start - socket))
        + geom("rubber", "cylinder", (TIP_RADIUS,), Group.MOVING, extra=ends)
        + geom("rubber", "sphere", (TIP_RADIUS,), Group.MOVING, (0, 0, length))
    )


def _thumb_root_geoms() -> str:
    """The thumb's first link, which turns about the palm's long side."""
    return _box("black", (0.0130, 0.0130, 0.0215), (-0.0245, 0.005, 0.0170)) + _trim(
        "cover", (0.0100, 0.0150, 0.0100), (-0.0150, 0.003, 0.0080)
    )


def _axle(half_length: float) -> str:
    return geom("cover", "cylinder", (0.0095, half_length), Group.DETAIL, extra='zaxis="0 1 0"', solid=False)


def _box(material: str, half: Vector, at: Vector) -> str:
    return geom(material, "box", half, Group.MOVING, at)


def _trim(material: str, half: Vector, at: Vector) -> str:
    """A box that does not collide and that small images leave out."""
    return geom(material, "box", half, Group.DETAIL, at, solid=False)
