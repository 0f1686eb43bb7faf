"""Augmentation as a part of training: seeded by the step's place, resumed alike, never in validation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.augment_config import AugmentConfig
from pipeline.config import RunConfig, TrainConfig
from pipeline.configfile import validated
from pipeline.data.augment import AUGMENTATIONS
from pipeline.data.dataset import Batch, Samples
from pipeline.data.pack import PackedSplit, open_pack
from pipeline.data.transforms import Preprocess
from pipeline.optim import build_optimizer
from pipeline.paths import RunPaths
from pipeline.predict import predict
from pipeline.progress import Progress
from pipeline.state import TrainState
from pipeline.stepper import Stepper
from pipeline.train import fit

CPU = torch.device("cpu")
HEIGHT, WIDTH = 6, 8
ALL = {name: {"probability": 1.0} for name in AUGMENTATIONS}


@pytest.fixture
def batch(packed_split: PackedSplit) -> Batch:
    """Seven samples."""
    rows = np.arange(len(packed_split.ids))
    return Samples(packed_split, rows, CPU).batch(rows)


class Spy(torch.nn.Module):
    """A network that keeps the images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(12, 12)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        out: torch.Tensor = self.layer(images.mean(dim=(-2, -1)))
        return out


def spied(micro_batch: int) -> tuple[Stepper, Spy]:
    preprocess = Preprocess(HEIGHT, WIDTH, "rgbd", "report", (0.0,) * 9, (1.0,) * 9, (0.0,) * 3, (1.0,) * 3)
    model, config = Spy(), TrainConfig()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, build_optimizer(model.parameters(), config), scaler, Progress())
    return Stepper(config, state, preprocess, CPU, micro_batch, AugmentConfig(**ALL)), model


def test_pieces_of_a_batch_hold_the_images_of_the_whole_batch(batch: Batch) -> None:
    images = {}
    for micro_batch in (7, 3, 2):
        stepper, spy = spied(micro_batch)
        stepper.step(batch, lr=1e-3, seed=(1, 1, 4, 2))
        images[micro_batch] = torch.cat(spy.seen)
    assert torch.equal(images[7], images[3])
    assert torch.equal(images[7], images[2])


def test_a_step_augments_by_its_place_in_the_run_and_prediction_never_does(batch: Batch) -> None:
    stepper, spy = spied(len(batch))
    for place in ((1, 1, 4, 2), (1, 1, 4, 2), (1, 1, 4, 3), (2, 1, 4, 2)):
        stepper.step(batch, lr=1e-3, seed=place)
    stepper.predict(batch)
    first, again, other_step, other_seed, predicted = spy.seen
    assert torch.equal(first, again)
    assert not torch.equal(first, other_step)
    assert not torch.equal(first, other_seed)
    torch.testing.assert_close(predicted[:, 9:], batch.depth_mm_B3HW / 1000)


def run_config(**data: Any) -> RunConfig:
    tree = {
        "model": {"name": "resnet50", "small": True},
        "data": {"split": "head:0.7", **data},
        "train": {"epochs": 2, "batch_size": 9},
        "device": "cpu",
        "checkpoint_every_s": 0,
    }
    return validated(RunConfig, tree)


class StopError(Exception):
    pass


def stop(*, epoch: int, rmse: float, seconds: float) -> None:
    raise StopError


def test_training_is_augmented_resumed_alike_and_validated_on_plain_images(
    pack_maker: Callable[..., Path], tmp_path: Path
) -> None:
    root = pack_maker(tmp_path / "pack", train=24, test=2, size=32)
    plain = fit(run_config(), root, RunPaths(tmp_path / "plain"))
    config = run_config(augment=ALL)
    whole = fit(config, root, RunPaths(tmp_path / "whole"))
    assert whole.rmse != plain.rmse
    paths = RunPaths(tmp_path / "cut")
    with pytest.raises(StopError):
        fit(config, root, paths, stop)
    assert fit(config, root, paths).rmse == whole.rmse
    split = open_pack(root).split("train")
    predicted = predict([whole.checkpoint], split, CPU)[16:]
    assert split.labels is not None
    rmse = float(np.sqrt(np.mean((predicted - split.labels[16:]) ** 2)))
    assert rmse == pytest.approx(whole.rmse, rel=1e-5)
