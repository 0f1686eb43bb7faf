"""One attempt at one trial inside a Ray actor: what training reports is what Ray is told, and nothing else.

Checkpoints and records are the training function's own files; Ray moves none. To Ray only the end of the
process is a failure.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune

from pipeline.config import RunConfig
from pipeline.provenance import node
from pipeline.train import Report
from tune.session import DRAIN_VARIABLE, Result, Session, Task

FLUSH_S = 60.0  # how long a stopped training function may take to write its best weights


class BrokenWorkerError(Exception):
    """This process can train nothing any more."""


class LeavingWorkerError(Exception):
    """This process is about to leave and takes no more trials."""


def train(task: Task, config: dict[str, Any], asked_to_stop: Callable[[], bool], report: Report) -> object:
    """Calls the training function. No method of the actor's: Ray would add its own lines to tracebacks."""
    paths, attempt = task.study.trial(config["trial"]), config["attempt"]
    run = RunConfig.model_validate_json(config["run"])
    return task.fit(run, task.data, paths, report, attempt, task.purpose, asked_to_stop)


class FitTrainable(tune.Trainable):  # type: ignore[misc]
    """The actor. `config`: study, trial, attempt and the run's configuration as JSON (see ray_adapter)."""

    def setup(self, config: dict[str, Any], tasks: dict[str, Task]) -> None:
        """Takes the studies' tasks and the first trial."""
        self._tasks = tasks
        self._session: Session | None = None
        self._drain = os.environ.get(DRAIN_VARIABLE)
        self._told_to_leave = False
        self._moved = False
        signal.signal(signal.SIGTERM, self._leave)  # preempted jobs get it before they are killed

    def step(self) -> Result:
        """The next thing to tell the driver: first that the attempt has begun, then what training reports.

        Raises BrokenWorkerError if the GPU cannot be used in this process any more, LeavingWorkerError once
        the trial is saved on a worker that is about to leave, or has run out of memory: Ray ends the process.
        """
        if self._moved:
            raise LeavingWorkerError("the worker leaves")
        common = {key: self.config[key] for key in ("study", "trial", "attempt")}
        if self._session is not None:
            result = self._session.next_result()
            if result["event"] == "broken":
                raise BrokenWorkerError(result["message"])
            if result["event"] == "moved":
                self._moved = True
                result.setdefault("reason", self._why_it_leaves())
            return common | result
        task = self._tasks[self.config["study"]]
        self._session = Session(partial(train, task, self.config, self._is_leaving))
        job = os.environ.get("SLURM_JOB_ID")
        return common | {"event": "started", "host": node(), "job": job, "process": os.getpid()}

    def _is_leaving(self) -> bool:
        return self._told_to_leave or (self._drain is not None and Path(self._drain).exists())

    def _why_it_leaves(self) -> str:
        """The leaderboard's reason; a signal to this process alone comes from whoever wants its place."""
        file = None if self._drain is None else Path(self._drain)
        return (file is not None and file.exists() and file.read_text()) or "PREEMPTED"

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._told_to_leave = True

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Makes room for the next trial. Raises RuntimeError, which ends the actor, if the last one hangs."""
        self.cleanup()
        self.config = new_config
        return True

    def cleanup(self) -> None:
        """Ends the trial that is here."""
        session, self._session = self._session, None
        if session is not None and not session.stop(FLUSH_S):
            raise RuntimeError(f"a stopped trial did not end within {FLUSH_S:.0f} s; its worker is replaced")
