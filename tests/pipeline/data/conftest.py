"""Raw data sets made of real files, and packed ones, small enough for unit tests."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.pack import PackedSplit, PackWriter, Sample, open_pack

HEIGHT, WIDTH = 6, 8


def random_sample(number: int, labelled: bool = True) -> Sample:
    random = np.random.default_rng(number)
    depth = random.integers(0, 65536, (3, HEIGHT, WIDTH), dtype=np.uint16)
    depth[:, :2] = random.integers(1, 3000, (3, 2, WIDTH), dtype=np.uint16)
    depth[:, 2], depth[:, 3] = 0, 65535
    return Sample(
        rgb_9HW=random.integers(0, 256, (9, HEIGHT, WIDTH), dtype=np.uint8),
        depth_mm_3HW=depth,
        id=1000 + 7 * number,
        label_m_12=random.uniform(-0.1, 0.1, 12) if labelled else None,
    )


def write_raw_sample(split: Path, folder: int, sample: Sample) -> None:
    """One sample of the raw layout; depth as float32 for even folders, uint16 for odd ones."""
    target = split / "X" / str(folder)
    (target / "rgb").mkdir(parents=True)
    for view in range(3):
        pixels = sample.rgb_9HW[3 * view : 3 * view + 3].transpose(1, 2, 0)
        Image.fromarray(pixels).save(target / "rgb" / f"{view}.png")
    depth = sample.depth_mm_3HW.astype(np.float32) if folder % 2 == 0 else sample.depth_mm_3HW
    np.save(target / "depth.npy", depth)
    (target / "field_id.pkl").write_bytes(pickle.dumps(str(sample.id)))
    if sample.label_m_12 is not None:
        (split / "Y").mkdir(exist_ok=True)
        np.save(split / "Y" / f"{folder}.npy", sample.label_m_12)


@pytest.fixture(scope="session")
def raw_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training samples, so that 10 comes after 9, and three test samples."""
    root = tmp_path_factory.mktemp("raw")
    for number in range(12):
        write_raw_sample(root / "train", number, random_sample(number))
    for number in range(3):
        write_raw_sample(root / "test", number, random_sample(100 + number, labelled=False))
    return root


@pytest.fixture
def raw(raw_template: Path, tmp_path: Path) -> Path:
    """A copy of the raw data set, to be damaged at will."""
    return Path(shutil.copytree(raw_template, tmp_path / "raw", copy_function=shutil.copyfile))


@pytest.fixture
def sample_of() -> Callable[..., Sample]:
    return random_sample


@pytest.fixture
def packed_split(tmp_path: Path) -> PackedSplit:
    """Seven labelled samples, numbers 0 to 6 of `sample_of`."""
    with PackWriter(tmp_path / "packed", {"train": 7}, HEIGHT, WIDTH) as writer:
        for number in range(7):
            writer.write("train", number, random_sample(number))
    return open_pack(tmp_path / "packed").split("train")


def as_tensors(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """What trainX.pt holds."""
    rgb = np.stack([sample.rgb_9HW.reshape(3, 3, *sample.rgb_9HW.shape[1:]) for sample in samples])
    depth = np.stack([sample.depth_mm_3HW for sample in samples]).astype(np.int32)
    return torch.from_numpy(rgb), torch.from_numpy(depth), [str(sample.id) for sample in samples]


@pytest.fixture
def raw_tensors(tmp_path: Path) -> Path:
    """The samples of the fixture `raw`, as tensors."""
    folder = tmp_path / "tensors"
    folder.mkdir()
    train = [random_sample(number) for number in range(12)]
    test = [random_sample(100 + number, labelled=False) for number in range(3)]
    torch.save(as_tensors(train), folder / "trainX.pt")
    torch.save(as_tensors(test), folder / "testX.pt")
    torch.save(torch.tensor(np.stack([sample.label_m_12 for sample in train])), folder / "trainY.pt")
    return folder
