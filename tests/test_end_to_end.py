"""The commands of the README in processes of their own, and what is left when one is killed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.configfile import shipped
from pipeline.data.pack import open_pack
from pipeline.data.split import split_indices
from pipeline.paths import Workspace
from pipeline.predict import rmse_m
from pipeline.records import Epoch, read_journal
from pipeline.trials import fold
from tune.journal import read_driver

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

QUICK_START_S = 300  # the README's, on idle cores
STARTS = 120  # of a process with torch and Ray take that long then; where those are slow, so is a search
KILLS = 3
POLL_S = 0.05
AGENTS_LEAVE_S = 120  # two helpers of a killed Ray stay for a minute


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def run(*arguments):
    process = start(*arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def mean_predictor_rmse(data):
    """What predicting the training mean gives on the validation rows, in metres."""
    split = open_pack(Path(data)).split("train")
    train, validation = split_indices("head:0.7", split.ids)
    mean = split.labels[train].mean(axis=0)
    return rmse_m(np.broadcast_to(mean, (len(validation), 12)), split.labels[validation])


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "twin"
    run("pipeline.data.twin", "--out", root, "--train", 120, "--test", 16, "--size", 64)
    return root


def seconds_of(call, *arguments):
    """What a call returned, and how long it took."""
    begin = time.monotonic()
    return call(*arguments), time.monotonic() - begin


@dataclass(frozen=True)
class QuickStart:
    """The README's first search: its folder, how long it took, and how long it may take here and now."""

    runs: Path
    seconds: float
    allowed_s: float


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    runs = tmp_path_factory.mktemp("quick") / "runs"
    starts = [seconds_of(start_torch_and_ray)[1]]
    _, seconds = seconds_of(run, "tune.search", "--model", "convnext", "--executor", "local", "--runs", runs)
    starts.append(seconds_of(start_torch_and_ray)[1])
    return QuickStart(runs, seconds, max(QUICK_START_S, STARTS * max(starts)))


def start_torch_and_ray():
    subprocess.run([sys.executable, "-c", "import torch, ray.tune"], check=True)


def test_the_first_search_finds_something_in_time(quick_start):
    runs, seconds = quick_start.runs, quick_start.seconds
    board = pd.read_csv(runs / "leaderboard.csv")
    best = yaml.safe_load((runs / "best.yaml").read_text())
    assert len(board) >= 8
    assert (board["status"] == "stopped").sum() >= 1
    assert set(board["status"]) <= {"completed", "stopped"}
    ratio = best["row"]["rmse"] / mean_predictor_rmse(best["data"])
    allowed = f"{quick_start.allowed_s:.0f} s allowed"
    print(f"{len(board)} trials in {seconds:.0f} s ({allowed}), best {ratio:.2f} of the mean predictor")
    assert ratio <= 0.6
    assert seconds < quick_start.allowed_s


def written(*folders):
    """When each file below the folders was written."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_same_search_again_does_nothing_twice(quick_start):
    runs = quick_start.runs
    board, journal = (runs / "leaderboard.csv").read_bytes(), runs / "studies/convnext/journal.jsonl"
    work = runs / "data", runs / "studies/convnext/trials"
    before, files = journal.read_bytes(), written(*work)
    assert files
    output = run("tune.search", "--model", "convnext", "--executor", "local", "--runs", runs)
    assert "study convnext is complete already; nothing to run" in output
    assert "starting workers" not in output
    assert journal.read_bytes() == before
    assert written(*work) == files, "something was rendered or trained again"
    assert (runs / "leaderboard.csv").read_bytes() == board


def test_the_final_run_leaves_a_submission(quick_start):
    runs = quick_start.runs
    output = run("pipeline.final", "--runs", runs)
    assert "the row it came from: validation RMSE" in output
    (path,) = runs.glob("final/*/submission.csv")
    best = yaml.safe_load((runs / "best.yaml").read_text())
    split = open_pack(Path(best["data"])).split("test")
    table = pd.read_csv(path)
    assert table["ID"].tolist() == split.ids.tolist()
    rmse = rmse_m(table.iloc[:, 1:].to_numpy(), split.labels)
    print(f"test RMSE {1000 * rmse:.2f} mm, validation RMSE {1000 * best['row']['rmse']:.2f} mm")
    assert rmse < 0.6 * mean_predictor_rmse(best["data"])


@pytest.mark.parametrize("model", shipped("model"))
def test_every_backbone_is_searched_in_the_smoke_profile(model, twin, tmp_path):
    settings = ["--trials", 2, "--epochs", 2, "--set", "search.grace=1", "--profile", "smoke"]
    run("tune.search", "--model", model, "--executor", "local", "--data", twin, "--runs", tmp_path, *settings)
    board = pd.read_csv(tmp_path / "leaderboard.csv")
    assert board["arch"].unique().tolist() == [f"{model}-small"]
    assert board["status"].isin(["completed", "stopped"]).all()
    assert len(board) == 2


def test_all_models_are_searched_on_one_stand_in_that_the_first_study_renders(tmp_path):
    settings = ["--trials", 1, "--epochs", 1, "--set", "search.grace=1", "--profile", "smoke"]
    settings += ["--set", "twin.train=48", "--set", "twin.test=2"]
    output = run("tune.search", "--model", "all", "--executor", "local", "--runs", tmp_path, *settings)
    assert " ".join(output.split()).count("rendered on first use; no --data") == 1
    board = pd.read_csv(tmp_path / "leaderboard.csv")
    assert sorted(board["study"]) == shipped("model")
    assert set(board["status"]) == {"completed"}
    assert board["data"].nunique() == 1
    assert len(list((tmp_path / "data").iterdir())) == 1
    scratches = {read_driver(study).scratch for study in Workspace(tmp_path).studies()}
    assert scratches == {""}


def processes_of(folder):
    """Command lines of living processes that mention the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as handle:
                command = handle.read().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


