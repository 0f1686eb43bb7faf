"""A Ray of this process's own on this machine: never somebody else's, private, gone afterwards."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.paths import temporary_name
from pipeline.signals import interruptible
from tune.place import Demand, Fate, Workers
from tune.scratch import Scratch

OBJECT_STORE_BYTES = 100_000_000  # reports are small; the data never passes through Ray
NAME_BYTES = 4
NEVER_S = "1000000000"

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "token",  # else anyone who reaches a port runs code as this user (CVE-2023-48022)
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # else Ray starts an attempt again that the study replaces
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it may kill for a neighbour's memory; the job's cgroup decides
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # tune.ray_adapter has its own
    "TUNE_GLOBAL_CHECKPOINT_S": NEVER_S,  # the journal is the state
}


def write_token(path: Path) -> Path:
    """Makes a new secret in a file that only its user can read, unless there is one already."""
    if not path.exists():
        temporary = temporary_name(path)
        temporary.touch(mode=0o600)
        temporary.write_text(secrets.token_hex())
        temporary.rename(path)
    return path


class LocalRay:
    """Starts on first use; all its processes and files are gone when the block ends."""

    def __init__(self, workers: Workers, scratch: Path | None = None) -> None:
        self.workers = workers
        self._scratch = Scratch(scratch)
        self._running = False
        self._name = f"{platform.node()}/{os.getpid()}/{secrets.token_hex(NAME_BYTES)}"

    @property
    def scratch(self) -> Path:
        """The folder of all its files."""
        return self._scratch.root

    def attend(self, demand: Demand, say: Callable[[str], None]) -> None:
        """Nothing: the workers are there."""

    def held(self) -> frozenset[str]:
        """All workers, from the start to the end of this process."""
        return frozenset(f"{self._name}/{number}" for number in range(self.workers.count))

    def fate_of(self, slurm_job: str | None) -> Fate:
        """Nothing is known: on this machine a worker dies of what it does."""
        return Fate()

    def start(self) -> None:
        """Starts Ray unless it runs. Must come before anything else imports it: it reads RAY_* only once.

        Raises KeyboardInterrupt, once it has started, for a signal that came meanwhile.
        """
        if self._running:
            return
        os.environ.update(ENVIRONMENT)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(self.token())
        os.environ["OMP_NUM_THREADS"] = str(self.workers.threads)  # torch's threads are the trial's CPUs
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self.workers.count)
        with interruptible() as interrupted:  # a Ray that is half started cannot be stopped cleanly
            import ray  # noqa: F401  # takes seconds

            if not interrupted():
                self._init()
        if interrupted():
            raise KeyboardInterrupt

    def _init(self) -> None:
        import ray

        self._running = True
        ray.init(
            address="local",
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(self.scratch / "ray"),
            **self.options(),
        )

    def stop(self) -> None:
        """Ends Ray, if it runs."""
        if self._running:
            import ray

            self._running = False
            ray.shutdown()

    def options(self) -> dict[str, Any]:
        """What this machine's Ray offers to trials."""
        return {
            "num_cpus": self.workers.count * self.workers.threads,
            "num_gpus": self.workers.count * self.workers.gpus,
        }

    def token(self) -> Path:
        """The file of the secret without which nobody may talk to this Ray."""
        return write_token(self.scratch / "token")

    def __enter__(self) -> LocalRay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._scratch.remove()
