"""One search on a real Slurm, and everything that can happen to it, one after the other."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from pipeline.leaderboard import refresh
from pipeline.paths import Workspace
from pipeline.records import Ended, Epoch, Lost, read_journal
from pipeline.trials import TrialState, fold
from tests.cluster import SlurmCluster
from tests.slurm.searches import Search, processes_of
from tune.asha import Rungs

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

DISK_MB = 64
EPOCH_S = 1.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_MB megabytes of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Faults:
    """Does things to a search and notes what they cost."""

    search: Search
    table: list[tuple[str, float]] = field(default_factory=list)

    def hit(self, name: str, fault: Callable[[TrialState], object], seconds: float = 150) -> None:
        """Waits for a trial to hit, on another node than the driver's; then for work on it to go on."""
        search = self.search
        search.wait(self._victims, 120, f"a trial to hit with: {name}")
        trial = self._victims()[0]
        attempt = len(trial.attempts)
        start = time.time()
        fault(trial)

        def goes_on() -> bool:
            known = fold(read_journal(search.paths.journal))[trial.number]
            later = [e for e in search.epochs() if e.trial == trial.number and e.attempt > attempt]
            return bool(later) or not known.unfinished

        search.wait(goes_on, seconds, f"trial {trial.number} goes on after: {name}")
        later = [e.time for e in search.epochs() if e.trial == trial.number and e.attempt > attempt]
        self.table.append((name, min(later, default=time.time()) - start))

    def _victims(self) -> list[TrialState]:
        return [t for t in self.search.running() if t.attempts[-1].node != "gr1" and len(t.epochs) < 20]

    def endure(self, name: str, fault: Callable[[], object]) -> None:
        """Something that should not stop any trial: waits for new epochs."""
        start = time.time()
        fault()
        self.search.wait_for_epochs(3)
        self.table.append((name, time.time() - start))


def test_a_search_survives_everything_that_happens_on_a_cluster(
    on_slurm: SlurmCluster, small_disk: Path, blobs: Path
) -> None:
    slurm, search = on_slurm, Search(on_slurm, small_disk / "runs", blobs, trials=36)
    search.start(pause_s=EPOCH_S)
    search.wait_for_workers(3)
    faults = Faults(search)

    faults.hit("worker's job cancelled", lambda t: slurm.run("scancel", job_of(t)))
    faults.hit("worker preempted by a higher partition", lambda t: slurm.preempt(t.attempts[-1].node))
    lost: list[str] = []

    def lose(trial: TrialState) -> None:
        lost.append(trial.attempts[-1].node)
        slurm.lose_node(lost[0])

    faults.hit("node lost with all its processes", lose)
    slurm.return_node(lost[0])
    faults.hit("kill -9 of the worker's processes", lambda t: kill(job_of(t)))
    faults.hit("time limit", lambda t: slurm.run("scontrol", "update", f"job={job_of(t)}", "TimeLimit=1"))
    faults.endure("slurmctld restarted", slurm.restart_controller)
    faults.endure("squeue fails for 30 s", lambda: break_squeue_for(slurm, 30))
    faults.hit("worker stopped for 90 s, then woken", lambda t: freeze(job_of(t), 90))
    faults.endure("driver killed with -9", lambda: kill_driver(search))
    faults.endure("driver killed and requeued, journal and checkpoint torn", lambda: requeue_torn(search))
    faults.endure("disk full for 20 s", lambda: fill_disk(small_disk, 20))

    search.pause(0.0)
    search.wait_for_end(300)
    report(search, faults)
    assert_sound(search)


def job_of(trial: TrialState) -> str:
    job = trial.attempts[-1].slurm_job
    assert job is not None
    return job


def kill(job: str) -> None:
    for process in processes_of(job):
        process.send(signal.SIGKILL)


def freeze(job: str, seconds: float) -> None:
    frozen = processes_of(job)
    for process in frozen:
        process.send(signal.SIGSTOP)
    time.sleep(seconds)
    for process in frozen:
        process.send(signal.SIGCONT)


def break_squeue_for(slurm: SlurmCluster, seconds: float) -> None:
    slurm.break_squeue()
    time.sleep(seconds)
    slurm.mend_squeue()


def driver_pid(search: Search) -> int:
    from tune.journal import read_driver

    driver = read_driver(search.paths)
    assert driver is not None
    return driver.pid


def kill_driver(search: Search) -> None:
    os.kill(driver_pid(search), signal.SIGKILL)


def requeue_torn(search: Search) -> None:
    """The driver's job goes back into the queue; meanwhile a disk damages what was being written."""
    trial = search.running()[0]
    search.slurm.run("scontrol", "requeue", search.driver)
    search.wait(lambda: search.slurm.state(search.driver) == "PENDING", 60, "the driver waits again")
    with search.paths.journal.open("ab") as journal:
        journal.write(b'{"event": "epoch", "trial": 0, "ep')
    search.paths.trial(trial.number).latest.write_bytes(b"half a checkpoint")


def fill_disk(disk: Path, seconds: float) -> None:
    filler = disk / "filler"
    with filler.open("wb") as handle:
        try:
            while True:
                handle.write(bytes(1 << 16))
                handle.flush()
        except OSError:
            pass
    time.sleep(seconds)
    filler.unlink()


def report(search: Search, faults: Faults) -> None:
    repeats = [int(line.split()[2]) for line in (search.runs / "repeats").read_text().splitlines()]
    print(f"\n{'fault':<62}{'seconds':>8}")
    for name, seconds in faults.table:
        print(f"{name:<62}{seconds:>8.1f}")
    print(f"epochs trained again, by attempt: {repeats}")
    print("losses:")
    for loss in losses(search):
        print(f"  trial {loss.trial} {loss.reason}{'' if loss.counted else ', not counted'}: {loss.message}")


def losses(search: Search) -> list[Lost]:
    return [record for record in read_journal(search.paths.journal) if isinstance(record, Lost)]


def assert_sound(search: Search) -> None:
    records = read_journal(search.paths.journal)
    trials = fold(records)
    assert sorted(trials) == list(range(search.trials)), search.log
    assert {trial.status for trial in trials.values()} <= {"completed", "stopped"}, search.log
    epochs = [record for record in records if isinstance(record, Epoch)]
    assert len({(record.trial, record.epoch) for record in epochs}) == len(epochs), "an epoch counted twice"
    for trial in trials.values():
        assert sorted(trial.epochs) == list(range(1, max(trial.epochs) + 1)), "an epoch was skipped"
    ends = [record.trial for record in records if isinstance(record, Ended)]
    assert len(set(ends)) == len(ends)
    rungs = Rungs(30, 10, 2, overtaking=True)
    for record in records:
        if isinstance(record, Epoch):
            verdict = rungs.decide(record.trial, record.epoch, record.rmse)
            assert (verdict.decision, verdict.rung) == (record.decision, record.rung)
        rungs.take(record)
    board = refresh(Workspace(search.runs))
    assert len(board) == search.trials
    assert board["node"].isin(search.slurm.nodes).all()
    assert pd.to_numeric(board["slurm_job"]).notna().all()
