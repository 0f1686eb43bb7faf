"""One recording: from a seed and a position in time to the sample that the three cameras would have given."""

from __future__ import annotations

import numpy as np

from pipeline.data.packed import Sample
from pipeline.data.twin.contact import settle_cube, settle_hand
from pipeline.data.twin.cube import cube_at, cube_track
from pipeline.data.twin.model import HandModel
from pipeline.data.twin.motion import FloatArray, Pace, draw_track, hand_tracks, joints_at
from pipeline.data.twin.randomness import Purpose, generator
from pipeline.data.twin.render import Renderer
from pipeline.data.twin.scene import PLACEMENTS
from pipeline.data.twin.sensor import develop, measure_depth

DETAILS_FROM = 112  # pixels of a view; below, seams and covers would be smaller than a pixel
LIGHT_PACE = Pace(every=(60.0, 200.0), moving=(20.0, 60.0))  # frames; clouds and automatic exposure
LIGHT_SPREAD = np.array([0.05, 0.20])  # standard deviation of the logarithms of ambient and key light


class Recording:
    """A recording of `frames` frames at an image size; a sample depends on seed, position and size only."""

    def __init__(self, seed: int, frames: int, size: int):
        self.seed, self.size = seed, size
        self.hand = HandModel(details=size >= DETAILS_FROM)
        self.renderer = Renderer(self.hand, size)
        self._joints = hand_tracks(seed, frames)
        self._cube = cube_track(seed, frames)
        self._light = draw_track(
            generator(seed, Purpose.LIGHT),
            frames,
            LIGHT_PACE,
            lambda rng: LIGHT_SPREAD * rng.standard_normal(2),
        )
        self._gains = np.array([placement.gain_rgb for placement in PLACEMENTS], np.float32)

    def pose(self, position: int) -> FloatArray:
        """Places hand and cube as at a frame and returns the label [12], metres."""
        cube = cube_at(self._cube, position)
        joints = settle_hand(self.hand, joints_at(self._joints, position), cube)
        cube = settle_cube(self.hand, joints, cube)
        self.hand.pose(joints, cube)
        return self.hand.fingertips()

    def sample(self, position: int) -> Sample:
        """The sample at a frame; its id is the frame's position in time."""
        label = self.pose(position)
        ambient, key = np.exp(self._light.at(position))
        views = self.renderer.render(ambient, key)
        rng = generator(self.seed, Purpose.SENSOR, position)
        rgb = [develop(view.light_P3, self._gains[k], self.size, rng) for k, view in enumerate(views)]
        depth = [
            measure_depth(view, self.renderer.cameras[k].focal, k, rng).reshape(self.size, self.size)
            for k, view in enumerate(views)
        ]
        return Sample(np.concatenate(rgb), np.stack(depth), position, label)
