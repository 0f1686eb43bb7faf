"""Writes a packed data set: all of it or nothing.

Legend: see `pipeline.data.packed`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.data.channels import COORDINATES, RGB_CHANNELS, VIEWS
from pipeline.data.freshfolder import fresh_folder
from pipeline.data.moments import ROWS, SUMS
from pipeline.data.packed import Meta, Sample, Summary, summarise
from pipeline.errors import DataError
from pipeline.packpaths import PackPaths, SplitPaths
from pipeline.paths import write_text_atomically
from pipeline.units import BYTES_PER_GB


class ArrayFile:
    """A .npy file written a row at a time.

    Its space is reserved when it is made, so a disk that is too small shows at once; it is written as a file
    and not through a map, where a disk that fills up all the same would end the process with SIGBUS.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._row_bytes = int(np.prod(shape[1:])) * self._dtype.itemsize
        self._handle = path.open("w+b")
        try:
            self._data_at = self._write_header(shape[0])
            os.posix_fallocate(self._handle.fileno(), 0, self._data_at + shape[0] * self._row_bytes)
        except BaseException:
            self._handle.close()
            raise

    def _write_header(self, rows: int) -> int:
        """Writes the header, whose length numpy keeps free of the row count, and returns its length."""
        self._handle.seek(0)
        fields = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (rows, *self._shape[1:]),
        }
        np.lib.format.write_array_header_1_0(self._handle, fields)
        return self._handle.tell()

    def write(self, row: int, values: NDArray[Any]) -> None:
        """Writes one row."""
        self._handle.seek(self._data_at + row * self._row_bytes)
        self._handle.write(np.ascontiguousarray(values, self._dtype).data)

    def finish(self, rows: int) -> None:
        """Cuts the file down to its first `rows` rows and makes it durable."""
        if self._write_header(rows) != self._data_at:
            raise RuntimeError("numpy's header changed its length with the row count")
        self._handle.flush()
        os.ftruncate(self._handle.fileno(), self._data_at + rows * self._row_bytes)
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._handle.close()


class SplitWriter:
    """Writes the arrays of one split; small ones are kept in memory until `finish`."""

    def __init__(self, paths: SplitPaths, count: int, size: tuple[int, int], labelled: bool) -> None:
        self.paths, self.count, self.size = paths, count, size
        self.digests: list[bytes] = [b""] * count
        self.ids = np.zeros(count, np.int64)
        self.moments = np.zeros((count, ROWS, SUMS))
        self.labels = np.zeros((count, COORDINATES)) if labelled else None
        paths.root.mkdir()
        with ExitStack() as stack:
            self._rgb = ArrayFile(paths.rgb, (count, RGB_CHANNELS, *size), np.uint8)
            stack.callback(self._rgb.close)
            self._depth = ArrayFile(paths.depth, (count, VIEWS, *size), np.uint16)
            stack.callback(self._depth.close)
            self.close = stack.pop_all().close

    def write(self, index: int, sample: Sample, summary: Summary) -> None:
        """Writes one sample. DataError if it does not fit this split."""
        self._check(index, sample)
        self._rgb.write(index, sample.rgb_9HW)
        self._depth.write(index, sample.depth_mm_3HW)
        self.ids[index], self.moments[index] = sample.id, summary.moments
        if self.labels is not None:
            self.labels[index] = sample.label_m_12
        self.digests[index] = summary.digest

    def _check(self, index: int, sample: Sample) -> None:
        where = f"{self.paths.root.name} sample {index}"
        if not 0 <= index < self.count or self.digests[index]:
            raise DataError(f"{where}: must be written once, with a number from 0 to {self.count - 1}")
        if (sample.label_m_12 is not None) != (self.labels is not None):
            expected = "a label" if self.labels is not None else "no label"
            raise DataError(f"{where}: this split expects {expected} for each sample")
        for array, channels, dtype in (
            (sample.rgb_9HW, RGB_CHANNELS, np.uint8),
            (sample.depth_mm_3HW, VIEWS, np.uint16),
        ):
            if array.shape != (channels, *self.size) or array.dtype != dtype:
                expected = f"{np.dtype(dtype)} {[channels, *self.size]}"
                raise DataError(f"{where}: found {array.dtype} {list(array.shape)}; expected {expected}")

    def truncate(self, count: int) -> None:
        """Keeps the first `count` samples only."""
        self.count = count
        del self.digests[count:]

    def finish(self) -> None:
        """Writes the small arrays and makes everything durable. DataError for gaps or repeated ids."""
        missing = [index for index, digest in enumerate(self.digests) if not digest]
        if missing:
            found = f"{len(missing)} of {self.count} samples, the first of them {missing[0]}"
            raise DataError(f"{self.paths.root.name}: {found}, were never written")
        numbers, times = np.unique(self.ids[: self.count], return_counts=True)
        if (times > 1).any():
            raise DataError(f"{self.paths.root.name}: the id {numbers[times > 1][0]} occurs more than once")
        self._rgb.finish(self.count)
        self._depth.finish(self.count)
        _save(self.paths.ids, self.ids[: self.count])
        _save(self.paths.moments, self.moments[: self.count])
        if self.labels is not None:
            _save(self.paths.labels, self.labels[: self.count])


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as handle:
        np.save(handle, array)
        handle.flush()
        os.fsync(handle.fileno())


