"""The packed data set: flat arrays that are written once and memory-mapped ever after.

Legend: 9HW = views 0, 1, 2, each red, green, blue; 3HW = depth of views 0, 1, 2 in millimetres; 12 = index,
middle, ring, thumb, each x, y, z in metres. `pipeline.packpaths.PackPaths` lists the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.config import Strict
from pipeline.configfile import validated
from pipeline.data.channels import COORDINATES, RGB_CHANNELS, VIEWS
from pipeline.data.moments import ROWS, SUMS, sample_moments
from pipeline.errors import ConfigError, DataError
from pipeline.packpaths import PackPaths, SplitPaths


@dataclass(frozen=True)
class Sample:
    """One frame: uint8 [9, H, W], uint16 millimetres [3, H, W], running number, metres [12] or None."""

    rgb_9HW: NDArray[np.uint8]
    depth_mm_3HW: NDArray[np.uint16]
    id: int
    label_m_12: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Summary:
    """What packing derives from a sample: its moments, float64 [15, 3], and the SHA-256 of its content."""

    moments: NDArray[np.float64]
    digest: bytes


class Meta(Strict):
    """What `meta.yaml` holds. `left_out` names what was damaged and skipped on request, samples or splits."""

    version: Literal[1] = 1
    source: str
    counts: dict[str, int]
    height: int
    width: int
    labelled: tuple[str, ...]
    fingerprint: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackedSplit:
    """Read-only memory maps of one split, as `pipeline.packpaths.SplitPaths` describes them."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    labels: NDArray[np.float64] | None
    ids: NDArray[np.int64]
    moments: NDArray[np.float64]


@dataclass(frozen=True)
class Pack:
    """An opened packed data set."""

    root: Path
    meta: Meta
    splits: Mapping[str, PackedSplit]

    def split(self, name: str) -> PackedSplit:
        """The split of that name; DataError if the set has none."""
        if name not in self.splits:
            raise DataError(f"{self.root}: has no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]


def summarise(sample: Sample) -> Summary:
    """The part of packing that costs time and can be done in another process than the writing."""
    content = hashlib.sha256(np.ascontiguousarray(sample.rgb_9HW).data)
    content.update(np.ascontiguousarray(sample.depth_mm_3HW).data)
    content.update(np.int64(sample.id).tobytes())
    if sample.label_m_12 is not None:
        content.update(np.asarray(sample.label_m_12, np.float64).tobytes())
    return Summary(sample_moments(sample.rgb_9HW, sample.depth_mm_3HW), content.digest())


def open_pack(root: Path) -> Pack:
    """Opens a packed data set without reading its pixels.

    Raises DataError if it is missing, of another version, or if an array's size or type is not what
    `meta.yaml` says.
    """
    paths = PackPaths(root)
    meta = _read_meta(paths)
    splits = {
        name: _open_split(paths.split(name), count, meta, name in meta.labelled)
        for name, count in meta.counts.items()
    }
    return Pack(root, meta, splits)


def _read_meta(paths: PackPaths) -> Meta:
    try:
        return validated(Meta, yaml.safe_load(paths.meta.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{paths.root}: not a packed data set (no meta.yaml); {_remedy(paths.root)}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ConfigError) as error:
        found = " ".join(str(error).split())
        raise DataError(f"{paths.meta}: cannot be used: {found}; pack the data again") from None


def _remedy(root: Path) -> str:
    if (root / "train" / "X").is_dir():
        return f"it is the raw layout: python -m pipeline.data.pack --raw {root} --out {root}-packed"
    return "make one with python -m pipeline.data.pack, or python -m pipeline.data.twin for a stand-in"


def _open_split(paths: SplitPaths, count: int, meta: Meta, labelled: bool) -> PackedSplit:
    size = (meta.height, meta.width)
    return PackedSplit(
        rgb=_open_array(paths.rgb, (count, RGB_CHANNELS, *size), np.uint8),
        depth=_open_array(paths.depth, (count, VIEWS, *size), np.uint16),
        labels=_open_array(paths.labels, (count, COORDINATES), np.float64) if labelled else None,
        ids=_open_array(paths.ids, (count,), np.int64),
        moments=_open_array(paths.moments, (count, ROWS, SUMS), np.float64),
    )


def _open_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: missing from the packed data set; pack the data again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); pack the data again") from None
    if array.shape != shape or array.dtype != dtype:
        found, expected = f"{array.dtype} {list(array.shape)}", f"{np.dtype(dtype)} {list(shape)}"
        raise DataError(f"{path}: holds {found}, but meta.yaml says {expected}; pack the data again")
    return array
