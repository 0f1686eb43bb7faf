import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.config import DataConfig
from pipeline.data.moments import sample_moments
from pipeline.data.pack import PackedSplit
from pipeline.data.transforms import INVALID_DEPTH_M, INVALID_DEPTH_SHARE, Preprocess
from pipeline.errors import CheckpointError, DataError


def fitted(split: PackedSplit, **config: Any) -> Preprocess:
    return Preprocess.from_moments(DataConfig(**config), split.moments, *split.rgb.shape[2:])


def applied(preprocess: Preprocess, split: PackedSplit) -> np.ndarray:
    rgb = torch.from_numpy(np.array(split.rgb))
    depth = torch.from_numpy(split.depth.astype(np.int32))
    return preprocess(rgb, depth).numpy()


def plain_rgb(split: PackedSplit) -> np.ndarray:
    scaled = split.rgb / 255
    mean, std = scaled.mean(axis=(0, 2, 3), keepdims=True), scaled.std(axis=(0, 2, 3), keepdims=True)
    return (scaled - mean) / std


def plain_clipped_depth(split: PackedSplit) -> np.ndarray:
    valid = (split.depth != 0) & (split.depth != 65535)
    metres = np.minimum(split.depth / 1000, 2.0)
    means = [metres[:, view][valid[:, view]].mean() for view in range(3)]
    stds = [metres[:, view][valid[:, view]].std() for view in range(3)]
    metres = np.where(valid, metres, INVALID_DEPTH_M)
    return (metres - np.reshape(means, (3, 1, 1))) / np.reshape(stds, (3, 1, 1))