class PackWriter:
    """Writes a packed data set; a context manager.

    The samples of each split may come in any order. When the block ends without an exception, the folder
    `root` appears, complete; otherwise nothing is left. Raises DataError if `root` exists, the disk is too
    small, a sample does not fit or one is missing.

    Args:
        root: the folder to make.
        counts: samples of each split, as in {"train": 3396, "test": 849}.
        height: pixels of each view.
        width: pixels of each view.
        labelled: the splits whose samples have labels.
        source: where the samples come from, kept in `meta.yaml`.
    """

    def __init__(
        self,
        root: Path,
        counts: Mapping[str, int],
        height: int,
        width: int,
        labelled: Sequence[str] = ("train",),
        source: str = "",
    ) -> None:
        self._root, self._source = root, source
        self._counts, self._size = dict(counts), (height, width)
        self._labelled = tuple(name for name in counts if name in labelled)
        self._left_out: list[str] = []

    def __enter__(self) -> PackWriter:
        if self._root.exists():
            raise DataError(f"{self._root}: exists already; choose another folder or remove this one")
        with self._disk_errors(), ExitStack() as stack:
            if self._bytes_needed() > self._bytes_free():  # reserving would fill the disk before it fails
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._paths = PackPaths(stack.enter_context(fresh_folder(self._root)))
            self._splits: dict[str, SplitWriter] = {}
            for name, count in self._counts.items():
                writer = SplitWriter(self._paths.split(name), count, self._size, name in self._labelled)
                stack.callback(writer.close)
                self._splits[name] = writer
            stack.push(self._complete)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._disk_errors():
            self._stack.__exit__(kind, error, trace)

    def write(self, split: str, index: int, sample: Sample, summary: Summary | None = None) -> None:
        """Writes sample number `index` of a split; `summary` if another process has made it already."""
        with self._disk_errors():
            self._splits[split].write(index, sample, summary or summarise(sample))

    def truncate(self, split: str, kept: int) -> None:
        """Shrinks a split to its first `kept` samples."""
        self._splits[split].truncate(kept)

    def leave_out(self, names: Sequence[str]) -> None:
        """Records the names of samples that are not in the set, and of whole splits."""
        self._left_out.extend(names)

    def _complete(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        for split in self._splits.values():
            split.finish()
        height, width = self._size
        meta = Meta(
            source=self._source,
            counts={name: split.count for name, split in self._splits.items()},
            height=height,
            width=width,
            labelled=self._labelled,
            fingerprint=self._fingerprint(),
            left_out=tuple(self._left_out),
        )
        write_text_atomically(self._paths.meta, yaml.safe_dump(meta.model_dump(mode="json"), sort_keys=False))

    def _fingerprint(self) -> str:
        """A hash over the samples' hashes in order, so it does not depend on who wrote them when."""
        content = hashlib.sha256()
        for name, split in self._splits.items():
            content.update(f"{name} {split.count} {self._size}\n".encode())
            content.update(b"".join(split.digests))
        return content.hexdigest()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._root}: {self._explain(error)}") from error

    def _explain(self, error: OSError) -> str:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"cannot be written: {error.strerror or error}"
        needed, free = self._bytes_needed() / BYTES_PER_GB, self._bytes_free() / BYTES_PER_GB
        return (
            f"{error.strerror}: {needed:.2f} GB are needed, {free:.2f} GB are free; "
            "free some space or choose a folder on another disk"
        )

    def _bytes_needed(self) -> int:
        height, width = self._size
        sample_bytes = height * width * (RGB_CHANNELS + VIEWS * np.dtype(np.uint16).itemsize)
        return sum(self._counts.values()) * sample_bytes

    def _bytes_free(self) -> int:
        nearest = next(parent for parent in self._root.absolute().parents if parent.exists())
        return shutil.disk_usage(nearest).free
