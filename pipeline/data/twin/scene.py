"""What stands still, what everything is made of, and where the three cameras are.

Places and colours were fitted, by eye and by back-projection, to what published frames of the recordings
show: a black hand, palm up, over a light wooden table; a wall with a window behind it in view 1, carpet in
view 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pipeline.data.twin.camera import Placement
from pipeline.data.twin.hand import hand_mjcf
from pipeline.data.twin.mjcf import Group, Vector, geom, numbers

CUBE_BODY = "cube"
CUBE_SIDE = 0.055  # metres
TABLE_TOP = -0.105  # x of the table's surface
FLOOR = -1.55
WALL_Y, WALL_Z, WALL_SLOPE = -0.640, -0.08, 0.194  # the wall passes through (y, z); radians against z


@dataclass(frozen=True)
class Material:
    """Diffuse colour under full light (sRGB, 0..255) and a highlight's strength and sharpness."""

    srgb: Vector
    highlight: float = 0.0
    sharpness: float = 10.0


MATERIALS = {
    "black": Material((18, 25, 32), 0.06, 6.0),
    "cover": Material((26, 33, 40), 0.09, 9.0),
    "plate": Material((16, 25, 33), 0.05, 4.0),
    "edge": Material((44, 50, 56), 0.10, 20.0),
    "rubber": Material((214, 237, 248), 0.06, 12.0),
    "silver": Material((186, 192, 198), 0.40, 40.0),
    "arm": Material((20, 28, 34), 0.30, 30.0),
    "table": Material((190, 172, 155), 0.02, 8.0),
    "carpet": Material((108, 127, 137)),
    "wall": Material((170, 186, 206)),
    "frame": Material((170, 184, 196), 0.10, 20.0),
    "glass": Material((176, 198, 204), 0.10, 30.0),
    "post": Material((34, 38, 40), 0.15, 20.0),
    "metal": Material((160, 190, 210), 0.20, 20.0),
    "cable": Material((36, 40, 46), 0.10, 20.0),
    "orange_cable": Material((236, 96, 26), 0.10, 20.0),
    "face_0": Material((44, 58, 146), 0.06, 14.0),  # +x, -x, +y, -y, +z, -z of the cube
    "face_1": Material((236, 66, 30), 0.06, 14.0),
    "face_2": Material((30, 176, 86), 0.06, 14.0),
    "face_3": Material((226, 52, 98), 0.06, 14.0),
    "face_4": Material((244, 164, 44), 0.06, 14.0),
    "face_5": Material((8, 138, 222), 0.06, 14.0),
}
# Materials that look alike from afar: a border between two of them needs no smoothing.
ALIKE = ("black", "cover", "plate", "edge", "arm", "post", "cable")
CUBE_FACES = tuple(name for name in MATERIALS if name.startswith("face_"))

PLACEMENTS = (
    Placement(
        (0.640, -0.044, -0.031),
        (0.021, 0.001, 0.013),
        (0, 0, -1),
        3.0,
        490,
        (0.45, 0.57, 0.70),
        Group.VIEW_0,
    ),
    Placement(
        (0.560, 0.400, 0.050),
        (0.023, -0.050, -0.002),
        (1, 0, 0),
        4.5,
        490,
        (0.95, 0.98, 1.00),
        Group.VIEW_1,
    ),
    Placement(
        (0.537, -0.359, 0.259),
        (0.022, 0.003, 0.023),
        (1, 0, 0),
        17.0,
        490,
        (0.88, 0.98, 1.12),
        Group.VIEW_2,
    ),
)


def world_mjcf() -> str:
    """The whole model: static world, hand and cube."""
    materials = "".join(f'<material name="{name}"/>' for name in MATERIALS)
    static = _room() + _seen_by_view_0() + _seen_by_view_1() + _seen_by_view_2() + _arm() + [_palm()]
    return (
        '<mujoco><compiler angle="radian" eulerseq="XYZ" autolimits="true"/>'
        f"<asset>{materials}</asset>"
        f"<worldbody>{''.join(static)}{hand_mjcf()}{_cube()}</worldbody></mujoco>"
    )


def _box(
    material: str,
    half: Vector,
    at: Vector,
    solid: bool = False,
    turn: float = 0.0,
    group: Group = Group.STATIC,
) -> str:
    """A box turned by `turn` radians about the vertical."""
    return geom(material, "box", half, group, at, f'euler="{numbers((turn, 0, 0))}"', solid)


def _rod(
    material: str,
    radius: float,
    start: Vector,
    end: Vector,
    shape: str = "capsule",
    group: Group = Group.STATIC,
) -> str:
    return geom(material, shape, (radius,), group, extra=f'fromto="{numbers((*start, *end))}"', solid=False)


def _stand(radius: float, foot: float, yz: tuple[float, float], height: float, group: Group) -> list[str]:
    """A round post on the table with a flat foot."""
    y, z = yz
    return [
        _rod("post", radius, (TABLE_TOP, y, z), (height, y, z), "cylinder", group),
        _rod("post", foot, (TABLE_TOP, y, z), (TABLE_TOP + 0.012, y, z), "cylinder", group),
    ]


def _path(material: str, radius: float, points: list[Vector], group: Group = Group.STATIC) -> list[str]:
    """A cable through the points."""
    return [_rod(material, radius, start, end, group=group) for start, end in pairwise(points)]


