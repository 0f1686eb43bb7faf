"""Searches on a real Slurm: from the command to the last trace, two at once, and who may talk to them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.paths import Workspace
from pipeline.records import Ended, Epoch, Lost, Started, read_journal
from pipeline.trials import fold
from slurm.queue import Queue
from slurm.submit import job_name
from tests.cluster import SlurmCluster, processes
from tests.slurm.ports import METHODS, UNAUTHENTICATED, call, http_status, listening_ports
from tests.slurm.searches import ROOT, Search, processes_of
from tune.journal import read_driver

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AGENTS_LEAVE_S = 120.0  # two idle helpers of a killed Ray stay for a minute


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder for a search, of which nothing may live when the test is over."""
    folder = tmp_path / "runs"
    yield folder
    assert_no_trace(folder)


def assert_no_trace(runs: Path) -> None:
    deadline = time.monotonic() + AGENTS_LEAVE_S
    while left := processes.traces(runs):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def command(runs: Path, data: Path, profile: Path, *more: str) -> list[str]:
    """`tune.search` as a user calls it on a login node."""
    fixed = ["--model", "resnet50", "--runs", str(runs), "--data", str(data), "--cluster", str(profile)]
    return [sys.executable, "-m", "tune.search", *fixed, *more]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of its own, to be edited while jobs run."""
    folder = tmp_path / "checkout"
    for name in ("pipeline", "tune", "slurm", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(arguments: list[str], code: int = 0, cwd: Path = ROOT) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_search_from_the_command_to_its_last_trace(
    on_slurm: SlurmCluster, runs: Path, blobs: Path, checkout: Path
) -> None:
    """Its driver is requeued on the way, when the checkout it was submitted from is broken already."""
    search = Search(on_slurm, runs, blobs, name="resnet50")
    search.runs.mkdir()
    search.profile()
    asked = command(runs, blobs, runs / "resnet50.yaml", "--trials", "12", "--epochs", "9")
    submitted = time.time()
    output = run(asked, cwd=checkout)
    assert "executor   slurm (sbatch is on PATH)" in output
    assert "submitted the search as Slurm job" in output
    refused = run(asked, code=2, cwd=checkout)
    assert "is this search already" in refused or "is being run" in refused
    search.wait(search.epochs, 120, "the first epoch")
    first_epoch_s = search.epochs()[0].time - submitted
    for module in ("tune/search.py", "slurm/worker.py", "pipeline/trainer.py"):
        (checkout / module).write_text("raise SystemExit('the checkout was edited')")
    search.wait_for_epochs(3)
    driver = next(job.id for job in Queue().jobs().values() if job.name == job_name("search", "resnet50"))
    on_slurm.run("scontrol", "requeue", driver)
    search.wait_for_epochs(3)
    search.wait_for_end(240)

    board = pd.read_csv(runs / "leaderboard.csv")
    assert len(board) == 12
    assert set(board["status"]) <= {"completed", "stopped"}
    assert board["slurm_job"].notna().all()
    assert set(board["node"]) == set(on_slurm.nodes), "not all workers trained"
    codes = {yaml.safe_load(path.read_text())["code"] for path in runs.glob("studies/*/trials/*/run.yaml")}
    (code,) = codes
    assert Path(code).parent == runs / "code"
    driver_log = next(runs.glob("jobs/*/*.out")).read_text()
    assert "start 2 of this job" in driver_log
    assert driver_log.count(" joined") >= 3, driver_log
    assert "study resnet50:" in driver_log
    print(f"\nfrom submission to the first epoch: {first_epoch_s:.1f} s")
    print(f"share of the workers' time inside fit: {share_in_fit(search):.0%}")


def share_in_fit(search: Search) -> float:
    """How much of the worker jobs' time went into trials, from their start to what ended them."""
    inside, since = 0.0, {}
    for record in read_journal(search.paths.journal):
        if isinstance(record, Started):
            since[record.trial] = record.time
        elif isinstance(record, Epoch | Ended | Lost) and record.trial in since:
            inside += record.time - since[record.trial]
            since[record.trial] = record.time
    jobs = Queue().jobs().values()
    workers = [job for job in jobs if job.name == search.workers_name]
    whole = sum(job.ends - job.started for job in workers if job.ends and job.started)
    return inside / whole


def test_an_idle_worker_leaves_and_a_stopped_search_leaves_nothing_and_goes_on(
    on_slurm: SlurmCluster, runs: Path, blobs: Path
) -> None:
    search = Search(on_slurm, runs, blobs, trials=3)
    search.start(pause_s=1.0)
    search.wait(lambda: "was idle for 5 s and leaves" in search.log, 180, "an idle worker leaves")
    stop = [sys.executable, "-m", "slurm.launch", "stop", "s", "--runs", str(runs)]
    assert "cancelled" in run(stop)
    search.wait_for_end(60)
    assert_no_trace(runs)
    assert any(trial.unfinished for trial in fold(read_journal(search.paths.journal)).values())
    search.start(pause_s=0.0)
    search.wait(lambda: "study s:" in search.log, 120, "the study is complete")
    search.wait_for_end(60)
    assert len(fold(read_journal(search.paths.journal))) == 3


