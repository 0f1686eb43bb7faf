"""Where a result came from: code version, host, job, library versions."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import Any

from pipeline.paths import repository

COMMIT_FILE = "COMMIT"  # in a snapshot of the code (see slurm.snapshot): which commit it was taken from
LIBRARIES = ("torch", "torchvision", "timm", "ray", "numpy")


@dataclass(frozen=True)
class Purpose:
    """Why a run is made; recorded with it, without influence on training.

    kind: train, search or final. profile: the configuration profile. final_epochs: how long the final run of
    this configuration would be.
    """

    kind: str = "train"
    profile: str = "full"
    final_epochs: int | None = None


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The code's commit, with `+` if tracked files were changed; None if it is unknown.

    A snapshot knows its own; it may lie inside a checkout that has moved on since.
    """
    snapshot = repository() / COMMIT_FILE
    if snapshot.is_file():
        return snapshot.read_text(encoding="utf-8").strip() or None
    try:
        revision = _git("rev-parse", "--short=12", "HEAD")
        return revision + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(repository()), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def slurm_job() -> str | None:
    """The Slurm job this runs in, as squeue and sacct name it: 123, or 123_4 for a task of an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def node() -> str:
    """This host, as Slurm calls it where it runs a job."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def environment() -> dict[str, Any]:
    """Commit, folder of the code, host, Slurm job and versions, for a run's record."""
    return {
        "commit": commit(),
        "code": str(repository()),
        "node": node(),
        "slurm_job": slurm_job(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "started": now(),
    }
