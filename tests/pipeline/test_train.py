import itertools
import json

import pytest
import timm
import torch

from pipeline.checkpoint import read_checkpoint
from pipeline.config import RunConfig
from pipeline.configfile import validated
from pipeline.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    InterruptedRunError,
    SupersededError,
)
from pipeline.paths import RunPaths
from pipeline.provenance import Purpose
from pipeline.runrecord import RunRecord, lock_run, read_epochs, read_json, read_run
from pipeline.train import fit

TIMED = {"seconds", "images_per_s", "data_wait", "gpu_util", "peak_memory_gb"}


def make_config(epochs=3, seed=1, split="head:0.7", **train):
    tree = {
        "model": {"name": "resnet50", "small": True},
        "data": {"split": split},
        "train": {"epochs": epochs, "batch_size": 9, "scheduler": {"name": "cosine"}, **train},
        "seed": seed,
        "device": "cpu",
        "checkpoint_every_s": 0,
    }
    return validated(RunConfig, tree)


class Reports(list):
    """Keeps what it is told; raises `error` once it was told of epoch `stop_at`."""

    def __init__(self, stop_at=None, error=SystemExit):
        self.stop_at, self.error = stop_at, error

    def __call__(self, *, epoch, rmse, seconds):
        self.append((epoch, rmse))
        if epoch == self.stop_at:
            raise self.error


def results(paths):
    """Everything a run leaves that must not depend on interruptions."""
    lines = [json.loads(line) for line in paths.epochs.read_text().splitlines()]
    untimed = [{key: value for key, value in line.items() if key not in TIMED} for line in lines]
    return untimed, read_checkpoint(paths.best)


def assert_equal_runs(one, other):
    (epochs, best), (other_epochs, other_best) = results(one), results(other)
    assert epochs == other_epochs
    assert best.pop("model").keys() == other_best["model"].keys()
    weights = read_checkpoint(one.best)["model"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in other_best.pop("model").items())
    assert best == other_best


@pytest.fixture(scope="module")
def uninterrupted(blobs, tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("whole") / "run")
    return paths, fit(make_config(), blobs, paths)


def test_a_run_leaves_its_record_and_only_the_best_weights(uninterrupted, blobs):
    paths, result = uninterrupted
    names = {path.name for path in paths.root.iterdir()}
    assert names == {
        "run.yaml",
        "epochs.jsonl",
        "outcome.json",
        "owner.json",
        "best.pt",
        "best.json",
        "run.lock",
    }
    assert result.checkpoint == paths.best
    assert result.rmse == min(record.rmse for record in read_epochs(paths))
    assert read_json(paths.best_epoch) == {"epoch": result.best_epoch, "rmse": result.rmse}
    assert read_json(paths.outcome)["status"] == "completed"
    record = read_run(paths)
    assert record["samples"] == {"train": 28, "validation": 12}
    assert record["config"] == make_config().model_dump(mode="json")


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_run_stopped_between_epochs_goes_on_as_if_it_had_not_been(uninterrupted, blobs, tmp_path, stop_at):
    paths, reports = RunPaths(tmp_path / "run"), Reports()
    with pytest.raises(SystemExit):
        fit(make_config(), blobs, paths, Reports(stop_at))
    fit(make_config(), blobs, paths, reports)
    assert [epoch for epoch, _ in reports] == [1, 2, 3]
    assert_equal_runs(paths, uninterrupted[0])


def test_the_average_of_the_weights_is_validated_kept_and_resumed(blobs, tmp_path):
    whole, cut = RunPaths(tmp_path / "whole"), RunPaths(tmp_path / "cut")
    result = fit(make_config(ema_epochs=2), blobs, whole)
    records = read_epochs(whole)
    assert all(record.rmse_ema is not None and record.rmse_ema != record.rmse for record in records)
    assert result.rmse == min(min(record.rmse, record.rmse_ema) for record in records)
    with pytest.raises(SystemExit):
        fit(make_config(ema_epochs=2), blobs, cut, Reports(stop_at=2))
    fit(make_config(ema_epochs=2), blobs, cut)
    assert_equal_runs(cut, whole)


@pytest.mark.parametrize(("steps", "saved"), [(1, (0, 1)), (3, (0, 3)), (4, (1, 1))])
def test_a_run_that_is_asked_to_stop_saves_at_the_next_step(uninterrupted, blobs, tmp_path, steps, saved):
    """Whether the step is inside an epoch or its last one."""
    paths, calls = RunPaths(tmp_path / "run"), itertools.count(1)
    with pytest.raises(InterruptedRunError, match="stopped and saved after step .* goes on from there"):
        fit(make_config(), blobs, paths, asked_to_stop=lambda: next(calls) == steps)
    progress = read_checkpoint(paths.latest)["progress"]
    assert (progress["epoch"], progress["step"]) == saved
    assert not paths.outcome.exists()
    fit(make_config(), blobs, paths)
    assert_equal_runs(paths, uninterrupted[0])


@pytest.mark.parametrize("damage", [b"", b"PK half a checkpoint"])
def test_a_damaged_checkpoint_costs_time_and_nothing_else(uninterrupted, blobs, tmp_path, damage, capsys):
    paths = RunPaths(tmp_path / "run")
    with pytest.raises(SystemExit):
        fit(make_config(), blobs, paths, Reports(stop_at=2))
    known = read_epochs(paths)
    paths.latest.write_bytes(damage)
    fit(make_config(), blobs, paths)
    assert "latest.pt: not a checkpoint, or a damaged one" in capsys.readouterr().err
    assert read_epochs(paths)[: len(known)] == known
    assert_equal_runs(paths, uninterrupted[0])


