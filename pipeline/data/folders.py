"""The raw layout of numbered folders, read and checked one sample at a time.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.data.channels import COORDINATES, VIEWS
from pipeline.data.packed import Sample
from pipeline.data.raw import (
    SPLITS,
    RawData,
    RawSplit,
    Size,
    checked_depth,
    checked_id,
    checked_label,
    list_each,
    reading,
)
from pipeline.errors import DataError

LARGEST_ID_FILE = 1024  # bytes; a pickled text of a few digits takes about 20
PROBED_SAMPLES = 25  # looked at to find the size of the frames
ID_ALLOWED = "one pickled text of digits, such as '3320'"

_FORMATS = ("PNG",)  # no other decoder is tried
_BIT_DEPTH_AT = 24  # in every PNG: 8 bytes of signature, 8 of the first chunk's head, width, height
_BIT_DEPTH = 8  # Pillow cuts 16 bits down to 8 without a word
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_VALUE_OPCODES = {
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"),
}
_FRAMING_OPCODES = {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"}


@dataclass(frozen=True)
class FolderSample:
    """The sample in the folder X/`number` of a split's folder, with frames of the given size."""

    split: Path
    number: str
    labelled: bool
    size: Size

    def __str__(self) -> str:
        return f"{self.split.name}/X/{self.number}"

    @property
    def id_place(self) -> str:
        """The file that holds the sample's id."""
        return str(self._folder / "field_id.pkl")

    @property
    def _folder(self) -> Path:
        return self.split / "X" / self.number

    def load(self) -> Sample:
        """Reads and checks the sample. DataError names the file, what was found and what is allowed."""
        self._check_folder()
        views = [read_view(self._folder / "rgb" / f"{view}.png", self.size) for view in range(VIEWS)]
        return Sample(
            rgb_9HW=np.concatenate(views),
            depth_mm_3HW=read_depth(self._folder / "depth.npy", self.size),
            id=read_id(self._folder / "field_id.pkl"),
            label_m_12=read_label(self.split / "Y" / f"{self.number}.npy") if self.labelled else None,
        )

    def _check_folder(self) -> None:
        folder, allowed = self._folder, "a folder with rgb/0.png, 1.png, 2.png, depth.npy and field_id.pkl"
        if not _NUMBER.fullmatch(self.number):
            raise DataError(f"{folder}: its name is no plain number; allowed are names as in X/0")
        if not folder.exists():
            label = f"{self.split.name}/Y has a label of this number"
            raise DataError(f"{folder}: missing, though {label}; expected {allowed}")
        if not folder.is_dir():
            raise DataError(f"{folder}: is a file; expected {allowed}")
        if not any(folder.iterdir()):
            raise DataError(f"{folder}: empty; expected {allowed}")


def open_folders(root: Path, keep_going: bool = False) -> RawData:
    """Lists the samples of a raw data set, numerically, without reading them.

    A raw set may lack one of the two splits. DataError if a split is empty or has only one of X and Y, where
    test may have X alone; `keep_going` leaves such a split out if the other one can be listed.
    """
    present = [name for name in SPLITS if (root / name).is_dir()]
    numbers, left_out = list_each(present, lambda name: _numbers(root / name), keep_going)
    size = _frame_size(root, (root / name / "X" / number for name in numbers for number in numbers[name]))
    splits = tuple(_folder_split(root / name, numbers[name], size) for name in numbers)
    return RawData(splits, *size, left_out)


def _folder_split(split: Path, numbers: Sequence[str], size: Size) -> RawSplit:
    labelled = (split / "Y").is_dir()
    samples = tuple(FolderSample(split, number, labelled, size) for number in numbers)
    return RawSplit(split.name, samples, labelled)


def _numbers(split: Path) -> list[str]:
    """The names of a split's samples, wherever one part of them exists; wrong names first, 10 after 9."""
    if not (split / "X").is_dir():
        raise DataError(f"{split}/X: missing; expected a folder for each sample, as {split}/X/0")
    if split.name == "train" and not (split / "Y").is_dir():
        raise DataError(f"{split}/Y: missing; training needs a label file for each sample, as Y/0.npy")
    names = {entry.name for entry in (split / "X").iterdir() if not entry.name.startswith(".")}
    if not names:
        raise DataError(f"{split}/X: empty; expected folders such as {split}/X/0")
    names.update(path.stem for path in (split / "Y").glob("[!.]*.npy"))
    return sorted(names, key=lambda name: (int(name), "") if _NUMBER.fullmatch(name) else (-1, name))


