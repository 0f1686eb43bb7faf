"""Real searches: Ray, processes, signals; training is a stand-in."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from pipeline.cli import EXIT_DISK, EXIT_USER_ERROR
from pipeline.config import SearchConfig
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Ended, Epoch, Lost, read_journal
from pipeline.trials import fold
from tests.tune.drivers import start
from tests.tune.soundness import assert_sound
from tune.budget import SECONDS_PER_HOUR, Budget
from tune.journal import is_driven, read_driver

pytestmark = pytest.mark.end_to_end

START_UP_S = 120.0


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


def assert_all_there(paths: StudyPaths, trials: int, **settings: float) -> None:
    """The study is over; of its trials one diverged, as it had to."""
    records = read_journal(paths.journal)
    assert_sound(records, SearchConfig(trials=trials, epochs=9, grace=1, reduction=3, **settings))
    state = fold(records)[3]
    assert (state.status, state.reason) == ("failed", "DIVERGED")


def test_a_search_from_start_to_end_and_once_more(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    first = start(tmp_path, data, trials=8, pause=0.05)
    output = first.communicate()[0]
    assert first.returncode == 0, output
    assert_all_there(paths, 8)
    assert "starts with the configured setting: lr 0.001, batch_size 32" in output
    assert "failed, DIVERGED: the loss is nan at step 5; lower train.lr" in output
    assert f"next         python -m pipeline.final --runs {tmp_path}" in output
    assert "starting workers" in output
    assert "ray" not in output.lower().replace("driver.log", "")
    assert max(len(line) for line in output.splitlines() if line.startswith("trial")) <= 80
    kept = {int(best.parent.name) for best in paths.trials.glob("*/best.pt")}
    states = fold(read_journal(paths.journal)).values()
    ranked = sorted((s.best_rmse, s.number) for s in states if s.best_rmse and s.status != "failed")
    completed = {state.number for state in states if state.status == "completed"}
    assert kept == completed | {number for _, number in ranked[:2]}
    assert not list(paths.trials.glob("*/latest.pt"))

    journal = paths.journal.read_bytes()
    again = start(tmp_path, data, trials=8, pause=0.05)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    assert "study s is complete already" in output
    assert "starting workers" not in output
    assert paths.journal.read_bytes() == journal


def test_ctrl_c_ends_it_in_seconds_and_leaves_nothing(tmp_path: Path, data: Path) -> None:
    paths, begun = Workspace(tmp_path).study("s"), time.monotonic()
    driver = start(tmp_path, data, trials=8, pause=2.0)
    wait_for_epochs(paths, 2)
    in_seconds = max(10.0, time.monotonic() - begun)  # on a busy machine as long as its start took
    children, scratch = children_of(driver.pid), Path(read_driver(paths).scratch)
    driver.send_signal(signal.SIGINT)
    before = time.monotonic()
    output = driver.communicate()[0]
    assert time.monotonic() - before < in_seconds
    assert driver.returncode == 130, output
    assert "the same command resumes study s" in output
    assert not is_driven(paths)
    assert children
    assert_gone(children, in_seconds)
    assert not scratch.exists()


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
    assert_all_there(paths, 4)


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
    assert lost.reason == "PREEMPTED"
    assert_all_there(paths, 4)


@pytest.mark.parametrize(
    ("fault", "reason", "message"),
    [
        ("gpu", "NODE_FAIL", "CUDA error: an illegal memory access"),
        ("memory", "HOST_OOM", "MemoryError: no room for 3 GB"),
    ],
)
def test_a_worker_that_cannot_use_its_gpu_any_more_or_has_no_memory_left_is_replaced(
    tmp_path: Path, data: Path, fault: str, reason: str, message: str
) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=4, pause=0.05, fault=fault)
    output = driver.communicate()[0]
    assert driver.returncode == 0, output
    assert_all_there(paths, 4)
    (lost,) = (record for record in read_journal(paths.journal) if isinstance(record, Lost))
    assert (lost.reason, lost.counted) == (reason, True)
    assert message in lost.message
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
    assert_all_there(paths, 6)


def test_a_mistake_in_the_code_ends_the_search_with_its_traceback_told_once(
    tmp_path: Path, data: Path
) -> None:
    paths = Workspace(tmp_path).study("s")
    driver = start(tmp_path, data, trials=50, pause=0.05, fault="code")
    output = driver.communicate()[0]
    assert driver.returncode == EXIT_USER_ERROR, output
    ends = [record for record in read_journal(paths.journal) if isinstance(record, Ended)]
    assert len(ends) == 3
    told = min(ends, key=lambda end: end.trial).message.strip()  # two run at a time, in any order
    assert (
        f"failed of the same error before any had trained, and the others would too:\n{told}\nMend" in output
    )
    assert output.count("Traceback (most recent call last)") == 1
    assert 'in meet_fault\n    raise RuntimeError(f"no such layer in trial {trial}")' in output
    assert "ray" not in output.lower().replace("driver.log", "").replace(str(tmp_path).lower(), "")


def test_a_spent_budget_ends_a_search_which_goes_on_with_a_larger_one(tmp_path: Path, data: Path) -> None:
    paths = Workspace(tmp_path).study("s")
    for trials, pause in ((2, 0.05), (8, 1.0), (8, 0.05)):
        used_h = Budget.from_journal(SearchConfig(), read_journal(paths.journal)).used_s / SECONDS_PER_HOUR
        enough = pause < 1
        driver = start(tmp_path, data, trials, pause, GPU_HOURS=str(used_h + (1 if enough else 0.004)))
        output = driver.communicate()[0]
        assert driver.returncode == 0, output
        stopped = [t for t in fold(read_journal(paths.journal)).values() if t.reason == "BUDGET"]
        assert bool(stopped) != enough, output
    assert_all_there(paths, 8, gpu_hours=1)


def test_studies_at_the_same_time_survive_their_driver_and_end_in_one_table(
    tmp_path: Path, data: Path
) -> None:
    names = ("first", "second", "third")
    studies = [Workspace(tmp_path).study(name) for name in names]
    driver = start(tmp_path, data, trials=4, pause=0.3, STUDIES=" ".join(names), GPU_HOURS="1")
    for paths in studies:
        wait_for_epochs(paths, 2)
    driver.kill()
    driver.wait()
    again = start(tmp_path, data, trials=4, pause=0.05, STUDIES=" ".join(names), GPU_HOURS="1")
    output = again.communicate()[0]
    assert again.returncode == 0, output
    for paths in studies:
        assert_all_there(paths, 4, gpu_hours=1)
    table = [line for line in output.splitlines() if " mm, one run: trial " in line]
    assert sorted(line.split()[0] for line in table) == sorted(names)
    assert "third  trial 3    failed, DIVERGED" in output
    times = [[r.time for r in read_journal(p.journal) if isinstance(r, Epoch)] for p in studies]
    assert max(map(min, times)) < min(map(max, times)), "one after the other"
    assert set(pd.read_csv(tmp_path / "leaderboard.csv")["study"]) == set(names)
