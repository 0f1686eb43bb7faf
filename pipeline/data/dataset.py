"""Batches of packed samples on the device that trains, and the order in which they come.

Legend: B9HW = views 0, 1, 2, each red, green, blue; B3HW = depth of views 0, 1, 2 in millimetres; B12 =
index, middle, ring, thumb, each x, y, z in millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.packed import PackedSplit
from pipeline.errors import ConfigError, DataError
from pipeline.units import to_mm

RESIDENT_SHARE = 0.5  # of the free device memory; the rest is the network's
UPLOAD_SAMPLES = 256  # copied to the device at a time
UINT16_MASK = 0xFFFF
SMALLEST_BATCH = 2  # BatchNorm cannot train on one sample

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """uint8 [B, 9, H, W], int32 millimetres [B, 3, H, W], float32 millimetres [B, 12] or None."""

    rgb_B9HW: torch.Tensor
    depth_mm_B3HW: torch.Tensor
    label_mm_B12: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.rgb_B9HW)

    def split(self, sizes: list[int]) -> Iterator[Batch]:
        """The batch in pieces of these sizes, in order, without copying."""
        labels = self.label_mm_B12
        pieces = [None] * len(sizes) if labels is None else torch.split(labels, sizes)
        parts = zip(
            torch.split(self.rgb_B9HW, sizes), torch.split(self.depth_mm_B3HW, sizes), pieces, strict=True
        )
        return (Batch(*part) for part in parts)

    def labels(self) -> torch.Tensor:
        """The labels, millimetres [B, 12]. Raises DataError if the data set has none."""
        return _present(self.label_mm_B12)


class Samples:
    """Some rows of a packed split, as batches on a device.

    On a GPU the pixels are uploaded once, as stored, if they fit in half of its free memory; otherwise, and
    on the CPU, each batch is read from the memory map.

    Args:
        split: the packed split.
        rows: the rows of it to use; positions in `batch` count along these.
        device: where batches are needed.
        resident: whether to upload everything now; None decides as above.
    """

    def __init__(
        self, split: PackedSplit, rows: Rows, device: torch.device, resident: bool | None = None
    ) -> None:
        self.resident = _fits(split, len(rows), device) if resident is None else resident
        self._device, self._count = device, len(rows)
        self._store: _Store = (_OnDevice if self.resident else _OnDisk)(split, rows, device)
        self._label_mm_N12 = None
        if split.labels is not None:
            labels_mm = to_mm(np.asarray(split.labels[rows])).astype(np.float32)
            self._label_mm_N12 = torch.from_numpy(labels_mm).to(device)

    def __len__(self) -> int:
        return self._count

    def mean_label_mm(self) -> torch.Tensor:
        """The mean fingertips over all samples, millimetres [12]. Raises DataError if there are no labels."""
        return _present(self._label_mm_N12).mean(dim=0)

    def batch(self, positions: Rows) -> Batch:
        """The samples at these positions, 0 to len - 1, in this order."""
        rgb_B9HW, depth_B3HW = self._store.take(positions)
        where = torch.from_numpy(positions).to(self._device)
        label_mm_B12 = None if self._label_mm_N12 is None else self._label_mm_N12[where]
        return Batch(rgb_B9HW, uint16_as_int32(depth_B3HW), label_mm_B12)


def _present(labels: torch.Tensor | None) -> torch.Tensor:
    if labels is None:
        raise DataError("the data set has no labels.npy, which training needs; pack it again with its labels")
    return labels


def uint16_as_int32(stored: torch.Tensor) -> torch.Tensor:
    """The bits of uint16, for which torch has few operations, kept in an int16 tensor: as int32 values."""
    return stored.to(torch.int32).bitwise_and_(UINT16_MASK)


class _Store(Protocol):
    def take(self, positions: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB, uint8, and depth, int16 bits of uint16, on the device."""


class _OnDevice:
    def __init__(self, split: PackedSplit, rows: Rows, device: torch.device) -> None:
        size = split.rgb.shape[2:]
        self._rgb = torch.empty((len(rows), split.rgb.shape[1], *size), dtype=torch.uint8, device=device)
        self._depth = torch.empty((len(rows), split.depth.shape[1], *size), dtype=torch.int16, device=device)
        disk = _OnDisk(split, rows, device)
        for positions in eval_batches(len(rows), UPLOAD_SAMPLES):
            part = slice(int(positions[0]), int(positions[-1]) + 1)
            self._rgb[part], self._depth[part] = disk.take(positions)

    def take(self, positions: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        where = torch.from_numpy(positions).to(self._rgb.device)
        return self._rgb[where], self._depth[where]


class _OnDisk:
    def __init__(self, split: PackedSplit, rows: Rows, device: torch.device) -> None:
        self._split, self._rows, self._device = split, rows, device

    def take(self, positions: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self._rows[positions]
        return self._copy(self._split.rgb, rows), self._copy(self._split.depth.view(np.int16), rows)

    def _copy(self, stored: NDArray[np.uint8] | NDArray[np.int16], rows: Rows) -> torch.Tensor:
        """Through pinned memory to a GPU; torch keeps that memory until the copy is over."""
        dtype = torch.uint8 if stored.dtype == np.uint8 else torch.int16
        staged = torch.empty(
            (len(rows), *stored.shape[1:]), dtype=dtype, pin_memory=self._device.type == "cuda"
        )
        target = staged.numpy()
        for position, row in enumerate(rows):
            target[position] = stored[row]
        return staged.to(self._device, non_blocking=True)


def _fits(split: PackedSplit, count: int, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    sample_bytes = (split.rgb.nbytes + split.depth.nbytes) // max(len(split.rgb), 1)
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return count * sample_bytes <= RESIDENT_SHARE * free_bytes


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """The positions 0 to count - 1 in an order that depends on (seed, epoch) only, cut into batches.

    Every batch has `batch_size` samples, except the last: it takes what is left, and a single sample left
    over joins the batch before it. DataError below two samples, ConfigError for a batch size below two.
    """
    if count < SMALLEST_BATCH:
        raise DataError(f"{count} training samples; at least {SMALLEST_BATCH} are needed for BatchNorm")
    if batch_size < SMALLEST_BATCH:
        raise ConfigError(
            f"train.batch_size {batch_size}; at least {SMALLEST_BATCH} are needed for BatchNorm"
        )
    source = np.random.SeedSequence(seed, spawn_key=(epoch,))
    order = np.random.Generator(np.random.PCG64(source)).permutation(count)
    cuts = np.arange(batch_size, count, batch_size)
    if len(cuts) and count - cuts[-1] < SMALLEST_BATCH:
        cuts = cuts[:-1]
    return np.split(order, cuts)


def eval_batches(count: int, batch_size: int) -> list[Rows]:
    """The positions 0 to count - 1 in order, cut into batches of at most `batch_size`."""
    positions = np.arange(count, dtype=np.int64)
    return [positions[start : start + batch_size] for start in range(0, count, batch_size)]
