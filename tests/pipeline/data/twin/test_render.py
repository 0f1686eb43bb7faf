import numpy as np
import pytest

from pipeline.data.twin.camera import Camera
from pipeline.data.twin.recording import Recording
from pipeline.data.twin.render import edge_pixels
from pipeline.data.twin.scene import PLACEMENTS

SIZE = 48


@pytest.fixture(scope="module")
def recording():
    return Recording(seed=0, frames=60, size=SIZE)


def test_a_sample_has_the_recorded_types_and_shapes(recording):
    sample = recording.sample(7)
    assert (sample.rgb_9HW.dtype, sample.rgb_9HW.shape) == (np.uint8, (9, SIZE, SIZE))
    assert (sample.depth_mm_3HW.dtype, sample.depth_mm_3HW.shape) == (np.uint16, (3, SIZE, SIZE))
    assert sample.label_m_12.dtype == np.float64
    assert sample.id == 7


def test_a_sample_depends_on_seed_and_position_only(recording):
    longer = Recording(seed=0, frames=200, size=SIZE)
    longer.sample(150)
    ours, again, other = recording.sample(20), longer.sample(20), recording.sample(21)
    np.testing.assert_array_equal(ours.rgb_9HW, again.rgb_9HW)
    np.testing.assert_array_equal(ours.depth_mm_3HW, again.depth_mm_3HW)
    np.testing.assert_array_equal(ours.label_m_12, again.label_m_12)
    assert (ours.rgb_9HW != other.rgb_9HW).any()


def test_depth_at_a_visible_fingertip_is_its_distance_from_the_camera(recording):
    """The rubber cap's surface lies up to its radius before the fingertip frame."""
    for position in range(0, 60, 6):
        label = recording.pose(position).reshape(4, 3)
        views = recording.renderer.render()
        for camera, view in zip(recording.renderer.cameras, views, strict=True):
            across, down, depth = camera.project(label)
            found = view.depth_P.reshape(SIZE, SIZE)[down.astype(int), across.astype(int)]
            assert (found < depth + 0.002).all()


def test_colours_and_depths_are_near_the_recorded_ones(recording):
    samples = [recording.sample(position) for position in range(0, 60, 10)]
    rgb = np.mean([sample.rgb_9HW.mean((1, 2)) / 255 for sample in samples], axis=0).reshape(3, 3)
    recorded = [[0.396, 0.417, 0.435], [0.470, 0.488, 0.501], [0.441, 0.482, 0.519]]
    assert np.abs(rgb - recorded).max() < 0.06
    depth = np.mean([sample.depth_mm_3HW.mean((1, 2)) / 1000 for sample in samples], axis=0)
    assert np.abs(depth - [0.656, 0.871, 1.211]).max() < 0.06


def test_a_camera_projects_its_own_rays_back_to_their_pixels():
    camera = Camera(PLACEMENTS[1], 16)
    points = camera.position_3 + 0.7 * camera.directions_P3
    across, down, depth = camera.project(points)
    np.testing.assert_allclose(across.reshape(16, 16)[0], np.arange(16) + 0.5)
    np.testing.assert_allclose(down.reshape(16, 16)[:, 0], np.arange(16) + 0.5)
    np.testing.assert_allclose(depth, 0.7)


def test_edges_lie_on_both_sides_of_a_moving_border():
    shown = np.array([5, 6, 9, 10])  # a 2 x 2 block in the middle of a 4 x 4 image
    edges = edge_pixels(np.zeros(16, int), shown, np.ones(4, int))
    assert edges.tolist() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14]
    assert edge_pixels(np.ones(16, int), shown, np.ones(4, int)).size == 0  # looks alike
    assert edge_pixels(np.arange(16), shown[:0], shown[:0]).size == 0  # static borders are smooth already
