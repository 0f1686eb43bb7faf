"""What both raw layouts share: samples that are still to be read, and the checks on what they hold.

Legend: 12 = index, middle, ring, thumb, each x, y, z in metres; other shapes are written out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.data.packed import Sample
from pipeline.errors import DataError

SPLITS = ("train", "test")
LARGEST_LABEL_M = 1.0  # no part of the hand is farther from its base
HINT = "repair it, or pack the rest with --keep-going"

_ID = re.compile(r"[0-9]{1,18}")  # fits int64

Size = tuple[int, int]  # height, width
Listed = TypeVar("Listed")


class RawSample(Protocol):
    """A sample that is still to be read; cheap to send to another process. `str()` names it."""

    @property
    def id_place(self) -> str:
        """The file, or the place in a file, that holds the sample's id."""

    def load(self) -> Sample:
        """Reads and checks the sample. DataError if anything about it is wrong."""


@dataclass(frozen=True)
class RawSplit:
    """The raw samples of the train or test split, in order."""

    name: str
    samples: Sequence[RawSample]
    labelled: bool


@dataclass(frozen=True)
class RawData:
    """A raw data set: its splits, the size of its frames, and why splits were left out whole."""

    splits: tuple[RawSplit, ...]
    height: int
    width: int
    left_out: Mapping[str, DataError] = field(default_factory=dict)


def list_each(
    names: Sequence[str], list_one: Callable[[str], Listed], keep_going: bool
) -> tuple[dict[str, Listed], dict[str, DataError]]:
    """What `list_one` finds of each split, and why the others are left out whole.

    Raises the DataError of the first split that cannot be listed, unless `keep_going` and another one can.
    """
    found: dict[str, Listed] = {}
    left_out: dict[str, DataError] = {}
    for name in names:
        try:
            found[name] = list_one(name)
        except DataError as error:
            if len(names) == 1:
                raise
            if not keep_going:
                raise DataError(f"{error}; {HINT}") from None
            left_out[f"all of {name}"] = DataError(f"{error}; all of {name} is left out")
    if not found:
        raise next(iter(left_out.values()))
    return found, left_out


def checked_colours(values: NDArray[Any], place: str) -> NDArray[np.uint8]:
    """Numbers of any real type and shape as uint8. DataError unless they are whole and from 0 to 255."""
    return _whole(values, np.dtype(np.uint8), f"{place}: colour", "", "is the file scaled to 0..1?")


def checked_depth(values: NDArray[Any], place: str) -> NDArray[np.uint16]:
    """Depths of any real type and shape as uint16 mm. DataError unless they are whole, from 0 to 65535."""
    return _whole(values, np.dtype(np.uint16), f"{place}: depth", " mm", "is the file in metres?")


def _whole(values: NDArray[Any], dtype: np.dtype[Any], name: str, unit: str, hint: str) -> NDArray[Any]:
    if values.dtype == dtype:
        return np.array(values)
    largest = np.iinfo(dtype).max
    if float(values.min()) >= 0 and float(values.max()) <= largest:  # so that NaN is refused
        whole = values.astype(dtype)
        if np.array_equal(whole, values):
            return whole
    numbers = values.astype(np.float64)
    wrong = ~((numbers >= 0) & (numbers <= largest) & (numbers == np.trunc(numbers)))
    where = tuple(int(index) for index in np.unravel_index(np.argmax(wrong), wrong.shape))
    value = float(numbers[where])
    asked = f"; {hint}" if math.isfinite(value) and value % 1 else ""
    found = f"{name} {values[where]!s}{unit} at {list(where)}"
    raise DataError(f"{found}; allowed are whole numbers from 0 to {largest}{unit}{asked}")


def checked_label(values: NDArray[Any], place: str) -> NDArray[np.float64]:
    """The fingertips, float64 metres [12]. DataError unless all are finite and within 1 m."""
    label = values.astype(np.float64)
    wrong = ~(np.abs(label) <= LARGEST_LABEL_M)
    if wrong.any():
        where = int(np.argmax(wrong))
        asked = "; is the file in millimetres?" if math.isfinite(label[where]) else ""
        allowed = f"allowed are metres from -{LARGEST_LABEL_M:g} to {LARGEST_LABEL_M:g}"
        raise DataError(f"{place}: coordinate {where} is {label[where]:g}; {allowed}{asked}")
    return label


def checked_id(value: object, place: str) -> int:
    """The temporal id. DataError unless it is a number from 0 to 10^18 - 1, or a text of its digits."""
    if not _ID.fullmatch(str(value)) or type(value) not in (str, int):
        raise DataError(
            f"{place}: id {value!r:.60} is no whole number; allowed are up to 18 digits, as in '3320'"
        )
    return int(str(value))


@contextmanager
def reading(path: Path, allowed: str) -> Iterator[None]:
    """Makes whatever reading a file raises a DataError that names it and says what is allowed."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: missing; expected {allowed}") from None
    except Exception as error:  # a damaged file can make its reader raise nearly anything
        raise DataError(f"{path}: cannot be read ({_reason(error)}); expected {allowed}") from None


def _reason(error: Exception) -> str:
    """The first line of an error without the file's name, which some readers repeat."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0]