def _room() -> list[str]:
    """The table, the floor, and the wall with its window."""
    return [
        geom("carpet", "plane", (4, 4, 0.1), Group.STATIC, (FLOOR, 0, 0), 'zaxis="1 0 0"', solid=False),
        _box("table", (0.012, 0.240, 0.60), (TABLE_TOP - 0.012, -0.045, 0.42)),
        _on_wall("wall", (1.5, 0.01, 3.0), -1.923, 0.0),
        _on_wall("glass", (1.0, 0.01, 3.0), 0.620, 0.0, -0.02),
        _on_wall("frame", (0.006, 0.022, 3.0), -0.418, 0.0),
        _on_wall("frame", (0.002, 0.010, 3.0), -0.392, 0.0),
        _on_wall("post", (0.20, 0.011, 0.001), -0.63, 0.055),
        _on_wall("frame", (0.024, 0.010, 0.013), -0.378, 0.060),
        _on_wall("frame", (0.024, 0.010, 0.013), -0.378, 0.150),
    ]


def _on_wall(material: str, half: Vector, x: float, z: float, forward: float = 0.0) -> str:
    """A box on the wall behind the table, which is not quite parallel to it."""
    return _box(material, half, (x, WALL_Y - WALL_SLOPE * (z - WALL_Z) + forward, z), turn=WALL_SLOPE)


def _seen_by_view_0() -> list[str]:
    group = Group.VIEW_0
    return _stand(0.020, 0.024, (-0.106, 0.182), TABLE_TOP + 0.02, group) + _stand(
        0.020, 0.024, (0.190, 0.202), TABLE_TOP + 0.02, group
    )


def _seen_by_view_1() -> list[str]:
    group = Group.VIEW_1
    return [
        *_stand(0.0065, 0.012, (-0.283, -0.007), 0.75, group),
        *_path("cable", 0.0025, [(0.1, -0.29, 0.0), (-0.02, -0.29, 0.006), (-0.08, -0.30, 0.002)], group),
        *_path("cable", 0.003, [(-0.392, -0.66, 0.16), (-0.43, -0.66, 0.19), (-0.44, -0.68, 0.30)], group),
        *_path("cable", 0.003, [(-0.03, 0.03, -0.06), (-0.04, 0.04, -0.07), (-0.05, 0.02, -0.086)], group),
        *_path("orange_cable", 0.003, [(-0.05, 0.02, -0.086), (-0.08, 0.056, -0.101)], group),
        *_path("cable", 0.003, [(-0.08, 0.056, -0.101), (-0.09, 0.075, -0.12)], group),
        *_path("orange_cable", 0.003, [(-0.09, 0.075, -0.12), (-0.10, 0.12, -0.15)], group),
        _box("cable", (0.014, 0.035, 0.016), (TABLE_TOP + 0.014, 0.050, -0.165), group=group),
    ]


def _seen_by_view_2() -> list[str]:
    group = Group.VIEW_2
    return [
        *_stand(0.0075, 0.014, (0.157, -0.010), 0.60, group),
        *_path("cable", 0.003, [(0.10, 0.20, 0.020), (-0.06, 0.19, 0.028), (-0.16, 0.20, 0.032)], group),
        *_path("orange_cable", 0.003, [(-0.04, -0.066, -0.106), (-0.06, -0.10, -0.115)], group),
        *_path("cable", 0.003, [(-0.06, -0.10, -0.115), (-0.07, -0.12, -0.12)], group),
        *_path("orange_cable", 0.003, [(-0.07, -0.12, -0.12), (-0.09, -0.16, -0.13)], group),
        _box("metal", (0.30, 0.16, 0.16), (FLOOR + 0.45, 1.85, -0.12), turn=0.25, group=group),
        _box("frame", (0.025, 0.20, 0.035), (FLOOR + 0.05, 1.62, -0.14), turn=0.30, group=group),
        _rod("post", 0.030, (FLOOR + 0.02, 1.42, -0.14), (FLOOR + 0.05, 1.42, -0.14), group=group),
    ]


def _arm() -> list[str]:
    """Wrist and forearm, which enter from -z, with the silver ring between them."""
    x = -0.012
    return [
        _rod("arm", 0.030, (x, 0, -0.085), (x, 0, -0.150), "cylinder"),
        _rod("arm", 0.035, (x, 0, -0.104), (x, 0, -0.148), "cylinder"),
        _rod("silver", 0.0365, (x, 0, -0.1465), (x, 0, -0.1500), "cylinder"),
        _rod("arm", 0.037, (x, 0, -0.1500), (x, 0, -0.42), "cylinder"),
    ]


def _palm() -> str:
    """The palm, which is fixed to the world and which fingers and cube collide with."""
    return (
        _box("black", (0.0160, 0.0565, 0.0290), (-0.0070, 0, -0.0300), solid=True)
        + _box("plate", (0.0020, 0.0545, 0.0270), (0.0100, 0, -0.0300))
        + _box("black", (0.0160, 0.0300, 0.0240), (-0.0070, -0.005, -0.0780), solid=True)
        + _box("plate", (0.0020, 0.0280, 0.0220), (0.0090, -0.005, -0.0760))
        + _rod("black", 0.0270, (-0.023, -0.0295, -0.0590), (0.0095, -0.0295, -0.0590), "cylinder")
        + _box("cover", (0.0100, 0.0180, 0.0260), (-0.0240, 0.030, -0.0400))
        + _box("cover", (0.0080, 0.0420, 0.0150), (-0.0260, 0, -0.0180))
        + _box("cover", (0.0060, 0.0100, 0.0300), (0.0060, 0.0100, -0.0700))
        + "".join(
            _rod("cover", 0.0100, (-0.012, y, -0.002), (0.004, y, -0.002)) for y in (0.0435, 0, -0.0435)
        )
    )


def _cube() -> str:
    half = CUBE_SIDE / 2
    box = geom(CUBE_FACES[0], "box", (half, half, half), Group.MOVING)
    return f'<body name="{CUBE_BODY}"><freejoint/>{box}</body>'
