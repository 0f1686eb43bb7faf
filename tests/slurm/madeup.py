"""A Slurm that keeps its jobs in a dictionary."""

from dataclasses import dataclass, field

from slurm.cluster import PoolConfig
from slurm.errors import SlurmError
from slurm.pool import Pool
from slurm.queue import Job

NAME = "fingertip-worker-s"


def job(number: str, state: str = "RUNNING", name: str = NAME) -> Job:
    return Job(number, name, state, reason="", node="", started=None, ends=None)


@dataclass
class MadeUpSlurm:
    """Jobs by number, and what to say when asked; `now` is the clock of the pool under test."""

    queue: dict[str, Job] = field(default_factory=dict)
    past: dict[str, Job] = field(default_factory=dict)
    silent: bool = False
    refuses: bool = False
    now: float = 0.0
    takes_s: float = 0.0  # an answer
    questions: int = 0
    submitted: int = 0
    told: list[str] = field(default_factory=list)

    def jobs(self) -> dict[str, Job]:
        self.questions += 1
        self.now += self.takes_s
        if self.silent:
            raise SlurmError("squeue: connection refused")
        return dict(self.queue)

    def fate(self, job_id: str) -> Job | None:
        self.questions += 1
        self.now += self.takes_s
        return self.past.get(job_id)

    def cancel(self, ids: list[str]) -> None:
        for number in ids:
            self.end(number, "CANCELLED")

    def submit(self) -> str:
        if self.refuses:
            raise SlurmError("sbatch: QOSMaxSubmitJobPerUserLimit")
        self.submitted += 1
        number = str(self.submitted)
        self.queue[number] = job(number, "PENDING")
        return number

    def start(self, *numbers: str) -> None:
        for number in numbers:
            self.queue[number] = job(number)

    def end(self, number: str, state: str) -> None:
        del self.queue[number]
        self.past[number] = job(number, state)

    def pool(self, **config: float) -> Pool:
        settings = PoolConfig.model_validate({"workers": 3, "idle_s": 10, **config})
        return Pool(NAME, settings, self, self.submit, self.told.append, clock=lambda: self.now)
