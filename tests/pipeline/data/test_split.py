from itertools import pairwise

import numpy as np
import pytest

from pipeline.data.split import GAP_IDS, split_indices
from pipeline.errors import ConfigError, DataError

COUNT = 200


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).permutation(2 * COUNT)[:COUNT]


def test_head_is_the_reports_split() -> None:
    train, validation = split_indices("head:0.7", np.arange(3396)[::-1])
    assert train.tolist() == list(range(2377))
    assert validation.tolist() == list(range(2377, 3396))


def test_full_trains_on_everything(ids: np.ndarray) -> None:
    train, validation = split_indices("full", ids)
    assert train.tolist() == list(range(COUNT))
    assert len(validation) == 0


def test_block_validates_on_the_latest(ids: np.ndarray) -> None:
    train, validation = split_indices("block:0.7", ids)
    assert len(validation) == COUNT - int(0.7 * COUNT)
    assert ids[validation].min() - ids[train].max() > GAP_IDS
    dropped = np.setdiff1d(np.arange(COUNT), np.concatenate([train, validation]))
    assert (ids[validation].min() - ids[dropped] <= GAP_IDS).all()


def test_folds_cover_everything_once_in_temporal_blocks(ids: np.ndarray) -> None:
    folds = [split_indices(f"kfold:{fold}/7", ids) for fold in range(7)]
    assert sorted(np.concatenate([validation for _, validation in folds])) == list(range(COUNT))
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    for (_, earlier), (_, later) in pairwise(folds):
        assert ids[earlier].max() < ids[later].min()


@pytest.mark.parametrize("spec", ["block:0.5", "kfold:0/5", "kfold:2/5", "kfold:4/5"])
def test_no_training_sample_is_close_in_time_to_a_validation_sample(ids: np.ndarray, spec: str) -> None:
    train, validation = split_indices(spec, ids)
    gaps = np.abs(ids[train][:, None] - ids[validation][None])
    assert gaps.min() > GAP_IDS
    assert len(train) + len(validation) >= COUNT - 2 * GAP_IDS
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kfold:5/5", "folds are numbered from 0 to K-1, and K is at least 2"),
        ("kfold:0/1", "folds are numbered from 0 to K-1, and K is at least 2"),
        ("kfold:1", r"expected kfold:I/K, as in kfold:0/5"),
        ("head:1.5", r"needs a fraction between 0 and 1, as in head:0\.7"),
        ("block:most", r"needs a fraction between 0 and 1, as in head:0\.7"),
        ("random:0.7", r"data\.split 'random:0\.7': known are head:0\.7, block:0\.7, kfold:0/5 and full"),
    ],
)
def test_a_split_that_does_not_exist_is_refused(ids: np.ndarray, spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_indices(spec, ids)


@pytest.mark.parametrize(
    ("spec", "count", "side"),
    [
        ("head:0.1", 5, "training"),
        ("block:0.5", 8, "training"),
        ("kfold:0/5", 3, "validation"),
        ("full", 0, "training"),
    ],
)
def test_an_empty_side_is_refused_with_a_remedy(spec: str, count: int, side: str) -> None:
    with pytest.raises(DataError, match=f"leaves no {side} samples of {count}; choose another fraction"):
        split_indices(spec, np.arange(count))
