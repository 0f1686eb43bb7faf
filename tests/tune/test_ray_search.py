"""Real searches: Ray, processes, signals; training is a stand-in."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import EXIT_DISK
from pipeline.data.pack import PackWriter, Sample
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Ended, Epoch, Lost, read_journal
from pipeline.trials import fold
from tune.asha import Rungs
from tune.journal import is_driven, read_driver

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("standin_driver.py")
START_UP_S = 120.0
AGENTS_LEAVE_S = 120.0  # Ray's workers end at once with a killed driver, two idle helpers after a minute


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The smallest packed data set; nobody looks at it."""
    root, generator = tmp_path / "pack", np.random.default_rng(0)
    with PackWriter(root, {"train": 2, "test": 1}, 32, 32, ("train",), "made up") as writer:
        for split, index in (("train", 0), ("train", 1), ("test", 0)):
            rgb = generator.integers(0, 255, (9, 32, 32), dtype=np.uint8)
            depth = generator.integers(300, 900, (3, 32, 32), dtype=np.uint16)
            label = generator.normal(size=12) if split == "train" else None
            writer.write(split, index, Sample(rgb, depth, index, label))
    return root


def start(
    runs: Path, data: Path, trials: int, pause: float, fault: str = "", **variables: str
) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FAULT": fault} | variables
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(runs), str(data), str(trials), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def wait_for_epochs(paths: StudyPaths, count: int) -> None:
    """Returns when the journal holds at least `count` epochs."""
    deadline = time.monotonic() + START_UP_S
    while sum(isinstance(record, Epoch) for record in read_journal(paths.journal)) < count:
        assert time.monotonic() < deadline, "the search did not get going"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """The process's descendants."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]


def assert_gone(pids: list[int], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.2)


def assert_sound(paths: StudyPaths, trials: int) -> None:
    records = read_journal(paths.journal)
    states = fold(records)
    assert sorted(states) == list(range(trials))
    assert not any(state.unfinished for state in states.values())
    assert (states[3].status, states[3].reason) == ("failed", "DIVERGED")
    epochs = [record for record in records if isinstance(record, Epoch)]
    assert len({(record.trial, record.epoch) for record in epochs}) == len(epochs)
    final = (r for r in records if isinstance(r, Ended) and r.reason != "BUDGET")
    ends = [record.trial for record in final]
    assert len(set(ends)) == len(ends)
    rungs = Rungs(9, 1, 3, overtaking=True)
    for record in records:
        if isinstance(record, Epoch):
            verdict = rungs.decide(record.trial, record.epoch, record.rmse)
            assert (verdict.decision, verdict.rung) == (record.decision, record.rung)
        rungs.take(record)


def test_a_search_from_start_to_end_and_once_more(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    first = start(tmp_path, data, trials=8, pause=0.05)
    output = first.communicate()[0]
    assert first.returncode == 0, output
    assert_sound(paths, 8)
    assert "starts with the configured setting: lr 0.001, batch_size 32" in output
    assert "failed, DIVERGED: the loss is nan at step 5; lower train.lr" in output
    assert f"next         python -m pipeline.final --runs {tmp_path}" in output
    assert "ray" not in output.lower().replace("driver.log", "")
    assert max(len(line) for line in output.splitlines() if line.startswith("trial")) <= 80
    kept = {int(best.parent.name) for best in paths.trials.glob("*/best.pt")}
    states = fold(read_journal(paths.journal)).values()
    ranked = sorted((s.best_rmse, s.number) for s in states if s.best_rmse and s.status != "failed")
    completed = {state.number for state in states if state.status == "completed"}
    assert kept == completed | {number for _, number in ranked[:2]}
    assert not list(paths.trials.glob("*/latest.pt"))

    before = time.monotonic()
    again = start(tmp_path, data, trials=8, pause=0.05)
    assert "study s is complete already" in again.communicate()[0]
    assert again.returncode == 0
    assert time.monotonic() - before < 15


def test_ctrl_c_ends_it_in_seconds_and_leaves_nothing(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=8, pause=2.0)
    wait_for_epochs(paths, 2)
    children, scratch = children_of(driver.pid), Path(read_driver(paths).scratch)
    driver.send_signal(signal.SIGINT)
    before = time.monotonic()
    output = driver.communicate()[0]
    assert time.monotonic() - before < 10
    assert driver.returncode == 130, output
    assert "the same command resumes study s" in output
    assert not is_driven(paths)
    assert children
    assert_gone(children, within_s=10)
    assert not scratch.exists()


def test_a_driver_killed_at_random_moments_loses_and_repeats_nothing(tmp_path: Path, data: Path) -> None:
    paths, draw, trials = Workspace(tmp_path).study("s"), random.Random(0), 8
    children: list[int] = []
    for _ in range(2):
        driver = start(tmp_path, data, trials, pause=0.3)
        wait_for_epochs(paths, sum(isinstance(r, Epoch) for r in read_journal(paths.journal)) + 1)
        time.sleep(draw.uniform(0.0, 2.0))
        children += children_of(driver.pid)
        driver.kill()
        driver.wait()
        assert not is_driven(paths)
    last = start(tmp_path, data, trials, pause=0.05)
    output = last.communicate()[0]
    assert last.returncode == 0, output
    assert_sound(paths, trials)
    assert_gone(children, within_s=AGENTS_LEAVE_S)


def test_a_killed_worker_costs_an_attempt_and_nothing_else(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=4, pause=0.3)
    wait_for_epochs(paths, 3)
    running = next(t for t in fold(read_journal(paths.journal)).values() if t.status == "running")
    os.kill(running.attempts[-1].pid, signal.SIGKILL)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert "lost its worker" in output
    assert fold(read_journal(paths.journal))[running.number].losses == 1
    assert_sound(paths, 4)


def test_a_worker_that_is_told_to_leave_saves_its_trial_which_is_not_held_against_it(
    tmp_path: Path, data: Path
) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=4, pause=0.3)
    wait_for_epochs(paths, 3)
    running = next(t for t in fold(read_journal(paths.journal)).values() if t.status == "running")
    os.kill(running.attempts[-1].pid, signal.SIGTERM)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    (lost,) = (record for record in read_journal(paths.journal) if isinstance(record, Lost))
    assert (lost.trial, lost.counted, lost.message) == (running.number, False, "saved")
    assert_sound(paths, 4)


def test_a_worker_that_cannot_use_its_gpu_any_more_is_replaced(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=4, pause=0.05, fault="gpu")
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert_sound(paths, 4)
    (lost,) = (record for record in read_journal(paths.journal) if isinstance(record, Lost))
    assert "CUDA error: an illegal memory access" in lost.message
    trials = fold(read_journal(paths.journal))
    broken = trials[lost.trial].attempts[0]
    later = [a for trial in trials.values() for a in trial.attempts if a.time > lost.time]
    assert broken.pid not in {attempt.pid for attempt in later}
    assert trials[lost.trial].status in {"completed", "stopped"}


def test_a_full_disk_ends_the_search_which_then_goes_on_with_every_trial(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=6, pause=0.05, fault="disk")
    output = driver.communicate()[0]
    assert driver.returncode == EXIT_DISK, output
    assert "No space left on device. No trial is lost: make room" in output
    assert not any(trial.status == "failed" for trial in fold(read_journal(paths.journal)).values())
    again = start(tmp_path, data, trials=6, pause=0.05)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    assert_sound(paths, 6)


def test_a_spent_budget_ends_a_search_which_goes_on_with_a_larger_one(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    for gpu_hours, pause in (("0.003", 0.5), ("1", 0.05)):
        driver = start(tmp_path, data, trials=8, pause=pause, GPU_HOURS=gpu_hours)
        output = driver.communicate()[0]
        assert driver.returncode == 0, output
        stopped = [t for t in fold(read_journal(paths.journal)).values() if t.reason == "BUDGET"]
        assert bool(stopped) == (gpu_hours == "0.003"), output
    assert_sound(paths, 8)
