import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.pack import PackWriter, Sample, open_pack
from pipeline.errors import DataError

SampleOf = Callable[..., Sample]
HEIGHT, WIDTH = 6, 8


def write(root: Path, count: int, *samples: tuple[int, Sample]) -> None:
    with PackWriter(root, {"train": count}, HEIGHT, WIDTH) as writer:
        for index, sample in samples:
            writer.write("train", index, sample)


def test_the_writer_refuses_gaps(tmp_path: Path, sample_of: SampleOf) -> None:
    with pytest.raises(DataError, match="train: 1 of 3 samples, the first of them 1, were never written"):
        write(tmp_path / "packed", 3, (2, sample_of(2)), (0, sample_of(0)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {}, "train sample 1: must be written once, with a number from 0 to 2"),
        (3, {}, "train sample 3: must be written once, with a number from 0 to 2"),
        (0, {"label_m_12": None}, "train sample 0: this split expects a label for each sample"),
        (
            0,
            {"rgb_9HW": np.zeros((9, 8, 6), np.uint8)},
            r"found uint8 \[9, 8, 6\]; expected uint8 \[9, 6, 8\]",
        ),
        (0, {"depth_mm_3HW": np.zeros((3, 6, 8), np.int32)}, r"found int32 .*; expected uint16 \[3, 6, 8\]"),
    ],
)
def test_the_writer_refuses_what_does_not_fit(
    tmp_path: Path, sample_of: SampleOf, index: int, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path / "packed", 3, (1, sample_of(1)), (index, replace(sample_of(0), **change)))
    assert os.listdir(tmp_path) == []


def test_the_writer_refuses_a_repeated_id(tmp_path: Path, sample_of: SampleOf) -> None:
    with pytest.raises(DataError, match="train: the id 1000 occurs more than once"):
        write(tmp_path / "packed", 2, (0, sample_of(0)), (1, sample_of(0)))


def test_the_order_of_writing_does_not_matter(tmp_path: Path, sample_of: SampleOf) -> None:
    write(tmp_path / "forth", 2, (0, sample_of(0)), (1, sample_of(1)))
    write(tmp_path / "back", 2, (1, sample_of(1)), (0, sample_of(0)))
    forth, back = open_pack(tmp_path / "forth"), open_pack(tmp_path / "back")
    assert forth.meta == back.meta
    assert np.array_equal(forth.split("train").rgb, back.split("train").rgb)


def test_a_disk_that_is_too_small_is_refused_before_it_fills_up(tmp_path: Path) -> None:
    message = "No space left on device: 9000000.00 GB are needed, .* GB are free; free some space or choose"
    with pytest.raises(DataError, match=message), PackWriter(tmp_path / "p", {"train": 6}, 10**7, 10**7):
        pass
    assert os.listdir(tmp_path) == []


def test_a_limit_on_file_sizes_is_an_error_and_no_signal(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with (
            pytest.raises(DataError, match=r"File too large: 0\.01 GB are needed"),
            PackWriter(tmp_path / "p", {"train": 10}, 224, 224),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []
