import json

import numpy as np
import pytest
import torch

from pipeline.augment_config import AugmentConfig
from pipeline.config import DataConfig, RunConfig, TrainConfig
from pipeline.configfile import validated
from pipeline.data.dataset import Samples
from pipeline.data.pack import open_pack
from pipeline.data.transforms import Preprocess
from pipeline.errors import MemoryLimitError
from pipeline.microbatch import MemoryHints, NormMomentum, piece_sizes, smaller
from pipeline.models import build
from pipeline.optim import build_optimizer
from pipeline.paths import RunPaths
from pipeline.progress import Progress
from pipeline.runrecord import read_epochs
from pipeline.state import TrainState
from pipeline.stepper import Stepper
from pipeline.train import fit
from tests.memory import memory_for, no_memory_for_a_network

CPU = torch.device("cpu")
BATCH = 32


@pytest.mark.parametrize("count", range(2, 70))
@pytest.mark.parametrize("largest", [2, 3, 7, 16, 32])
def test_pieces_are_even_and_never_of_one(count, largest):
    sizes = piece_sizes(count, largest)
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    assert max(sizes) <= largest or (largest, max(sizes)) == (2, 3)


def test_33_by_7():
    assert piece_sizes(33, 7) == [7, 7, 7, 6, 6]


def test_the_size_is_halved_down_to_two():
    tried = [33]
    while (lower := smaller(tried[-1])) is not None:
        tried.append(lower)
    assert tried == [33, 17, 9, 5, 3, 2]


def test_running_statistics_move_as_far_as_with_one_piece():
    norm = torch.nn.BatchNorm1d(1, momentum=0.1)
    momentum = NormMomentum(norm)
    momentum.set_pieces(5)
    for _ in range(5):
        norm(torch.tensor([[1.0], [3.0]]))
    assert norm.running_mean.item() == pytest.approx(
        0.1 * 2.0
    )  # as one step of momentum 0.1 towards the mean 2
    momentum.set_pieces(1)
    assert norm.momentum == pytest.approx(0.1)


def gradients(name, blobs, micro_batch):
    """All gradients of one batch of 32 as a vector, and its loss."""
    split = open_pack(blobs).split("train")
    preprocess = Preprocess.from_moments(DataConfig(), split.moments, *split.rgb.shape[2:])
    torch.manual_seed(0)
    model = build(name, small=True, size=64).train()
    config = TrainConfig()
    state = TrainState(
        model,
        build_optimizer(model.parameters(), config),
        torch.amp.GradScaler("cpu", enabled=False),
        Progress(),
    )
    batch = Samples(split, np.arange(BATCH), CPU).batch(np.arange(BATCH))
    loss = Stepper(config, state, preprocess, CPU, micro_batch, AugmentConfig()).gradients(batch)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), loss


@pytest.fixture(scope="module")
def whole(blobs):
    """The gradients and the loss of one batch of 32 in one piece, by network."""
    return {name: gradients(name, blobs, BATCH) for name in ("convnext", "resnet50")}


def difference(pieces, whole, sizes):
    """Of the gradients, relative to their norm."""
    found = (torch.linalg.norm(pieces - whole) / torch.linalg.norm(whole)).item()
    print(f"relative difference of the gradients, {BATCH} in pieces of {sizes}: {found:.2g}")
    return found


@pytest.mark.parametrize("micro_batch", [16, 8, 7, 5, 2])
def test_without_batchnorm_gradients_equal_those_of_the_whole_batch(blobs, whole, micro_batch):
    pieces, loss_of_pieces = gradients("convnext", blobs, micro_batch)
    expected, loss = whole["convnext"]
    assert loss_of_pieces == pytest.approx(loss.item(), rel=1e-6)
    assert difference(pieces, expected, piece_sizes(BATCH, micro_batch)) < 1e-5


@pytest.mark.parametrize(("micro_batch", "most"), [(16, 0.4), (8, 0.7)])
def test_with_batchnorm_gradients_differ_as_each_piece_is_normalised_by_itself(
    blobs, whole, micro_batch, most
):
    pieces, _ = gradients("resnet50", blobs, micro_batch)
    assert 1e-4 < difference(pieces, whole["resnet50"][0], piece_sizes(BATCH, micro_batch)) < most


def config(batch_size=9):
    tree = {
        "model": {"name": "convnext", "small": True},
        "train": {"epochs": 2, "batch_size": batch_size},
        "device": "cpu",
    }
    return validated(RunConfig, tree)


def test_a_run_that_does_not_fit_goes_on_in_pieces_with_the_batch_that_was_asked_for(blobs, tmp_path):
    whole = fit(config(), blobs, RunPaths(tmp_path / "whole/run"))
    paths = RunPaths(tmp_path / "small/run")
    with memory_for(3):
        pieces = fit(config(), blobs, paths)
    assert [record.micro_batch for record in read_epochs(paths)] == [3, 3]
    assert pieces.rmse == pytest.approx(whole.rmse, rel=1e-3)  # ConvNeXt has no BatchNorm
    assert list(json.loads(paths.memory_hints.read_text()).values()) == [3]


def test_the_size_that_fitted_is_remembered_for_the_next_run(blobs, tmp_path, capsys):
    with memory_for(3):
        fit(config(), blobs, RunPaths(tmp_path / "one"))
        assert capsys.readouterr().err.count("out of memory") == 2  # with 9 and with 5 at once
        fit(config(batch_size=8), blobs, RunPaths(tmp_path / "two"))
    assert "out of memory" not in capsys.readouterr().err


def test_a_run_of_which_not_even_two_images_fit_fails_with_the_reason(blobs, tmp_path):
    paths = RunPaths(tmp_path / "run")
    said = "not even 2 samples of 64 pixels a side fit into the memory of cpu; a smaller network"
    with memory_for(1), pytest.raises(MemoryLimitError, match=said):
        fit(config(), blobs, paths)
    assert json.loads(paths.outcome.read_text())["reason"] == "CUDA_OOM"


def test_a_run_whose_network_does_not_fit_fails_with_the_reason_and_what_to_do(blobs, tmp_path):
    paths = RunPaths(tmp_path / "run")
    said = (
        "the network does not fit into the memory of cpu, even before the first step; a smaller network or a "
        "larger GPU would do, or one that no other process uses (CUDA out of memory (simulated))"
    )
    with no_memory_for_a_network(), pytest.raises(MemoryLimitError) as caught:
        fit(config(), blobs, paths)
    assert str(caught.value) == said
    assert json.loads(paths.outcome.read_text())["reason"] == "CUDA_OOM"


@pytest.mark.parametrize("content", ["", "[]", '{"net": "x"}', '{"net": 1}'])
def test_damaged_hints_are_no_hints(tmp_path, content):
    path = tmp_path / "memory.json"
    path.write_text(content)
    hints = MemoryHints(path, "net")
    assert hints.largest() is None
    hints.remember(4)
    assert hints.largest() == 4
