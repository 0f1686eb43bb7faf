"""The raw layout of a few large tensors, mapped into memory and read one sample at a time.

    {train,test}X.pt    (rgb [N, 3, 3, H, W] by view and colour, whole numbers 0 to 255; depth [N, 3, H, W],
                        whole millimetres; N ids, a list of texts and numbers or a tensor of whole numbers)
    trainY.pt           [N, 12], metres; testY.pt is read too if it exists

torch.load with weights_only refuses whatever is no tensor, number, text or plain container of them, so no
code in a file is run. torch is imported when the first such file is read.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.channels import COLOURS, COORDINATES, RGB_CHANNELS, VIEWS
from pipeline.data.packed import Sample
from pipeline.data.raw import (
    SPLITS,
    RawData,
    RawSplit,
    Size,
    checked_colours,
    checked_depth,
    checked_id,
    checked_label,
    list_each,
    reading,
)
from pipeline.errors import DataError

if TYPE_CHECKING:
    import torch

BLOCK = 16  # samples after which a file is mapped anew, so that the memory of those read is given back
IMAGES_ALLOWED = "a tuple (rgb [N, 3, 3, H, W], depth [N, 3, H, W], N ids)"

_NUMBERS = "fiu"  # numpy's letters for floats and whole numbers


class Images(NamedTuple):
    """What {train,test}X.pt holds, memory-mapped: [N, 3, 3, H, W], [N, 3, H, W] mm and N ids."""

    rgb: torch.Tensor
    depth: torch.Tensor
    ids: Sequence[object]


@dataclass(frozen=True)
class TensorFile:
    """A .pt file as it was when it was first read: its length in bytes and its time of change in ns."""

    path: Path
    version: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> TensorFile:
        """The file as it is now. DataError if it is not there."""
        with reading(path, IMAGES_ALLOWED):
            status = path.stat()
        return cls(path, (status.st_size, status.st_mtime_ns))


@dataclass(frozen=True)
class TensorSample:
    """Sample number `index` of a file of images, with the id and the label (metres, 12) read before."""

    images: TensorFile
    index: int
    id: object
    labels: Path
    label_12: NDArray[Any] | None

    def __str__(self) -> str:
        return f"{self.images.path.name} sample {self.index}"

    @property
    def id_place(self) -> str:
        """The file and the number of the sample in it."""
        return self._place(self.images.path)

    def _place(self, path: Path) -> str:
        return f"{path} sample {self.index}"

    def load(self) -> Sample:
        """Reads and checks the sample. DataError names its file and number, what was found and is allowed."""
        images, place = _mapped(self.images, self.index // BLOCK), self.id_place
        rgb_33HW = images.rgb[self.index].numpy()
        label_12 = self.label_12
        return Sample(
            rgb_9HW=checked_colours(rgb_33HW, place).reshape(RGB_CHANNELS, *rgb_33HW.shape[2:]),
            depth_mm_3HW=checked_depth(images.depth[self.index].numpy(), place),
            id=checked_id(self.id, place),
            label_m_12=None if label_12 is None else checked_label(label_12, self._place(self.labels)),
        )


def images_file(root: Path, split: str) -> Path:
    """Where the images of a split lie."""
    return root / f"{split}X.pt"


def labels_file(root: Path, split: str) -> Path:
    """Where the labels of a split lie, if it has any."""
    return root / f"{split}Y.pt"


def open_tensors(root: Path, keep_going: bool = False) -> RawData:
    """Lists the samples of a raw data set in the form of tensors; reads ids and labels but no pixels.

    A raw set may lack one of the two splits. DataError if a file is missing, damaged, or does not fit the
    others; `keep_going` leaves a split with such a file out if the other one can be listed.
    """
    present = [
        name for name in SPLITS if images_file(root, name).exists() or labels_file(root, name).exists()
    ]
    found, left_out = list_each(present, lambda name: _open_split(root, name), keep_going)
    sizes = {size: images_file(root, name).name for name, (_, size) in found.items()}
    if len(sizes) > 1:
        frames = ", ".join(f"{height} x {width} in {name}" for (height, width), name in sizes.items())
        raise DataError(f"{root}: frames of {frames}; expected one size for all")
    return RawData(tuple(split for split, _ in found.values()), *next(iter(sizes)), left_out)


def _open_split(root: Path, name: str) -> tuple[RawSplit, Size]:
    file, labels = TensorFile.of(images_file(root, name)), labels_file(root, name)
    images = _read_images(file.path)
    labelled = name == "train" or labels.exists()
    label_N12 = _read_labels(labels, len(images.rgb), file.path) if labelled else None
    samples = [
        TensorSample(file, index, id_, labels, None if label_N12 is None else label_N12[index])
        for index, id_ in enumerate(images.ids)
    ]
    _, _, _, height, width = images.rgb.shape
    return RawSplit(name, samples, labelled), (height, width)


@lru_cache(maxsize=1)
def _mapped(file: TensorFile, block: int) -> Images:
    """The images for one block of samples; the block is part of the key only."""
    if TensorFile.of(file.path) != file:
        raise DataError(f"{file.path}: has changed while it was being packed; pack again when it is complete")
    return _read_images(file.path)


def _read_images(path: Path) -> Images:
    stored = _load(path, IMAGES_ALLOWED)
    if not isinstance(stored, (tuple, list)) or len(stored) != len(Images._fields):
        raise DataError(f"{path}: holds {_describe(stored)}; expected {IMAGES_ALLOWED}")
    count, size = None, (None, None)
    if _is_array(stored[0], 5) and stored[0].numel():
        count, size = len(stored[0]), tuple(stored[0].shape[3:])
    rgb = _checked(stored[0], (count, VIEWS, COLOURS, *size), _NUMBERS, f"{path}: rgb")
    depth = _checked(stored[1], (count, VIEWS, *size), _NUMBERS, f"{path}: depth")
    return Images(rgb, depth, _checked_ids(stored[2], len(rgb), path))


def _checked_ids(stored: Any, count: int, path: Path) -> Sequence[object]:
    if _is_array(stored, 1):
        ids: list[object] = _checked(stored, (count,), "iu", f"{path}: ids").tolist()
        return ids
    if not isinstance(stored, (tuple, list)) or len(stored) != count:
        expected = f"{count}, one for each sample, in a list or a tensor of whole numbers"
        raise DataError(f"{path}: ids are {_describe(stored)}; expected {expected}")
    return stored


def _read_labels(path: Path, count: int, images: Path) -> NDArray[Any]:
    """[N, 12] of float32 or float64, in memory."""
    allowed = f"a tensor of floats [{count}, {COORDINATES}], a row for each sample of {images.name}"
    stored = _load(path, allowed)
    labels: NDArray[Any] = _checked(stored, (count, COORDINATES), "f", f"{path}: labels").numpy().copy()
    return labels


def _load(path: Path, allowed: str) -> Any:
    """What a .pt file holds, its tensors mapped into memory. DataError if it is damaged or no such file."""
    import torch

    with reading(path, allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on files that are refused anyway
        if not _is_archive(path):
            found = "is cut off, damaged, or was saved by torch before 1.6 (then load it and save it again)"
            raise DataError(f"{path}: {found}; expected {allowed}")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError:
            found = "is damaged or holds more than tensors, texts and numbers (nothing was executed)"
            raise DataError(f"{path}: {found}; expected {allowed}") from None


def _is_archive(path: Path) -> bool:
    with path.open("rb") as handle:
        return zipfile.is_zipfile(handle)


def _checked(value: Any, shape: tuple[int | None, ...], kinds: str, name: str) -> torch.Tensor:
    """A plain tensor of this shape, where None stands for any length of at least one."""
    numbers = {"f": "floats", "iu": "whole numbers"}.get(kinds, "numbers")
    expected = f"a tensor of {numbers} [{', '.join('any' if n is None else str(n) for n in shape)}]"
    fits = _is_array(value, len(shape)) and all(
        found > 0 if wanted is None else found == wanted
        for found, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits or _kind(value) not in kinds or not value.numel():
        raise DataError(f"{name}: holds {_describe(value)}; expected {expected}")
    if not _has_its_own_bytes(value):
        raise DataError(
            f"{name}: its strides {list(value.stride())} do not fit its bytes; expected {expected}"
        )
    plain: torch.Tensor = value.detach()
    return plain


def _is_array(value: Any, dimensions: int) -> bool:
    import torch

    strided = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    return strided and value.dim() == dimensions


def _kind(tensor: torch.Tensor) -> str:
    """numpy's letter for the tensor's kind of numbers; '?' for those that numpy does not have."""
    try:
        return np.dtype(str(tensor.dtype).removeprefix("torch.")).kind
    except TypeError:
        return "?"


def _has_its_own_bytes(tensor: torch.Tensor) -> bool:
    """Whether each element has bytes of its own in the storage; torch does not look at damaged strides."""
    steps, bytes_stored = tensor.stride(), tensor.untyped_storage().nbytes()
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, steps, strict=True))
    needed = max(last + 1, tensor.numel()) * tensor.element_size()
    return min(steps) >= 0 and bool(needed <= bytes_stored)


def _describe(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        kind = "" if value.layout == torch.strided else "sparse "
        return f"{kind}{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
