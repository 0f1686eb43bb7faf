"""Renders a whole stand-in data set, into packed arrays or into the raw layout."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import TwinConfig
from pipeline.data.channels import VIEWS
from pipeline.data.freshfolder import fresh_folder
from pipeline.data.packed import Sample, Summary, summarise
from pipeline.data.packwriter import PackWriter
from pipeline.data.twin.randomness import Purpose, generator
from pipeline.data.twin.recording import Recording
from pipeline.data.workers import in_order
from pipeline.errors import DataError

SPLITS = ("train", "test")
NOTICE = "RENDERED.txt"  # in the raw layout, which has no other place to say that it is not recorded data
RENDERED = "rendered by pipeline.data.twin"  # how the source of every rendered data set begins
FRAMES_PER_PROCESS = 40  # starting a process pays from about this many on


@dataclass(frozen=True)
class Place:
    """Where a sample goes and which frame of the recording it is."""

    split: str
    index: int
    position: int


def places(config: TwinConfig) -> list[Place]:
    """Every sample of the data set: one recording, shuffled and cut into train and test.

    So indices are in random order, ids are temporal and test frames lie between training frames, as in the
    recorded data set.
    """
    counts = {"train": config.train, "test": config.test}
    positions = iter(generator(config.seed, Purpose.SHUFFLE).permutation(sum(counts.values())).tolist())
    return [Place(split, index, next(positions)) for split in SPLITS for index in range(counts[split])]


def silent() -> None:
    """Shows no progress."""


def render_pack(
    root: Path, config: TwinConfig, processes: int | None = None, step: Callable[[], None] = silent
) -> None:
    """Renders the data set straight into packed arrays at `root`; both splits are labelled.

    The bytes depend on `config` only, not on `processes` (default: one per CPU, fewer for small sets).
    `step` is called after each sample. Raises DataError if `root` holds something already, the disk is too
    small or a process dies.
    """
    claim(root)
    todo = places(config)
    counts = {"train": config.train, "test": config.test}
    with (
        PackWriter(root, counts, config.size, config.size, SPLITS, _source(config)) as writer,
        in_order(partial(_packable, config), todo, _processes(processes, len(todo))) as rendered,
    ):
        for place, (sample, summary) in zip(todo, rendered, strict=True):
            writer.write(place.split, place.index, sample, summary)
            step()


def write_raw(
    root: Path, config: TwinConfig, processes: int | None = None, step: Callable[[], None] = silent
) -> None:
    """Renders the data set into the raw layout at `root`, whole or not at all; only train has labels.

    Raises DataError as `render_pack` does.
    """
    claim(root)
    todo = places(config)
    try:
        with fresh_folder(root) as folder:
            (folder / "train" / "Y").mkdir(parents=True)
            (folder / NOTICE).write_text(f"{_source(config)}\n", encoding="utf-8")
            work = partial(_write_raw_sample, config, folder)
            with in_order(work, todo, _processes(processes, len(todo))) as written:
                for _ in written:
                    step()
    except OSError as error:
        raise DataError(f"{root}: cannot be written: {error.strerror or error}") from error


def claim(root: Path) -> None:
    """Makes sure that a new data set may appear at `root`; an empty folder there is removed."""
    try:
        root.rmdir()  # the one check that nobody can come between
    except FileNotFoundError:
        return
    except OSError as error:
        full = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
        found = "exists and is not empty" if full else f"cannot be made afresh ({error.strerror})"
        raise DataError(f"{root}: {found}; choose another folder or remove this one first") from None


def is_rendered(source: str) -> bool:
    """Whether a pack whose `meta.yaml` has this source was rendered here, by cameras that are known."""
    return source.startswith(RENDERED)


def _processes(wanted: int | None, frames: int) -> int:
    return wanted or max(1, min(len(os.sched_getaffinity(0)), frames // FRAMES_PER_PROCESS))


def _source(config: TwinConfig) -> str:
    return (
        f"{RENDERED}: not recorded data; seed {config.seed}, size {config.size}, "
        f"recording of {config.train + config.test} frames"
    )


@lru_cache(maxsize=1)
def _recording(seed: int, frames: int, size: int) -> Recording:
    return Recording(seed, frames, size)


def _sample(config: TwinConfig, place: Place) -> Sample:
    return _recording(config.seed, config.train + config.test, config.size).sample(place.position)


def _packable(config: TwinConfig, place: Place) -> tuple[Sample, Summary]:
    sample = _sample(config, place)
    return sample, summarise(sample)


def _write_raw_sample(config: TwinConfig, folder: Path, place: Place) -> None:
    sample = _sample(config, place)
    root = folder / place.split / "X" / str(place.index)
    (root / "rgb").mkdir(parents=True)
    for view, rgb_3HW in enumerate(np.split(sample.rgb_9HW, VIEWS)):
        Image.fromarray(np.ascontiguousarray(rgb_3HW.transpose(1, 2, 0))).save(root / "rgb" / f"{view}.png")
    np.save(root / "depth.npy", sample.depth_mm_3HW)
    (root / "field_id.pkl").write_bytes(pickle.dumps(str(sample.id)))
    if place.split == "train":
        np.save(folder / "train" / "Y" / f"{place.index}.npy", np.asarray(sample.label_m_12))
