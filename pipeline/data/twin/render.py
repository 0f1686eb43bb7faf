"""The three views of a pose: moving geoms ray-cast into the static layers.

Legend: P = size * size pixels of one view, M = pixels that show a moving geom, E = pixels at its edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.camera import Camera
from pipeline.data.twin.light import ALBEDO, LOOK, Array32, ShadowMap, Surface, dot, joined, shade
from pipeline.data.twin.model import HandModel
from pipeline.data.twin.scene import PLACEMENTS
from pipeline.data.twin.static import StaticLayer, cast_static

REACH = 1.5  # metres; the hand is nearer than this to every camera
EDGE_OFFSETS = ((0.33, 0.17), (-0.33, -0.17))  # more rays through an edge pixel, in pixels from its centre
HIT_TOLERANCE = 1e-3  # metres by which an extra ray may lie behind the static surface of the pixel's centre


@dataclass(frozen=True)
class View:
    """One rendered view: linear light [P, 3], depth in metres [P], cosine of the viewing angle [P]."""

    light_P3: Array32
    depth_P: NDArray[np.float64]
    cosine_P: Array32


@dataclass(frozen=True)
class Visible:
    """Points of moving geoms that a camera sees: the rays that met them, distances, places, surfaces."""

    rays_N: NDArray[np.intp]
    distance_N: NDArray[np.float64]
    point_N3: NDArray[np.float64]
    surface: Surface


class Renderer:
    """Renders the current pose of a hand model at one image size."""

    def __init__(self, hand: HandModel, size: int):
        self.hand = hand
        self.cameras = [Camera(placement, size) for placement in PLACEMENTS]
        self.shadows = ShadowMap(size)
        self.static = [cast_static(hand, camera, self.shadows) for camera in self.cameras]

    def render(self, ambient: float = 1.0, key: float = 1.0) -> list[View]:
        """The three views under ambient and key light of the given relative strengths."""
        corners = self.hand.moving_corners()
        self.shadows.update(self.hand, corners)
        return [
            self._view(camera, static, corners, ambient, key)
            for camera, static in zip(self.cameras, self.static, strict=True)
        ]

    def _view(
        self, camera: Camera, static: StaticLayer, corners: NDArray[np.float64], ambient: float, key: float
    ) -> View:
        pixels = camera.pixels_of(corners)
        seen = self._cast(camera, static, camera.directions_P3[pixels], pixels)
        shown = pixels[seen.rays_N]
        edges = edge_pixels(static.look_P, shown, LOOK[seen.surface.material_N])
        extra = self._cast(camera, static, _edge_rays(camera, edges), np.tile(edges, len(EDGE_OFFSETS)))
        light = static.lit(self.shadows, ambient, key)
        around = np.tile(light[edges], (len(EDGE_OFFSETS), 1))
        light[shown], around[extra.rays_N] = self._lit(seen, extra, ambient, key)
        light[edges] += around.reshape(len(EDGE_OFFSETS), -1, 3).sum(0)
        light[edges] /= np.float32(1 + len(EDGE_OFFSETS))
        depth, cosine = static.depth_P.copy(), static.cosine_P.copy()
        depth[shown] = seen.distance_N
        cosine[shown] = np.abs(dot(seen.surface.normal_N3, seen.surface.view_N3))
        return View(light, depth, cosine)

    def _cast(
        self, camera: Camera, static: StaticLayer, ray_N3: NDArray[np.float64], pixel_N: NDArray[np.intp]
    ) -> Visible:
        """Casts rays through pixels at the moving geoms; what lies behind the static layer is not visible."""
        hits = self.hand.cast(camera.position_3, ray_N3, self.hand.moving, REACH)
        rays = np.flatnonzero((hits.geom >= 0) & (hits.distance < static.depth_P[pixel_N] + HIT_TOLERANCE))
        distance, normal = hits.distance[rays], hits.normal[rays]
        material = self.hand.materials(hits.geom[rays], normal)
        surface = Surface(
            ALBEDO[material], material, normal.astype(np.float32), camera.backward_P3[pixel_N[rays]]
        )
        return Visible(rays, distance, camera.position_3 + distance[:, None] * ray_N3[rays], surface)

    def _lit(self, seen: Visible, extra: Visible, ambient: float, key: float) -> tuple[Array32, Array32]:
        """Linear light [N, 3] of the points in both, with shadows."""
        from_around, from_key = shade(joined(seen.surface, extra.surface))
        points = np.concatenate([seen.point_N3, extra.point_N3])
        reached = np.float32(key) * self.shadows.reached(self.shadows.texels(points))
        light = np.float32(ambient) * from_around + reached[:, None] * from_key
        return light[: len(seen.rays_N)], light[len(seen.rays_N) :]


def edge_pixels(
    behind_P: NDArray[np.intp], shown_M: NDArray[np.intp], look_M: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Flat indices of pixels beside one that looks different, with a moving geom on at least one side.

    behind_P is the look of the static layer; look_M that of the moving geoms at the pixels shown_M.
    """
    size = math.isqrt(len(behind_P))
    look = behind_P.reshape(size, size).copy()
    moving = np.zeros((size, size), bool)
    look.flat[shown_M], moving.flat[shown_M] = look_M, True
    edge = np.zeros((size, size), bool)
    beside = (look[:, 1:] != look[:, :-1]) & (moving[:, 1:] | moving[:, :-1])
    edge[:, 1:] |= beside
    edge[:, :-1] |= beside
    below = (look[1:] != look[:-1]) & (moving[1:] | moving[:-1])
    edge[1:] |= below
    edge[:-1] |= below
    return np.flatnonzero(edge)


def _edge_rays(camera: Camera, edges_E: NDArray[np.intp]) -> NDArray[np.float64]:
    """Directions of the extra rays, all edge pixels with the first offset, then with the next."""
    right, up, _ = camera.rotation_33
    centre = camera.directions_P3[edges_E]
    return np.concatenate([centre + (dx * right - dy * up) / camera.focal for dx, dy in EDGE_OFFSETS])
