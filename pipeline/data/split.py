"""Which samples train and which validate.

The raw order is shuffled while the ids are temporal, and neighbours in time look alike: the RMS distance of
two labels grows from 9 mm at an id gap of 1 to 25 mm at a gap of 5, against 32 mm at random. `head` therefore
validates on near copies of training samples, as the report did; `block` and `kfold` do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError

GAP_IDS = 10  # at 5 frames a second, two seconds between a training and a validation sample

Rows = NDArray[np.int64]


def split_indices(spec: str, ids: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """Rows for training and rows for validation, each ascending int64, from the samples' ids, int64 [N].

    `head:f`: the first int(f N) rows train, the others validate, in the order of the data.
    `block:f`: as `head`, in the order of the ids.
    `kfold:i/k`: of k blocks of equal size in the order of the ids, block i (from 0) validates.
    `full`: every row trains, none validates.

    For `block` and `kfold`, samples whose id is within GAP_IDS of a validation sample are left out of
    training. Raises ConfigError for a split that does not exist, DataError if a side is left empty.
    """
    kind, _, argument = spec.partition(":")
    rows = np.arange(len(ids), dtype=np.int64)
    if kind == "full" and not argument:
        train, validation = rows, rows[:0]
    elif kind == "head":
        train, validation = np.split(rows, [_share(spec, argument, len(rows))])
    elif kind == "block":
        early, late = np.split(np.argsort(ids, kind="stable"), [_share(spec, argument, len(rows))])
        train, validation = _apart(early, late, ids)
    elif kind == "kfold":
        train, validation = _apart(*_fold(spec, argument, np.argsort(ids, kind="stable")), ids)
    else:
        raise ConfigError(f"data.split {spec!r}: known are head:0.7, block:0.7, kfold:0/5 and full")
    _refuse_empty(spec, train, validation, len(ids))
    return train, validation


def _share(spec: str, fraction: str, count: int) -> int:
    try:
        share = float(fraction)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise ConfigError(f"data.split {spec!r}: needs a fraction between 0 and 1, as in head:0.7")
    return int(share * count)


def _fold(spec: str, argument: str, ordered: Rows) -> tuple[Rows, Rows]:
    fold, _, folds = argument.partition("/")
    if not (fold.isdecimal() and folds.isdecimal()):
        raise ConfigError(f"data.split {spec!r}: expected kfold:I/K, as in kfold:0/5")
    number, count = int(fold), int(folds)
    if count < 2 or number >= count:
        raise ConfigError(f"data.split {spec!r}: folds are numbered from 0 to K-1, and K is at least 2")
    first, last = number * len(ordered) // count, (number + 1) * len(ordered) // count
    return np.concatenate([ordered[:first], ordered[last:]]), ordered[first:last]


def _apart(train: Rows, validation: Rows, ids: NDArray[np.int64]) -> tuple[Rows, Rows]:
    """Both ascending; training without the samples close in time to the validation block."""
    if len(validation):
        lowest, highest = ids[validation].min(), ids[validation].max()
        close = (ids[train] >= lowest - GAP_IDS) & (ids[train] <= highest + GAP_IDS)
        train = train[~close]
    return np.sort(train), np.sort(validation)


def _refuse_empty(spec: str, train: Rows, validation: Rows, count: int) -> None:
    empty = "training" if not len(train) else "validation"
    if not len(train) or (not len(validation) and spec != "full"):
        raise DataError(
            f"data.split {spec!r} leaves no {empty} samples of {count}; choose another fraction or number of "
            "folds, use more data, or split 'full' to train on everything without validation"
        )