def wait_until(condition, process):
    """Returns when the condition holds; the process must not end before."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(POLL_S)


def kill(process):
    process.kill()
    process.communicate()


def epochs_in(journal):
    return [record for record in read_journal(journal) if isinstance(record, Epoch)]


def test_a_search_killed_again_and_again_accounts_for_every_trial(twin, tmp_path):
    settings = ["--trials", 6, "--epochs", 6, "--set", "search.grace=1", "--profile", "smoke"]
    command = ["tune.search", "--model", "resnet50", "--executor", "local", "--data", twin]
    study, scratches = Workspace(tmp_path).study("resnet50"), []
    for _ in range(KILLS):
        enough = len(epochs_in(study.journal)) + 2
        process = start(*command, "--runs", tmp_path, *settings)
        wait_until(lambda enough=enough: len(epochs_in(study.journal)) >= enough, process)
        scratches.append(read_driver(study).scratch)
        assert processes_of(scratches[-1]), "this sees no process of Ray's"
        kill(process)
        assert any(trial.unfinished for trial in fold(read_journal(study.journal)).values())
    run(*command, "--runs", tmp_path, *settings)
    records = read_journal(study.journal)
    trials = fold(records)
    assert sorted(trials) == list(range(6))
    assert all(trial.status in {"completed", "stopped"} for trial in trials.values())
    assert sum(len(trial.attempts) - 1 for trial in trials.values()) >= KILLS
    epochs = [(record.trial, record.epoch) for record in records if isinstance(record, Epoch)]
    assert len(epochs) == len(set(epochs)), "an epoch was counted twice"
    for trial in trials.values():
        assert sorted(trial.epochs) == list(range(1, max(trial.epochs) + 1)), "an epoch was skipped"
    assert len(pd.read_csv(tmp_path / "leaderboard.csv")) == 6
    assert len(set(scratches)) == KILLS
    deadline = time.monotonic() + AGENTS_LEAVE_S
    while left := [command for scratch in scratches for command in processes_of(scratch)]:
        assert time.monotonic() < deadline, left
        time.sleep(1)
    assert not any(Path(scratch, "lock").exists() for scratch in scratches)


def step_on_disk(run):
    """(epoch, step) in a run's latest checkpoint; (0, 0) before there is one."""
    import torch

    try:
        progress = torch.load(run / "latest.pt", weights_only=True)["progress"]
    except FileNotFoundError:
        return 0, 0
    return progress["epoch"], progress["step"]


def test_a_run_killed_with_9_in_an_epoch_equals_the_uninterrupted_one(twin, tmp_path):
    import torch

    settings = ["--model", "resnet50", "--profile", "smoke", "--data", twin, "--runs", tmp_path]
    settings += ["--set", "train.epochs=6", "--set", "checkpoint_every_s=0"]
    run("pipeline.train", *settings, "--out", tmp_path / "whole")
    cut, steps = tmp_path / "cut", []
    for epoch in range(KILLS):
        process = start("pipeline.train", *settings, "--out", cut)
        reached = max([(epoch, 0), *steps])
        wait_until(lambda reached=reached: step_on_disk(cut) > reached, process)
        kill(process)
        steps.append(step_on_disk(cut))
    run("pipeline.train", *settings, "--out", cut)
    print(f"killed with these (epoch, step) on disk: {steps}")
    assert steps == sorted(set(steps)), "a kill undid progress"
    assert any(step > 0 for _, step in steps), "no kill fell inside an epoch"
    one, other = (torch.load(path / "best.pt", weights_only=True) for path in (tmp_path / "whole", cut))
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    rmse = [
        [json.loads(line)["rmse"] for line in (path / "epochs.jsonl").read_text().splitlines()]
        for path in (tmp_path / "whole", cut)
    ]
    assert rmse[0] == rmse[1]
