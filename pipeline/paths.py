"""Every file of a workspace, a study and a run; atomic writes.

RUNS/
    leaderboard.csv  best.yaml
    data/<name>/                      a packed data set (see pipeline.packpaths)
    studies/<study>/                  study.yaml, journal.jsonl, driver.json, driver.lock, driver.log
    studies/<study>/trials/<0000>/    a run, as are train/<name>/ and final/<name>/
    pools/<study>/                    the workers of a search on a cluster (see PoolPaths)
    jobs/<kind>-<what>-<time>/        a launch (see slurm.launching)
    code/<hash>/  doctor/<time>/      the code that jobs run (see slurm.snapshot); a report on a node
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.packpaths import PackPaths

TOKEN_BYTES = 8  # of a temporary name's random part


@dataclass(frozen=True)
class RunPaths:
    """The files of one training run."""

    root: Path

    @property
    def record(self) -> Path:
        """The request: configuration, its hash, code version, host, attempt."""
        return self.root / "run.yaml"

    @property
    def epochs(self) -> Path:
        """One JSON line an epoch, flushed."""
        return self.root / "epochs.jsonl"

    @property
    def outcome(self) -> Path:
        """How the run ended, written once at the end."""
        return self.root / "outcome.json"

    @property
    def owner(self) -> Path:
        """Which attempt may write into this folder."""
        return self.root / "owner.json"

    @property
    def lock(self) -> Path:
        """Locked while a process that no search directs trains the run."""
        return self.root / "run.lock"

    @property
    def memory_hints(self) -> Path:
        """How many samples fitted into memory at once; shared by the runs beside this one."""
        return self.root.parent / "memory.json"

    @property
    def latest(self) -> Path:
        """The full training state to resume from."""
        return self.root / "latest.pt"

    @property
    def best(self) -> Path:
        """The weights with the best validation RMSE, usable for prediction."""
        return self.root / "best.pt"

    @property
    def best_epoch(self) -> Path:
        """Which epoch best.pt holds and its RMSE, written after it."""
        return self.root / "best.json"

    @property
    def final(self) -> Path:
        """The weights of the last epoch of a run without validation data."""
        return self.root / "final.pt"

    @property
    def submission(self) -> Path:
        """Predictions for the test split."""
        return self.root / "submission.csv"


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study."""

    root: Path

    @property
    def request(self) -> Path:
        """What was asked for; a resumed study must ask for the same."""
        return self.root / "study.yaml"

    @property
    def journal(self) -> Path:
        """Everything that happened, one JSON line each; the truth."""
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Locked while a driver of the study lives."""
        return self.root / "driver.lock"

    @property
    def driver(self) -> Path:
        """Who drives the study: host, process, since when."""
        return self.root / "driver.json"

    @property
    def log(self) -> Path:
        """What Ray and other libraries print."""
        return self.root / "driver.log"

    @property
    def trials(self) -> Path:
        """The folder of the trials' runs."""
        return self.root / "trials"

    def trial(self, number: int) -> RunPaths:
        """The run of one trial."""
        return RunPaths(self.trials / f"{number:04d}")


@dataclass(frozen=True)
class PoolPaths:
    """What the workers of a search on a cluster share with its driver; only their user may read it."""

    root: Path

    @property
    def token(self) -> Path:
        """The secret without which no process may talk to this search's Ray."""
        return self.root / "token"

    @property
    def head(self) -> Path:
        """Where the driver's Ray is now; replaced by every new driver."""
        return self.root / "head.json"

    @property
    def logs(self) -> Path:
        """What the workers' jobs print, and their scripts."""
        return self.root / "logs"


@dataclass(frozen=True)
class Workspace:
    """The folder that `--runs` names."""

    root: Path

    @property
    def leaderboard(self) -> Path:
        """One row a run, best first."""
        return self.root / "leaderboard.csv"

    @property
    def best(self) -> Path:
        """The winner: its row, checkpoint and configuration."""
        return self.root / "best.yaml"

    @property
    def jobs(self) -> Path:
        """A folder for each launch of Slurm jobs: record, scripts, output."""
        return self.root / "jobs"

    @property
    def code(self) -> Path:
        """Snapshots of the code, each stored once, and links to them by job."""
        return self.root / "code"

    @property
    def doctor(self) -> Path:
        """A folder for each job by which slurm.doctor looks at a node."""
        return self.root / "doctor"

    def data(self, name: str) -> PackPaths:
        """A packed data set made by this project."""
        return PackPaths(self.root / "data" / name)

    def study(self, name: str) -> StudyPaths:
        """The study of that name."""
        return StudyPaths(self.root / "studies" / name)

    def pool(self, name: str) -> PoolPaths:
        """The workers' files of the search of that name."""
        return PoolPaths(self.root / "pools" / name)

    def studies(self) -> list[StudyPaths]:
        """Every study on disk, by name."""
        return [StudyPaths(path.parent) for path in sorted(self.root.glob("studies/*/study.yaml"))]

    def run(self, kind: str, name: str) -> RunPaths:
        """A run of its own: kind is `train` or `final`."""
        return RunPaths(self.root / kind / name)

    def single_runs(self) -> list[RunPaths]:
        """Every run on disk that belongs to no study."""
        found = [*self.root.glob("train/*/run.yaml"), *self.root.glob("final/*/run.yaml")]
        return [RunPaths(path.parent) for path in sorted(found)]


def repository() -> Path:
    """The checkout this code runs from."""
    return Path(__file__).resolve().parents[1]


def configs() -> Path:
    """The folder of the shipped configurations."""
    return repository() / "configs"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary name beside `path`, syncs it and renames it over `path`.

    A reader sees the old file or the new one, never a part. See `remove_stale` for what a kill leaves.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process on any host uses."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{secrets.token_hex(TOKEN_BYTES)}.tmp")


def temporary_names(name: str, host: str) -> str:
    """The pattern of the temporary names of `name`; both arguments are patterns themselves."""
    return f".{name}.{host}.{'[0-9a-f]' * 2 * TOKEN_BYTES}.tmp"


def remove_stale(folder: Path) -> None:
    """Removes what killed writers left in `folder`; only for its owner, as others may be writing there."""
    for temporary in folder.glob(temporary_names("*", "*")):
        if temporary.is_file():
            temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Replaces `path` with `text` (UTF-8) in one step."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
