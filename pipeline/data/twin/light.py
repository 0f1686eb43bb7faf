"""Soft room light: an overhead key light with a shadow map, and ambient light from above and the sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.camera import Camera, Placement
from pipeline.data.twin.mjcf import Group
from pipeline.data.twin.model import HandModel
from pipeline.data.twin.scene import ALIKE, MATERIALS

Array32 = NDArray[np.float32]

LIGHT_POSITION = (1.9, -0.55, 0.10)  # a lamp panel at the ceiling, a little to the window's side
LIGHT_REACH = 4.0
SHADOW_FOCAL = 1120.0  # covers the hand and the table round it
SHADOW_TEXELS = {"coarse": 40, "fine": 80}
FINE_FROM = 128  # pixels of the image from which the fine shadow map is used
SHADOW_BIAS = 0.006  # metres; keeps a surface from shading itself
UNOCCLUDED = 1e3

AMBIENT_SIDE, AMBIENT_SLOPE = 0.62, 0.25  # brightness of surfaces facing sideways; added facing up
KEY = 0.15
SRGB_GAMMA = 2.2


def _linear(srgb: tuple[float, float, float]) -> list[float]:
    return [(value / 255) ** SRGB_GAMMA for value in srgb]


ALBEDO = np.array([_linear(material.srgb) for material in MATERIALS.values()], np.float32)
HIGHLIGHT = np.array([material.highlight for material in MATERIALS.values()], np.float32)
SHARPNESS = np.array([material.sharpness for material in MATERIALS.values()], np.float32)
LOOK = np.array([0 if name in ALIKE else number + 1 for number, name in enumerate(MATERIALS)])
TO_LIGHT = (np.array(LIGHT_POSITION) / np.linalg.norm(LIGHT_POSITION)).astype(np.float32)


@dataclass(frozen=True)
class Surface:
    """Points to be lit: material indices or colours, unit normals and unit vectors to the camera."""

    albedo_N3: Array32
    material_N: NDArray[np.intp]
    normal_N3: Array32
    view_N3: Array32


def joined(first: Surface, second: Surface) -> Surface:
    """The points of both, one after the other."""
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Surface(*(np.concatenate(pair) for pair in pairs))


def dot(left_N3: Array32, right_N3: Array32) -> Array32:
    """The scalar products [N] of two lists of vectors."""
    products: Array32 = np.einsum("ij,ij->i", left_N3, right_N3)
    return products


def shade(surface: Surface) -> tuple[Array32, Array32]:
    """Linear light [N, 3] that each point sends to the camera: from around and from the key light.

    Lambert plus Blinn-Phong highlights; the key part is for a point that the light reaches fully.
    """
    normal = surface.normal_N3
    ambient = AMBIENT_SIDE + AMBIENT_SLOPE * normal[:, 0]
    facing = np.maximum(np.einsum("ij,j->i", normal, TO_LIGHT), 0)
    half = surface.view_N3 + TO_LIGHT
    half /= np.sqrt(dot(half, half))[:, None]
    shine = np.maximum(dot(normal, half), 0) ** SHARPNESS[surface.material_N]
    shine *= HIGHLIGHT[surface.material_N] * (facing > 0)
    key = KEY * (facing[:, None] * surface.albedo_N3 + shine[:, None])
    return ambient[:, None] * surface.albedo_N3, key


@dataclass(frozen=True)
class Texels:
    """Where points fall on the shadow map: first of four texels, shares of the next ones, depth. Each [N]."""

    first: NDArray[np.intp]
    across: Array32
    down: Array32
    depth: Array32


class ShadowMap:
    """The moving geoms as the light sees them; its texels are coarse on purpose, for soft edges."""

    def __init__(self, image_size: int):
        self.size = SHADOW_TEXELS["fine" if image_size >= FINE_FROM else "coarse"]
        self.camera = Camera(
            Placement(
                LIGHT_POSITION, (0.0, 0.0, 0.03), (0.0, 0.0, -1.0), 0.0, SHADOW_FOCAL, (1, 1, 1), Group.STATIC
            ),
            self.size,
        )
        self.depth = np.full(self.size**2, UNOCCLUDED, np.float32)

    def update(self, hand: HandModel, corners_G83: NDArray[np.float64]) -> None:
        """Casts the current pose."""
        pixels = self.camera.pixels_of(corners_G83)
        hits = hand.cast(self.camera.position_3, self.camera.directions_P3[pixels], hand.moving, LIGHT_REACH)
        self.depth[:] = UNOCCLUDED
        self.depth[pixels] = np.where(hits.geom >= 0, hits.distance, UNOCCLUDED)

    def texels(self, points_N3: NDArray[np.float64]) -> Texels:
        """Where points fall; those outside the map get a depth of 0, which nothing shades."""
        across, down, depth = self.camera.project(points_N3)
        left, top = np.floor(across - 0.5), np.floor(down - 0.5)
        inside = (left >= 0) & (top >= 0) & (left < self.size - 1) & (top < self.size - 1)
        first = np.where(inside, top * self.size + left, 0).astype(np.intp)
        return Texels(
            first,
            (across - 0.5 - left).astype(np.float32),
            (down - 0.5 - top).astype(np.float32),
            np.where(inside, depth, 0).astype(np.float32),
        )

    def reached(self, texels: Texels) -> Array32:
        """The share 0..1 of the key light that reaches each point: mean of 4 texels' depth tests."""
        limit, size = texels.depth - SHADOW_BIAS, self.size
        corner = [self.depth[texels.first + step] > limit for step in (0, 1, size, size + 1)]
        top = corner[0] + texels.across * (corner[1].astype(np.float32) - corner[0])
        bottom = corner[2] + texels.across * (corner[3].astype(np.float32) - corner[2])
        reached: Array32 = top + texels.down * (bottom - top)
        return reached

    def occluded_texels(self) -> NDArray[np.bool_]:
        """For each texel: whether it or one of the next three holds a moving geom."""
        taken = (self.depth < UNOCCLUDED).reshape(self.size, self.size)
        near = taken.copy()
        near[:, :-1] |= taken[:, 1:]
        near[:-1] |= near[1:].copy()
        return near.ravel()