def in_place(search: Search) -> subprocess.Popen[bytes]:
    """The driver as a process of this one, as in an interactive job."""
    search.runs.mkdir(exist_ok=True)
    search.pause(1.0)
    log = search.runs / f"{search.name}.log"
    with log.open("wb") as handle:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.slow_search", *search.arguments()],
            cwd=ROOT,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )


def test_two_searches_share_a_host_and_talk_to_nobody_else(
    on_slurm: SlurmCluster, runs: Path, blobs: Path
) -> None:
    """Six workers at once; then every port is tried; then one driver gets Ctrl-C, the other kill -9."""
    runs.mkdir()
    searches = [Search(on_slurm, runs, blobs, name=name, trials=6, gres="null") for name in ("a", "b")]
    drivers = [in_place(search) for search in searches]
    logs = [runs / "a.log", runs / "b.log"]
    for search, log in zip(searches, logs, strict=True):
        search.wait(
            lambda log=log: log.read_text().count(" joined") == 3, 180, f"all join\n{log.read_text()}"
        )
        search.wait_for_workers(3)
    names = {search.workers_name for search in searches}
    starts = [job.started for job in Queue().jobs().values() if job.name in names]
    assert len(starts) == 6
    print(f"\nsix workers started within {max(starts) - min(starts):.0f} s of one another, and all joined")

    for search, driver in zip(searches, drivers, strict=True):
        assert_locked(search, driver.pid)

    drivers[0].send_signal(signal.SIGINT)
    assert drivers[0].wait(30) == 130, logs[0].read_text()
    searches[0].wait_for_end(30)
    searches[1].wait_for_epochs(3)
    scratch = Path(read_driver(searches[1].paths).scratch)
    drivers[1].kill()
    drivers[1].wait()
    searches[1].wait_for_end(240)  # raylets miss it for a minute; the profile's rejoin_s
    searches[1].wait(lambda: not scratch.exists(), 30, "the killed driver's folder goes")


def assert_locked(search: Search, driver: int) -> None:
    """Without the token no port answers, with it those of Ray do; the secret is in no place but its file."""
    token_file = Workspace(search.runs).pool(search.name).token
    token = token_file.read_text()
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert token_file.parent.stat().st_mode & 0o777 == 0o700
    pids = {process.pid for job in search.worker_jobs() for process in processes_of(job)}
    ports = listening_ports(pids | set(descendants(driver)))
    assert len(ports) >= 8, ports
    answered = set()
    for host, port in ports:
        for method in METHODS:
            for wrong in (None, "0" * len(token)):
                assert call(host, port, method, wrong) != 0, f"{host}:{port} answers {method} with {wrong}"
            if call(host, port, method, token) == 0:
                answered.add(method)
                assert call(host, port, method, None) == UNAUTHENTICATED
        for wrong in (None, "0" * len(token)):
            assert http_status(host, port, wrong) in (0, 401, 403), f"{host}:{port} speaks HTTP"
    assert answered == set(METHODS), "these were never answered, even with the token"
    assert_nowhere(token, search.runs, token_file, pids | {driver})


def descendants(pid: int) -> list[int]:
    return [process.pid for process in processes.trees_below([processes.identify(pid)])]


def assert_nowhere(token: str, runs: Path, token_file: Path, pids: set[int]) -> None:
    secret = token.encode()
    for pid in pids:
        for name in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            assert secret not in content, f"/proc/{pid}/{name}"
    scratches = [path for path in Path("/tmp").glob("ft-*") if path.stat().st_uid == os.getuid()]
    for root in (runs, *scratches):
        for path in root.rglob("*"):
            if path.is_file() and path != token_file:
                assert secret not in path.read_bytes(), path


def test_a_search_without_accounting_knows_what_became_of_a_lost_worker(
    on_slurm_without_accounting: SlurmCluster, runs: Path, blobs: Path
) -> None:
    search = Search(on_slurm_without_accounting, runs, blobs, trials=2, workers=1)
    search.start(pause_s=0.5)
    search.wait_for_workers(1)
    job = search.worker_jobs()[0]
    search.slurm.run("scancel", job)
    search.wait(lambda: f"worker {job} was cancelled" in search.log, 60, "the driver says what happened")
    search.wait_for_epochs(2, seconds=120)
    search.pause(0.0)
    search.wait_for_end(120)
    assert Queue().fate(search.driver).state == "COMPLETED"
    trials = fold(read_journal(search.paths.journal)).values()
    assert {trial.status for trial in trials} <= {"completed", "stopped"}
    assert sum(trial.losses for trial in trials) == 0