def test_rgb_and_clipped_depth_follow_the_plain_formula(packed_split: PackedSplit) -> None:
    out = applied(fitted(packed_split), packed_split)
    assert out.dtype == np.float32
    expected = np.concatenate([plain_rgb(packed_split), plain_clipped_depth(packed_split)], axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_the_reports_depth_is_a_share_of_65_535_metres(packed_split: PackedSplit) -> None:
    out = applied(fitted(packed_split, depth="report"), packed_split)
    np.testing.assert_allclose(out[:, 9:], packed_split.depth / 65535, rtol=1e-6)
    np.testing.assert_allclose(out[:, :9], plain_rgb(packed_split), rtol=1e-5, atol=1e-5)


def test_symmetric_depth_is_the_reports_between_minus_one_and_one(packed_split: PackedSplit) -> None:
    out = applied(fitted(packed_split, depth="symmetric"), packed_split)[:, 9:]
    np.testing.assert_allclose(out, 2 * (packed_split.depth / 65535) - 1, atol=1e-6)
    assert (out.min(), out.max()) == pytest.approx((-1, 1), abs=1e-6)


def test_per_image_depth_runs_from_the_nearest_to_the_farthest_of_each_image(
    packed_split: PackedSplit,
) -> None:
    out = applied(fitted(packed_split, depth="per_image"), packed_split)[:, 9:]
    for image, depth in zip(out.reshape(-1, 6, 8), packed_split.depth.reshape(-1, 6, 8), strict=True):
        valid = (depth != 0) & (depth != 65535)
        metres = np.minimum(depth[valid] / 1000, 2.0)
        expected = (metres - metres.min()) / (metres.max() - metres.min())
        np.testing.assert_allclose(image[valid], expected, atol=1e-6)
        assert (image[valid].min(), image[valid].max()) == (0, 1)
        assert np.unique(image[~valid]).tolist() == [INVALID_DEPTH_SHARE]


@pytest.mark.parametrize(("depth_mm", "expected"), [(0, -0.5), (65535, -0.5), (700, 0.0), (9000, 0.0)])
def test_an_image_without_range_or_without_depth_stays_finite(
    packed_split: PackedSplit, depth_mm: int, expected: float
) -> None:
    depth = torch.full((1, 3, 6, 8), depth_mm, dtype=torch.int32)
    out = fitted(packed_split, depth="per_image")(torch.zeros(1, 9, 6, 8, dtype=torch.uint8), depth)
    assert out[:, 9:].unique().tolist() == [expected]


@pytest.mark.parametrize("depth", ["clip", "per_image"])
def test_invalid_depth_lies_below_every_distance(packed_split: PackedSplit, depth: str) -> None:
    out = applied(fitted(packed_split, depth=depth), packed_split)[:, 9:]
    invalid = (packed_split.depth == 0) | (packed_split.depth == 65535)
    for view in range(3):
        reserved = out[:, view][invalid[:, view]]
        assert len(np.unique(reserved)) == 1
        assert reserved[0] <= out[:, view][~invalid[:, view]].min() - 0.5


def test_shared_statistics_are_those_of_all_views_pixels(packed_split: PackedSplit) -> None:
    preprocess = fitted(packed_split, rgb_statistics="shared")
    scaled = packed_split.rgb.reshape(7, 3, 3, 6, 8) / 255
    mean, std = scaled.mean(axis=(0, 1, 3, 4)), scaled.std(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(preprocess.rgb_mean, np.tile(mean, 3))
    np.testing.assert_allclose(preprocess.rgb_std, np.tile(std, 3))
    per_view = fitted(packed_split)
    assert preprocess.rgb_mean != per_view.rgb_mean
    assert preprocess.depth_mean_m == per_view.depth_mean_m
    assert preprocess.depth_std_m == per_view.depth_std_m


def test_statistics_of_the_reports_recordings() -> None:
    """Its table of each view, and the one mean and deviation of each colour that its code also had."""
    mean = np.array([0.396, 0.417, 0.435, 0.470, 0.488, 0.501, 0.441, 0.482, 0.519])
    std = np.array([0.212, 0.199, 0.200, 0.242, 0.225, 0.228, 0.247, 0.229, 0.230])
    moments = np.ones((1, 15, 3))
    moments[0, :9] = np.stack([np.ones(9), mean, std**2 + mean**2], axis=1)
    view = Preprocess.from_moments(DataConfig(), moments, 6, 8)
    np.testing.assert_allclose([view.rgb_mean, view.rgb_std], [mean, std])
    shared = Preprocess.from_moments(DataConfig(rgb_statistics="shared"), moments, 6, 8)
    np.testing.assert_allclose(shared.rgb_mean, [0.435, 0.462, 0.485] * 3, atol=1e-3)
    np.testing.assert_allclose(shared.rgb_std, [0.236, 0.221, 0.223] * 3, atol=1e-3)


@pytest.mark.parametrize(("inputs", "zero", "kept"), [("rgb", range(9, 12), 0), ("depth", range(9), 11)])
def test_channels_left_out_are_zero(packed_split: PackedSplit, inputs: str, zero: range, kept: int) -> None:
    out, full = (applied(fitted(packed_split, **config), packed_split) for config in ({"inputs": inputs}, {}))
    assert not out[:, zero].any()
    assert np.array_equal(out[:, kept], full[:, kept])


def test_statistics_come_from_the_given_rows_only(packed_split: PackedSplit) -> None:
    config = DataConfig()
    some = Preprocess.from_moments(config, packed_split.moments[[1, 4]], 6, 8)
    np.testing.assert_allclose(some.rgb_mean, packed_split.rgb[[1, 4]].mean(axis=(0, 2, 3)) / 255)
    with pytest.raises(DataError, match="no training samples to take the input statistics from"):
        Preprocess.from_moments(config, packed_split.moments[:0], 6, 8)


def test_constant_channels_stay_finite() -> None:
    rgb, depth = np.full((9, 6, 8), 7, np.uint8), np.zeros((3, 6, 8), np.uint16)
    moments = sample_moments(rgb, depth)[None]
    preprocess = Preprocess.from_moments(DataConfig(), moments, 6, 8)
    out = preprocess(torch.from_numpy(rgb)[None], torch.from_numpy(depth.astype(np.int32))[None])
    np.testing.assert_allclose(out[0, :9], 0, atol=1e-6)
    np.testing.assert_allclose(out[0, 9:], INVALID_DEPTH_M, rtol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"depth": "report", "inputs": "depth"},
        {"depth": "symmetric", "inputs": "rgb"},
        {"depth": "per_image", "rgb_statistics": "shared"},
    ],
)
def test_it_survives_yaml_and_json_exactly(packed_split: PackedSplit, config: dict[str, Any]) -> None:
    preprocess = fitted(packed_split, **config)
    values = preprocess.to_dict()
    assert Preprocess.from_dict(values) == preprocess
    assert Preprocess.from_dict(yaml.safe_load(yaml.safe_dump(values))) == preprocess
    restored = Preprocess.from_dict(json.loads(json.dumps(values)))
    assert restored == preprocess
    assert np.array_equal(applied(restored, packed_split), applied(preprocess, packed_split))


def test_statistics_of_another_version_are_refused(packed_split: PackedSplit) -> None:
    values = fitted(packed_split).to_dict()
    values["gamma"] = values.pop("depth")
    with pytest.raises(CheckpointError, match="missing or unknown depth, gamma; made by another version"):
        Preprocess.from_dict(values)


@pytest.mark.parametrize(
    ("rgb", "depth", "message"),
    [
        (
            torch.zeros(2, 9, 8, 6, dtype=torch.uint8),
            torch.zeros(2, 3, 8, 6, dtype=torch.int32),
            r"rgb: found torch.uint8 \[2, 9, 8, 6\], but the model was trained on torch.uint8 "
            r"\[2, 9, 6, 8\]; pack the data at 6 x 8 pixels",
        ),
        (
            torch.zeros(2, 9, 6, 8, dtype=torch.uint8),
            torch.zeros(2, 3, 6, 8, dtype=torch.int16),
            r"depth: found torch.int16 \[2, 3, 6, 8\], but the model was trained on torch.int32",
        ),
    ],
)
def test_other_sizes_and_types_are_refused(
    packed_split: PackedSplit, rgb: torch.Tensor, depth: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fitted(packed_split)(rgb, depth)