def _frame_size(root: Path, folders: Iterator[Path]) -> Size:
    """Height and width of most of the first frames, so that one damaged file does not decide."""
    sizes: Counter[Size] = Counter()
    for folder in folders:
        try:
            with Image.open(folder / "rgb" / "0.png", formats=_FORMATS) as image:
                sizes[image.height, image.width] += 1
        except Exception:  # as in `reading`; reading the sample will say what is wrong with it
            continue
        if sizes.total() == PROBED_SAMPLES:
            break
    if not sizes:
        raise DataError(f"{root}: no sample has a readable rgb/0.png, which gives the size of all frames")
    return sizes.most_common(1)[0][0]


def read_view(path: Path, size: Size) -> NDArray[np.uint8]:
    """One view, uint8 [3, H, W]. DataError unless the file is a whole 8-bit RGB PNG of the given size."""
    allowed = f"an 8-bit RGB PNG of {size[0]} x {size[1]} pixels (height x width)"
    with reading(path, allowed), path.open("rb") as handle:
        head = handle.read(_BIT_DEPTH_AT + 1)
        handle.seek(0)
        try:
            with Image.open(handle, formats=_FORMATS) as image:
                _check_view(image, head[-1], path, size, allowed)
                return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
        except UnidentifiedImageError:
            raise DataError(f"{path}: no PNG, or its beginning is damaged; expected {allowed}") from None


def _check_view(image: Image.Image, bits: int, path: Path, size: Size, allowed: str) -> None:
    if image.mode != "RGB" or bits != _BIT_DEPTH:
        raise DataError(f"{path}: is a PNG in mode {image.mode} of {bits} bits; expected {allowed}")
    if (image.height, image.width) != size:
        found = f"{image.height} x {image.width}"
        raise DataError(f"{path}: has {found} pixels; expected {allowed}, as the others")


def read_depth(path: Path, size: Size) -> NDArray[np.uint16]:
    """Depth of the three views, uint16 millimetres [3, H, W].

    DataError unless the file holds whole numbers from 0 to 65535, of any integer or float type.
    """
    return checked_depth(_read_array(path, (VIEWS, *size), "fiu"), str(path))


def read_label(path: Path) -> NDArray[np.float64]:
    """The fingertips, float64 metres [12]. DataError unless all are finite and within 1 m."""
    return checked_label(_read_array(path, (COORDINATES,), "f"), str(path))


def read_id(path: Path) -> int:
    """The temporal id of a sample.

    The pickle is only taken apart, never run. DataError unless it is one text of digits, or one number.
    """
    with reading(path, ID_ALLOWED), path.open("rb") as handle:
        content = handle.read(LARGEST_ID_FILE + 1)
        if len(content) > LARGEST_ID_FILE:
            raise DataError(f"{path}: more than {LARGEST_ID_FILE} bytes; expected {ID_ALLOWED}")
        steps = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    allowed = _VALUE_OPCODES | _FRAMING_OPCODES
    odd = next((name for name, _ in steps if name not in allowed), None)
    values = [argument for name, argument in steps if name in _VALUE_OPCODES]
    if odd or len(values) != 1:
        what = f"a pickle with the step {odd}" if odd else f"a pickle of {len(values)} values"
        raise DataError(f"{path}: {what}; expected {ID_ALLOWED} (nothing was executed)")
    return checked_id(values[0], str(path))


def _read_array(path: Path, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """A .npy file whose shape and kind of numbers are checked before its content is read."""
    numbers = "floats" if kinds == "f" else "numbers"
    allowed = f"a .npy array of {numbers} {list(shape)}"
    with reading(path, allowed):
        stored = np.lib.format.open_memmap(path, mode="r")
    if stored.shape != shape or stored.dtype.kind not in kinds:
        raise DataError(f"{path}: holds {stored.dtype} {list(stored.shape)}; expected {allowed}")
    more = path.stat().st_size - stored.offset - stored.nbytes
    if more:  # a damaged header can name a smaller type
        found = f"{more} bytes after its {stored.dtype} {list(shape)}"
        raise DataError(f"{path}: has {found}; expected {allowed}")
    return np.asarray(stored)
