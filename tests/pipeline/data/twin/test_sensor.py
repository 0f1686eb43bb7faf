import numpy as np

from pipeline.data.channels import NO_RETURN_MM, SENTINEL_MM
from pipeline.data.twin.render import View
from pipeline.data.twin.sensor import develop, hidden_from_one_eye, measure_depth

SIZE = 64


def flat_view(depth_m, cosine=1.0):
    pixels = SIZE * SIZE
    return View(
        np.full((pixels, 3), 0.25, np.float32),
        np.full(pixels, depth_m),
        np.full(pixels, cosine, np.float32),
    )


def test_depth_is_whole_millimetres_with_noise_holes_and_sentinels():
    depth = np.concatenate(
        [measure_depth(flat_view(0.7), 140.0, 2, np.random.default_rng(k)) for k in range(20)]
    )
    valid = depth[(depth != NO_RETURN_MM) & (depth != SENTINEL_MM)].astype(float)
    assert depth.dtype == np.uint16
    assert abs(valid.mean() - 700) < 0.5
    assert 0.3 < valid.std() < 3
    assert 0.001 < (depth == NO_RETURN_MM).mean() < 0.02
    assert 0 < (depth == SENTINEL_MM).mean() < 0.001


def test_nothing_returns_from_a_surface_seen_at_a_grazing_angle():
    depth = measure_depth(flat_view(0.7, cosine=0.05), 140.0, 0, np.random.default_rng(0))
    assert np.isin(depth, (NO_RETURN_MM, SENTINEL_MM)).all()


def test_the_background_left_of_an_object_is_hidden_from_the_second_eye():
    depth = np.full((SIZE, SIZE), 1.0)
    depth[:, 30:40] = 0.5
    hidden = hidden_from_one_eye(depth.ravel().astype(np.float32), 140.0).reshape(SIZE, SIZE)
    # Disparity is 7 pixels at 1 m and 14 at 0.5 m: the 7 columns before the object.
    assert np.flatnonzero(hidden[10]).tolist() == list(range(24, 30))


def test_colours_have_gain_gamma_and_noise():
    gain = np.array([1.0, 0.5, 100.0], np.float32)
    image = develop(flat_view(1.0).light_P3, gain, SIZE, np.random.default_rng(0))
    assert (image.dtype, image.shape) == (np.uint8, (3, SIZE, SIZE))
    expected = 255 * np.array([0.25, 0.125, 1.0]) ** (1 / 2.2)
    assert np.abs(image.mean((1, 2)) - expected).max() < 4
    assert 1 < image[0].std() < 4
