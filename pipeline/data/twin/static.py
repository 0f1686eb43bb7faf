"""What a camera sees of the things that never move: cast once, lit and shaded beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.camera import Camera
from pipeline.data.twin.light import ALBEDO, LOOK, Array32, ShadowMap, Surface, Texels, dot, shade
from pipeline.data.twin.mjcf import Group
from pipeline.data.twin.model import HandModel, group_mask
from pipeline.data.twin.scene import MATERIALS
from pipeline.data.twin.texture import PATTERNS

ROOM_REACH = 20.0  # metres
SAMPLES_PER_AXIS = 2  # rays per pixel and axis for smooth edges


@dataclass(frozen=True)
class StaticLayer:
    """P = size * size pixels: light without shadows, depth (metres), cosine of the viewing angle.

    look_P numbers what looks different. shaded_S are the pixels that the shadow map covers, texels where they
    fall on it.
    """

    ambient_P3: Array32
    key_P3: Array32
    depth_P: NDArray[np.float64]
    cosine_P: Array32
    look_P: NDArray[np.intp]
    shaded_S: NDArray[np.intp]
    texels: Texels

    def lit(self, shadows: ShadowMap, ambient: float, key: float) -> Array32:
        """Linear light [P, 3] with the moving geoms' shadows."""
        reached = np.full(len(self.depth_P), np.float32(key))
        near = np.flatnonzero(shadows.occluded_texels()[self.texels.first])
        some = Texels(*(values[near] for values in vars(self.texels).values()))
        reached[self.shaded_S[near]] *= shadows.reached(some)
        lit: Array32 = np.float32(ambient) * self.ambient_P3 + reached[:, None] * self.key_P3
        return lit


def cast_static(hand: HandModel, camera: Camera, shadows: ShadowMap) -> StaticLayer:
    """The static layer of one camera. The room is closed behind whatever a camera sees of it."""
    steps = (np.arange(SAMPLES_PER_AXIS) + 0.5) / SAMPLES_PER_AXIS - 0.5
    lights = [_colours(hand, camera, camera.directions(dx, dy)) for dx, dy in product(steps, steps)]
    ambient = np.mean([light[0] for light in lights], axis=0)
    key = np.mean([light[1] for light in lights], axis=0)
    centre = hand.cast(
        camera.position_3, camera.directions_P3, group_mask(Group.STATIC, camera.scenery), ROOM_REACH
    )
    texels = shadows.texels(camera.position_3 + centre.distance[:, None] * camera.directions_P3)
    covered = np.flatnonzero(texels.depth > 0)
    return StaticLayer(
        ambient,
        key,
        centre.distance,
        np.abs(dot(centre.normal.astype(np.float32), camera.backward_P3)),
        LOOK[hand.materials_G[centre.geom]],
        covered,
        Texels(*(values[covered] for values in vars(texels).values())),
    )


def _colours(hand: HandModel, camera: Camera, directions_P3: NDArray[np.float64]) -> tuple[Array32, Array32]:
    hits = hand.cast(camera.position_3, directions_P3, group_mask(Group.STATIC, camera.scenery), ROOM_REACH)
    material = hand.materials_G[hits.geom].astype(np.intp)
    points = camera.position_3 + hits.distance[:, None] * directions_P3
    surface = Surface(
        _patterned(material, points),
        material,
        hits.normal.astype(np.float32),
        camera.backward_P3,
    )
    return shade(surface)


def _patterned(material_N: NDArray[np.intp], points_N3: NDArray[np.float64]) -> Array32:
    albedo = ALBEDO[material_N]
    for name, pattern in PATTERNS.items():
        there = np.flatnonzero(material_N == list(MATERIALS).index(name))
        albedo[there] *= pattern(points_N3[there])[:, None].astype(np.float32)
    return albedo
