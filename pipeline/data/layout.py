"""The raw layout, read and checked one sample at a time.

    {train,test}/X/{i}/rgb/{0,1,2}.png     8-bit RGB, all of one size
    {train,test}/X/{i}/depth.npy           [3, H, W], whole millimetres
    {train,test}/X/{i}/field_id.pkl        a pickled text such as '3320', the temporal id
    train/Y/{i}.npy                        [12], metres; test/Y is read too if it exists

Raw files come from elsewhere: nothing in them is executed, and each is checked before it is believed.
"""

from __future__ import annotations

import pickletools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.channels import COORDINATES, VIEWS
from pipeline.data.packed import Sample
from pipeline.errors import DataError

LARGEST_DEPTH_MM = int(np.iinfo(np.uint16).max)
LARGEST_LABEL_M = 1.0  # no part of the hand is farther from its base
LARGEST_ID_FILE = 1024  # bytes; a pickled text of a few digits takes about 20
PROBED_SAMPLES = 25  # looked at to find the size of the frames
SPLITS = ("train", "test")

_FORMATS = ("PNG",)  # no other decoder is tried
_ID = re.compile(r"[0-9]{1,18}")  # fits int64
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_VALUE_OPCODES = {
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
}
_FRAMING_OPCODES = {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"}

Size = tuple[int, int]  # height, width


class RawSample(Protocol):
    """A sample that is still to be read; cheap to send to another process. `str()` names it."""

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
    """A raw data set: its splits and the size of its frames."""

    splits: tuple[RawSplit, ...]
    height: int
    width: int


@dataclass(frozen=True)
class FolderSample:
    """The sample in the folder X/`number` of a split's folder, with frames of the given size."""

    split: Path
    number: str
    labelled: bool
    size: Size

    def __str__(self) -> str:
        return f"{self.split.name}/X/{self.number}"

    def load(self) -> Sample:
        """Reads and checks the sample. DataError names the file, what was found and what is allowed."""
        folder = self.split / "X" / self.number
        if not _NUMBER.fullmatch(self.number):
            raise DataError(f"{folder}: sample folders are named by plain numbers, as in X/0; move it away")
        if not folder.is_dir():
            raise DataError(f"{folder}: missing, though {self.split.name}/Y has a label of this number")
        views = [read_view(folder / "rgb" / f"{view}.png", self.size) for view in range(VIEWS)]
        return Sample(
            rgb_9HW=np.concatenate(views),
            depth_mm_3HW=read_depth(folder / "depth.npy", self.size),
            id=read_id(folder / "field_id.pkl"),
            label_m_12=read_label(self.split / "Y" / f"{self.number}.npy") if self.labelled else None,
        )


def open_raw(root: Path) -> RawData:
    """Lists the samples of a raw data set, numerically, without reading them.

    A raw set may lack one of the two splits. DataError if it has none, if one is empty, or if train has no Y.
    """
    found = [root / name for name in SPLITS if (root / name / "X").is_dir()]
    if not found:
        raise DataError(f"{root}: not the raw layout; expected folders such as {root}/train/X/0")
    if (root / "train" / "X").is_dir() and not (root / "train" / "Y").is_dir():
        raise DataError(f"{root}/train/Y: missing; training needs a label file for each sample, as Y/0.npy")
    numbers = {split: _numbers(split) for split in found}
    size = _frame_size(split / "X" / number for split in found for number in numbers[split])
    return RawData(tuple(_folder_split(split, numbers[split], size) for split in found), *size)


def _folder_split(split: Path, numbers: Sequence[str], size: Size) -> RawSplit:
    labelled = (split / "Y").is_dir()
    samples = tuple(FolderSample(split, number, labelled, size) for number in numbers)
    return RawSplit(split.name, samples, labelled)


def _numbers(split: Path) -> list[str]:
    """The names of a split's samples, wherever one part of them exists; wrong names first, 10 after 9."""
    names = {entry.name for entry in (split / "X").iterdir() if not entry.name.startswith(".")}
    if not names:
        raise DataError(f"{split}/X: empty; expected folders such as {split}/X/0")
    names.update(path.stem for path in (split / "Y").glob("[!.]*.npy"))
    return sorted(names, key=lambda name: (int(name), "") if _NUMBER.fullmatch(name) else (-1, name))


def _frame_size(folders: Iterator[Path]) -> Size:
    """Height and width of most of the first frames, so that one damaged file does not decide."""
    sizes: Counter[Size] = Counter()
    for folder in folders:
        try:
            with Image.open(folder / "rgb" / "0.png", formats=_FORMATS) as image:
                sizes[image.height, image.width] += 1
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # reading the sample will say what is wrong with it
        if sizes.total() == PROBED_SAMPLES:
            break
    if not sizes:
        raise DataError("no sample has a readable rgb/0.png; the size of the frames is unknown")
    return sizes.most_common(1)[0][0]


def read_view(path: Path, size: Size) -> NDArray[np.uint8]:
    """One view, uint8 [3, H, W]. DataError unless the file is a whole 8-bit RGB PNG of the given size."""
    with _reading(path, "PNG"), Image.open(path, formats=_FORMATS) as image:
        if image.mode != "RGB":
            raise DataError(f"{path}: is a PNG in mode {image.mode}; expected 8-bit RGB")
        if (image.height, image.width) != size:
            found, expected = f"{image.height} x {image.width}", f"{size[0]} x {size[1]}"
            raise DataError(
                f"{path}: has {found} pixels; expected {expected} (height x width), as the others"
            )
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_depth(path: Path, size: Size) -> NDArray[np.uint16]:
    """Depth of the three views, uint16 millimetres [3, H, W].

    DataError unless the file holds whole numbers from 0 to 65535, of any integer or float type.
    """
    stored = _read_array(path, (VIEWS, *size), "fiu")
    lowest, highest = stored.min(), stored.max()
    if not (lowest >= 0 and highest <= LARGEST_DEPTH_MM):  # so that NaN is refused
        raise DataError(f"{path}: depth from {lowest} to {highest}; allowed are 0 to {LARGEST_DEPTH_MM} mm")
    depth = stored.astype(np.uint16)
    if not np.array_equal(depth, stored):
        fraction = stored[depth != stored][0]
        raise DataError(
            f"{path}: depth {fraction:g} is no whole number of millimetres; is the file in metres?"
        )
    return depth


def read_label(path: Path) -> NDArray[np.float64]:
    """The fingertips, float64 metres [12]. DataError unless all are finite and within 1 m."""
    label = _read_array(path, (COORDINATES,), "f").astype(np.float64)
    if not np.isfinite(label).all():
        raise DataError(f"{path}: coordinate {int(np.flatnonzero(~np.isfinite(label))[0])} is not finite")
    farthest = np.abs(label).max()
    if farthest > LARGEST_LABEL_M:
        raise DataError(f"{path}: a coordinate of {farthest:g} m; expected metres up to {LARGEST_LABEL_M:g}")
    return label


def read_id(path: Path) -> int:
    """The temporal id of a sample.

    The pickle is only taken apart, never run. DataError unless it is one text of digits, or one number.
    """
    with _reading(path, "pickle"), path.open("rb") as handle:
        content = handle.read(LARGEST_ID_FILE + 1)
        if len(content) > LARGEST_ID_FILE:
            raise DataError(
                f"{path}: more than {LARGEST_ID_FILE} bytes; expected a pickled text such as '3320'"
            )
        steps = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    allowed = _VALUE_OPCODES | _FRAMING_OPCODES
    odd = next((name for name, _ in steps if name not in allowed), None)
    values = [argument for name, argument in steps if name in _VALUE_OPCODES]
    if odd or len(values) != 1:
        what = f"a pickle with the step {odd}" if odd else f"a pickle of {len(values)} values"
        raise DataError(f"{path}: {what}; expected one plain text such as '3320' (nothing was executed)")
    text = str(values[0])
    if not _ID.fullmatch(text):
        raise DataError(f"{path}: id {text!r} is not a number; expected a text such as '3320'")
    return int(text)


def _read_array(path: Path, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """A .npy file whose shape and kind of numbers are checked before its content is read."""
    with _reading(path, ".npy array"):
        stored = np.lib.format.open_memmap(path, mode="r")
    if stored.shape != shape or stored.dtype.kind not in kinds:
        numbers = "floats" if kinds == "f" else "numbers"
        found = f"{stored.dtype} {list(stored.shape)}"
        raise DataError(f"{path}: holds {found}; expected {numbers} {list(shape)}")
    return np.array(stored)


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except Exception as error:  # a damaged file can make its reader raise nearly anything
        raise DataError(f"{path}: not a readable {kind} ({error})") from None