class CutError(Exception):
    pass


def test_a_run_cut_in_the_middle_of_an_epoch_ends_as_if_it_had_not_been(uninterrupted, blobs, tmp_path):
    """Cut in the forward pass of the second step; the first is on disk by then."""
    paths, calls = RunPaths(tmp_path / "run"), itertools.count(1)

    def cut(module, inputs):
        if isinstance(module, timm.models.ResNet) and module.training and next(calls) == 2:
            raise CutError

    handle = torch.nn.modules.module.register_module_forward_pre_hook(cut)
    try:
        with pytest.raises(CutError):
            fit(make_config(), blobs, paths)
    finally:
        handle.remove()
    progress = read_checkpoint(paths.latest)["progress"]
    assert (progress["epoch"], progress["step"]) == (0, 1)
    fit(make_config(), blobs, paths)
    assert_equal_runs(paths, uninterrupted[0])


def test_an_epoch_that_others_have_acted_on_keeps_its_first_measurement(blobs, tmp_path):
    """As on a GPU, where training again gives other numbers: here the first attempt's record is changed."""
    paths, reports = RunPaths(tmp_path / "run"), Reports()
    with pytest.raises(SystemExit):
        fit(make_config(), blobs, paths, Reports(stop_at=2))
    paths.latest.unlink()  # so that epochs 1 and 2 are trained again
    first, second = (json.loads(line) for line in paths.epochs.read_text().splitlines())
    second["rmse"] = 0.001
    paths.epochs.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    result = fit(make_config(), blobs, paths, reports)
    assert (result.rmse, result.best_epoch, reports[1]) == (0.001, 2, (2, 0.001))
    assert read_json(paths.best_epoch)["rmse"] != 0.001, "the weights on disk never had that RMSE"


def test_a_completed_run_is_reported_again_and_not_trained_again(uninterrupted, blobs):
    paths, result = uninterrupted
    before, reports = paths.best.stat().st_mtime_ns, Reports()
    assert fit(make_config(), blobs, paths, reports) == result
    assert [epoch for epoch, _ in reports] == [1, 2, 3]
    assert paths.best.stat().st_mtime_ns == before


def test_another_configuration_is_refused_in_the_same_folder(uninterrupted, blobs):
    with pytest.raises(
        CheckpointError, match="holds a run with config_hash .* give another folder or remove"
    ):
        fit(make_config(seed=2), blobs, uninterrupted[0])


def test_other_data_are_refused_in_the_same_folder(uninterrupted, tmp_path, pack_maker):
    other = pack_maker(tmp_path / "other", train=12, test=2)
    with pytest.raises(CheckpointError, match="holds a run with data_fingerprint"):
        fit(make_config(), other, uninterrupted[0])


def test_a_diverging_run_ends_with_a_name_and_a_remedy(blobs, tmp_path):
    paths = RunPaths(tmp_path / "run")
    with pytest.raises(DivergedError, match=r"not finite .* lower train.lr"):
        fit(make_config(optimizer="sgd", lr=1e30), blobs, paths)
    outcome = read_json(paths.outcome)
    assert (outcome["status"], outcome["reason"]) == ("failed", "DIVERGED")


def test_a_run_on_all_the_data_keeps_its_last_weights(blobs, tmp_path):
    paths, reports = RunPaths(tmp_path / "run"), Reports()
    result = fit(make_config(epochs=1, split="full"), blobs, paths, reports)
    assert (result.rmse, result.checkpoint) == (None, paths.final)
    assert not paths.best.exists()
    assert read_checkpoint(paths.final)["epoch"] == 1
    assert [record.rmse for record in read_epochs(paths)] == [None]


def test_an_absent_gpu_is_an_error_that_says_what_to_do(blobs, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    config = make_config().model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"torch sees no GPU .* or set device=cpu"):
        fit(config, blobs, RunPaths(tmp_path / "run"))


def test_a_run_that_another_process_trains_is_refused(blobs, tmp_path):
    paths = RunPaths(tmp_path / "run")
    with lock_run(paths), pytest.raises(CheckpointError, match="another process is training this run; wait"):
        fit(make_config(), blobs, paths)
    assert not paths.owner.exists()


def test_an_attempt_that_was_replaced_writes_nothing(blobs, tmp_path):
    from pipeline.data.pack import open_pack

    paths, pack = RunPaths(tmp_path / "run"), open_pack(blobs)
    zombie = RunRecord(paths, make_config(), pack, Purpose(), attempt=1)
    RunRecord(paths, make_config(), pack, Purpose(), attempt=2)
    with pytest.raises(SupersededError, match="another attempt has taken this run over"):
        zombie.end("completed")
    with pytest.raises(SupersededError, match="attempt 2 owns this run, this is 1"):
        RunRecord(paths, make_config(), pack, Purpose(), attempt=1)
    assert not paths.outcome.exists()


@pytest.mark.parametrize(
    "option", [{"optimizer": "adamw", "weight_decay": 0.1}, {"loss": "smooth_l1"}, {"clip_norm": 1.0}]
)
def test_options_change_the_result(uninterrupted, blobs, tmp_path, option):
    result = fit(make_config(**option), blobs, RunPaths(tmp_path / "run"))
    assert result.rmse != uninterrupted[1].rmse
