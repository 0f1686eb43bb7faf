"""A search on the test cluster, seen from outside: its jobs, its journal, its processes."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Epoch, read_journal
from pipeline.trials import TrialState, fold
from slurm.cluster import Cluster, load_cluster
from slurm.submit import JobSpec, job_name, submit, workers_name
from tests.cluster import SlurmCluster, processes

ROOT = Path(__file__).parents[2]
POLL_S = 0.1
PROFILE = """\
device: cpu
gpu: {{partition: gpu, gres: {gres}, cpus: 1, memory: 1000M, time: {minutes}}}
driver: {{partition: gpu, cpus: 1, memory: 1000M, time: 60, extra: {{nodelist: gr1}}}}
jobs: {{signal_s: 30}}
pool: {{workers: {workers}, idle_s: 5, drain_s: 20, stagger_s: 0, rejoin_s: 60, poll_s: 1}}
"""


@dataclass
class Search:
    """One search of `trials` trials, whose driver is a job; `settings` are further ones of the search."""

    slurm: SlurmCluster
    runs: Path
    data: Path
    name: str = "s"
    trials: int = 12
    workers: int = 3
    minutes: int = 30
    gres: str = "gpu:rtx8000:1"
    settings: dict[str, object] = field(default_factory=dict)
    driver: str = ""

    def start(self, pause_s: float) -> None:
        """Submits the driver."""
        self.runs.mkdir(exist_ok=True)
        self.pause(pause_s)
        spec = JobSpec(
            name=job_name("search", self.name),
            arguments=("tests.slurm.slow_search", *self.arguments()),
            resources=self.profile().driver,
            logs=self.runs / "logs",
            requeue=True,
            signal_s=30,
        )
        self.driver = submit(self.profile(), spec, ROOT)

    def arguments(self) -> list[str]:
        """Those of the driver (see slow_search)."""
        settings = json.dumps({"trials": self.trials, **self.settings})
        return [self.name, str(self.runs), str(self.data), self.profile().name, settings]

    def profile(self) -> Cluster:
        """The site profile, written beside the runs."""
        path = self.runs / f"{self.name}.yaml"
        if not path.exists():
            path.write_text(PROFILE.format(workers=self.workers, minutes=self.minutes, gres=self.gres))
        return load_cluster(str(path))

    def pause(self, seconds: float) -> None:
        """From now on every epoch takes so much longer."""
        (self.runs / "pause").write_text(str(seconds))

    @property
    def workers_name(self) -> str:
        """What the jobs of its workers are called."""
        return workers_name(self.name, Workspace(self.runs).pool(self.name))

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return Workspace(self.runs).study(self.name)

    @property
    def log(self) -> str:
        """What the driver has printed."""
        path = self.runs / "logs" / f"{job_name('search', self.name)}-{self.driver}.out"
        return path.read_text() if path.exists() else "nothing printed"

    def epochs(self) -> list[Epoch]:
        """Every epoch on record."""
        return [record for record in read_journal(self.paths.journal) if isinstance(record, Epoch)]

    def running(self) -> list[TrialState]:
        """Trials that a worker trains now, the least advanced first."""
        trials = fold(read_journal(self.paths.journal)).values()
        return sorted((t for t in trials if t.status == "running" and t.epochs), key=lambda t: len(t.epochs))

    def worker_jobs(self) -> list[str]:
        """The running jobs of this search's workers."""
        name = self.workers_name
        listing = self.slurm.run("squeue", "--noheader", "--states=R", f"--name={name}", "--format=%i")
        return listing.split()

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> float:
        """Waits until something is true; seconds it took."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}\n{self.log}"
            time.sleep(POLL_S)
        return time.monotonic() - start

    def wait_for_epochs(self, more: int, seconds: float = 120) -> float:
        """Waits for so many new epochs; seconds it took."""
        target = len(self.epochs()) + more
        return self.wait(lambda: len(self.epochs()) >= target, seconds, f"{more} more epochs")

    def wait_for_workers(self, count: int, seconds: float = 120) -> float:
        """Waits until so many trials run and have reported; seconds it took."""
        return self.wait(lambda: len(self.running()) >= count, seconds, f"{count} trials run")

    def wait_for_end(self, seconds: float) -> float:
        """Waits until Slurm has no job of this search any more; seconds it took."""
        names = f"{job_name('search', self.name)},{self.workers_name}"

        def left() -> str:
            return self.slurm.run("squeue", "--noheader", f"--name={names}", "--format=%i %T %N")

        start = time.monotonic()
        while jobs := left():
            assert time.monotonic() - start < seconds, f"after {seconds} s these are left: {jobs}\n{self.log}"
            time.sleep(POLL_S)
        return time.monotonic() - start


def processes_of(job: str) -> list[processes.Process]:
    """Every process that runs in a Slurm job, its batch script among them."""
    stats = processes.all_processes()
    found = [stat.process for stat in stats if processes.environment(stat.process).get("SLURM_JOB_ID") == job]
    return [process for process in found if process.is_alive()]
