"""Pinhole cameras: where they stand, their rays, and which pixels a moving box can touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.twin.mjcf import Group, Vector

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

FOCAL_BASE = 224  # the image size that Placement.focal refers to
NEAREST_DEPTH = 0.05  # metres; anything nearer is treated as being there when it is projected


@dataclass(frozen=True)
class Placement:
    """A camera in the world: metres, degrees of roll, focal length in pixels of a FOCAL_BASE image."""

    position: Vector
    target: Vector
    up: Vector  # appears upward in the image when roll is 0
    roll: float
    focal: float
    gain_rgb: Vector  # the camera's own exposure and white balance
    scenery: Group  # the static things that only this camera shows


class Camera:
    """A square pinhole image of `size` pixels.

    rotation_33 holds the image's right, up and forward axes as rows. Ray directions have a forward part of
    1, so that a ray's parameter is the depth along the optical axis, as a depth camera reports it.
    backward_P3 are the unit vectors back to the camera.
    """

    def __init__(self, placement: Placement, size: int):
        self.size = size
        self.scenery = placement.scenery
        self.position_3 = np.array(placement.position)
        self.focal = placement.focal * size / FOCAL_BASE
        self.rotation_33 = _look_at(placement)
        self.directions_P3 = self.directions(0.0, 0.0)
        length = np.linalg.norm(self.directions_P3, axis=1, keepdims=True)
        self.backward_P3 = (-self.directions_P3 / length).astype(np.float32)

    def directions(self, dx: float, dy: float) -> FloatArray:
        """Ray directions [size * size, 3] through the pixel centres moved by (dx, dy) pixels."""
        line = np.arange(self.size) + 0.5 - self.size / 2
        right, down = np.meshgrid((line + dx) / self.focal, (line + dy) / self.focal)
        to_right, to_up, forward = self.rotation_33
        rays = right[..., None] * to_right - down[..., None] * to_up + forward
        return np.ascontiguousarray(rays.reshape(-1, 3))

    def project(self, points_N3: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Pixel coordinates right and down (0 = the first pixel's outer edge) and depths, each [N]."""
        # Not a matrix product: with several threads, BLAS may round differently from one run to the next.
        right, up, depth = np.einsum("ij,nj->in", self.rotation_33, points_N3 - self.position_3)
        near = np.maximum(depth, NEAREST_DEPTH)
        return self.focal * right / near + self.size / 2, self.size / 2 - self.focal * up / near, depth

    def pixels_of(self, corners_G83: FloatArray) -> IndexArray:
        """Flat indices of the pixels in the image rectangle of any of G boxes, given by their corners."""
        across, down, _ = self.project(corners_G83.reshape(-1, 3))
        left, right = self._span(across)
        top, bottom = self._span(down)
        covered = np.zeros((self.size, self.size), bool)
        for first, last, start, end in zip(top, bottom, left, right, strict=True):
            covered[first:last, start:end] = True
        return np.flatnonzero(covered)

    def _span(self, pixels: FloatArray) -> tuple[IndexArray, IndexArray]:
        """First and one-past-last pixel of each box along one image axis, one pixel generous."""
        per_box = pixels.reshape(-1, 8)
        first = np.clip(np.floor(per_box.min(1)) - 1, 0, self.size)
        last = np.clip(np.ceil(per_box.max(1)) + 1, 0, self.size)
        return first.astype(np.intp), last.astype(np.intp)


def _look_at(placement: Placement) -> FloatArray:
    forward = np.array(placement.target) - np.array(placement.position)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, placement.up)
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    cosine, sine = np.cos(np.radians(placement.roll)), np.sin(np.radians(placement.roll))
    return np.stack([cosine * right + sine * up, cosine * up - sine * right, forward])
