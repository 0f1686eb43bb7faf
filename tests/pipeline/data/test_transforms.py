import json
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.config import DataConfig
from pipeline.data.moments import sample_moments
from pipeline.data.pack import PackedSplit
from pipeline.data.transforms import INVALID_DEPTH_M, Preprocess
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


def test_invalid_depth_lies_below_every_distance(packed_split: PackedSplit) -> None:
    out = applied(fitted(packed_split), packed_split)[:, 9:]
    invalid = (packed_split.depth == 0) | (packed_split.depth == 65535)
    for view in range(3):
        reserved = out[:, view][invalid[:, view]]
        assert len(np.unique(reserved)) == 1
        assert reserved[0] < out[:, view][~invalid[:, view]].min() - 0.5


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


@pytest.mark.parametrize("config", [{}, {"depth": "report", "inputs": "depth"}])
def test_it_survives_yaml_and_json_exactly(packed_split: PackedSplit, config: dict[str, Any]) -> None:
    preprocess = fitted(packed_split, **config)
    values = preprocess.to_dict()
    assert Preprocess.from_dict(values) == preprocess
    assert Preprocess.from_dict(yaml.safe_load(yaml.safe_dump(values))) == preprocess
    assert Preprocess.from_dict(json.loads(json.dumps(values))) == preprocess


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
