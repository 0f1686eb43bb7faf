"""Searches whose settings do not all fit into the memory; only that memory is made up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.data.dataset import epoch_batches
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import read_journal
from pipeline.trials import TrialState, fold
from tests.tune.drivers import ROOT
from tests.tune.memory_driver import LIMIT, STEPS

pytestmark = pytest.mark.end_to_end

DRIVER = Path(__file__).with_name("memory_driver.py")
FITTING, TOO_LARGE = (2, 4, 6, 8), (16, 20)  # batch sizes; halved, the large ones fit
RATES = (1e-3, 3e-3)
SAMPLES = 28  # of 40, what is left for validation


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory, pack_maker: Any) -> Path:
    root: Path = pack_maker(tmp_path_factory.mktemp("data") / "twin", train=40, test=2, size=32)
    return root


def search(runs: Path, data: Path, trials: int, space: dict[str, Any]) -> str:
    """Runs a study to its end; returns what it said."""
    settings = json.dumps({"trials": trials, "epochs": 4, "grace": 1, "share": 0, "space": space})
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(runs), str(data), settings],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def trials_of(paths: StudyPaths) -> dict[int, TrialState]:
    return fold(read_journal(paths.journal))


def test_a_third_of_the_settings_exceeds_the_memory_and_every_trial_trains_the_batch_it_was_given(
    tmp_path: Path, twin: Path
) -> None:
    space = {"train.batch_size": {"choice": FITTING + TOO_LARGE}, "train.lr": {"choice": RATES}}
    output = search(tmp_path, twin, 12, space)
    paths = Workspace(tmp_path).study("s")
    trials = trials_of(paths)
    drawn = {number: trial.values["train.batch_size"] for number, trial in trials.items()}
    assert sorted(drawn.values()) == sorted(2 * (FITTING + TOO_LARGE))
    assert {trial.status for trial in trials.values()} == {"completed", "stopped"}, output

    rows = pd.read_csv(Workspace(tmp_path).leaderboard).set_index("trial")
    assert dict(rows["batch_size"]) == drawn
    for number, batch_size in drawn.items():
        row, trial = rows.loc[number], trials[number]
        pieces = row["micro_batch"]
        assert pieces == batch_size if batch_size in FITTING else 2 <= pieces <= LIMIT
        steps = (paths.trial(number).root / STEPS).read_text().split()
        assert steps == [str(len(epoch_batches(SAMPLES, batch_size, 0, 0)))] * len(trial.epochs)
        assert trial.losses == 0
    print(rows[["batch_size", "micro_batch", "status", "epochs"]])


def test_a_setting_that_does_not_fit_at_all_fails_with_the_reason_and_the_search_goes_on(
    tmp_path: Path, twin: Path
) -> None:
    output = search(
        tmp_path, twin, 4, {"model.small": {"choice": (True, False)}, "train.lr": {"choice": RATES}}
    )
    trials = trials_of(Workspace(tmp_path).study("s"))
    assert len(trials) == 4
    for trial in trials.values():
        if trial.values["model.small"]:
            assert trial.status in {"completed", "stopped"}
            continue
        assert (trial.status, trial.reason, trial.epochs) == ("failed", "CUDA_OOM", {})
        assert trial.message == (
            "not even 2 samples of 32 pixels a side fit into the memory of cpu; "
            "a smaller network, smaller images or a larger GPU would do (CUDA out of memory (simulated))"
        )
    assert output.count("failed, CUDA_OOM: not even 2 samples") == 2
    print(output)
