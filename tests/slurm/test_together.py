"""What a search may use, and six of them on one pool, on a real Slurm."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Epoch, read_journal
from pipeline.trials import fold
from slurm.queue import Job, Queue
from slurm.submit import workers_name
from tests.cluster import SlurmCluster
from tests.slurm.searches import ROOT, Search
from tune.budget import Budget
from tune.request import read_request

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LEAVING_S = 15.0  # of a worker whose search is over: at most a poll, a signal and Slurm's tidying up


def jobs_named(name: str) -> list[Job]:
    return [job for job in Queue().jobs().values() if job.name == name]


def epoch_times(study: StudyPaths) -> list[float]:
    return [record.time for record in read_journal(study.journal) if isinstance(record, Epoch)]


def held_s(jobs: list[Job]) -> float:
    """How long Slurm says the jobs ran, all together."""
    return sum(job.ends - job.started for job in jobs if job.ends and job.started)


def test_a_search_uses_the_gpu_hours_it_was_given_as_slurm_counts_them(
    on_slurm: SlurmCluster, tmp_path: Path, blobs: Path
) -> None:
    limit_s = 240.0
    settings = {"gpu_hours": limit_s / 3600, "epochs": 30}
    search = Search(on_slurm, tmp_path / "runs", blobs, trials=100, settings=settings)
    search.start(pause_s=1.0)
    search.wait_for_end(400)
    trials = fold(read_journal(search.paths.journal)).values()
    assert {trial.status for trial in trials} <= {"completed", "stopped"}
    assert any(trial.reason == "BUDGET" for trial in trials)
    longest_s = max(epoch.seconds for epoch in search.epochs()) + 1.0  # and its pause
    by_slurm_s = held_s(jobs_named(search.workers_name))
    request = read_request(search.paths)
    assert request is not None
    budget = Budget.from_journal(request.experiment.search, read_journal(search.paths.journal))
    print(f"\nbudget {limit_s:.0f} s, used by the journal {budget.used_s:.0f} s, by Slurm {by_slurm_s:.0f} s")
    assert limit_s - 3 * 10 < budget.used_s < limit_s + 3 * longest_s
    assert abs(by_slurm_s - budget.used_s) < 3 * LEAVING_S


def test_six_backbones_share_a_pool_and_the_best_of_each_is_confirmed(
    on_slurm: SlurmCluster, tmp_path: Path, blobs: Path
) -> None:
    search = Search(on_slurm, tmp_path / "runs", blobs, name="all")
    search.runs.mkdir()
    search.profile()
    asked = ["--model", "all", "--runs", str(search.runs), "--data", str(blobs), "--follow", "--confirm", "1"]
    asked += ["--cluster", str(search.runs / "all.yaml"), "--trials", "2", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tune.search", *asked], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    search.wait_for_end(60)
    board = pd.read_csv(search.runs / "leaderboard.csv")
    assert board.groupby("model")["kind"].value_counts().unstack()["search"].tolist() == [2] * 6
    confirmed = board[board["n_seeds"] == 3]
    assert set(confirmed["model"]) == set(board["model"])
    pool = jobs_named(workers_name("all", Workspace(search.runs).pool("all")))
    assert set(board["slurm_job"].astype(int).astype(str)) <= {job.id for job in pool}
    times = [epoch_times(study) for study in Workspace(search.runs).studies()]
    assert max(map(min, times)) < min(map(max, times)), "one after the other"
