"""Sends a job through the profile to look around on a node, and waits for its report.

While it waits, the doctor listens at the address that workers would connect to. Whoever connects is told a
random word and nothing else; the job says in its report which word it heard.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.paths import Workspace
from slurm.checks_python import MODULE, own_address
from slurm.cluster import Cluster
from slurm.errors import SlurmError
from slurm.queue import Job, Queue
from slurm.snapshot import take
from slurm.submit import JobSpec, job_name, submit
from slurm.watch import why

MINUTES = 5  # its limit; it takes one, where reading torch from the shared disk is not slow
POLL_S, MOST_POLL_S = 2.0, 15.0  # between questions to Slurm; the longer it waits, the fewer
TELL_EVERY_S = 60.0
ARRIVES_S = 20.0  # files written on a node are seen here later
WORD_BYTES = 16
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Probed:
    """What came of a probe.

    job: its number; empty if it was refused. report: empty if there is none. output: what the job printed.
    heard: the word that was told to whoever connected. arrived: when somebody did, seconds since 1970.
    trouble: why it did not end by itself.
    """

    job: str
    folder: Path
    state: str = ""
    report: dict[str, Any] | None = None
    output: str = ""
    word: str = ""
    arrived: float | None = None
    waited_s: float = 0.0
    trouble: str = ""


class Listener:
    """Tells a random word to whoever connects; never reads anything."""

    def __init__(self, address: str) -> None:
        self.word = secrets.token_hex(WORD_BYTES)
        self.arrived: float | None = None
        self._socket = socket.create_server((address, 0))
        self.address = "{}:{}".format(*self._socket.getsockname()[:2])
        self._thread = threading.Thread(target=self._answer, name="listener", daemon=True)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                self.arrived = time.time()
                with contextlib.suppress(OSError), connection:
                    connection.sendall(f"{self.word}\n".encode())

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def probe(cluster: Cluster, runs: Path, timeout_s: float, tell: Tell) -> Probed:
    """Submits the job and waits for its report; the job is over or cancelled when this returns or raises."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = Workspace(runs.resolve()).doctor / f"{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    with (
        (folder / "lock").open("wb") as lock,
        Listener(own_address(cluster.environment.interface)) as listener,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            job = submit(cluster, spec(cluster, folder, listener.address), take(runs))
        except SlurmError as error:
            return Probed("", folder, trouble=str(error))
        tell(f"probe: job {job} submitted; Ctrl-C cancels it")
        waiting = _Waiting(job, folder, time.monotonic() + timeout_s, tell)
        started = time.monotonic()
        try:
            state, trouble = waiting.wait()
        finally:
            waiting.cancel()
        return Probed(
            job=job,
            folder=folder,
            state=state,
            report=read_report(folder),
            output=_output(folder),
            word=listener.word,
            arrived=listener.arrived,
            waited_s=time.monotonic() - started,
            trouble=trouble,
        )


def spec(cluster: Cluster, folder: Path, address: str) -> JobSpec:
    """The probe's job: a worker's, but for its module and time."""
    arguments = ("--report", str(folder / "report.json"), "--head", address, "--device", cluster.device)
    return JobSpec(
        name=job_name("probe"),
        arguments=(MODULE, *arguments, "--cluster", cluster.name),
        resources=cluster.gpu,
        logs=folder,
        supervised=False,
        minutes=min(MINUTES, cluster.gpu.time),
    )


class _Waiting:
    """The wait for one job, told to a person."""

    def __init__(self, job: str, folder: Path, deadline: float, tell: Tell) -> None:
        self._job = job
        self._folder = folder
        self._deadline = deadline
        self._tell = tell
        self._started = time.monotonic()
        self._told, self._told_at = "", 0.0
        self._over = False
        self._queue = Queue()

    def wait(self) -> tuple[str, str]:
        """The job's last state, and why it was not waited for any longer (empty: it ended)."""
        state = ""
        while True:
            try:
                job = self._queue.jobs().get(self._job) or self._queue.fate(self._job)
                state = self._note(job)
            except SlurmError as error:
                self._say(f"Slurm does not answer; waiting on: {error}")
            if self._over:
                self._await_files()
                return state, ""
            if time.monotonic() >= self._deadline:
                return state, self._told.removeprefix("probe: ") or "it is not known what the job does"
            waited_s = time.monotonic() - self._started
            time.sleep(min(max(POLL_S, waited_s / 20), MOST_POLL_S))

    def _note(self, job: Job | None) -> str:
        if job is None:  # forgotten, without accounting
            self._over = True
            return "UNKNOWN"
        self._over = job.finished
        self._say(f"probe: {describe(job)}")
        return job.state

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if text != self._told or now - self._told_at >= TELL_EVERY_S:
            self._told, self._told_at = text, now
            self._tell(text)

    def _await_files(self) -> None:
        until = time.monotonic() + ARRIVES_S
        while read_report(self._folder) is None and not _output(self._folder) and time.monotonic() < until:
            time.sleep(POLL_S)

    def cancel(self) -> None:
        """Ends the job if it is not over."""
        if not self._over:
            with contextlib.suppress(SlurmError):
                self._queue.cancel([self._job])


def describe(job: Job) -> str:
    """A job's state for a person: where it runs, or why it waits."""
    if job.pending:
        return f"job {job.id} waits ({why(job.reason)})"
    return f"job {job.id} {job.state.lower()}{f' on {job.node}' if job.node else ''}"


def read_report(folder: Path) -> dict[str, Any] | None:
    """What the job has reported so far; None before it has."""
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report


def _output(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.out")))


def tidy(probed: Probed) -> None:
    """Removes the probe's files, when nobody has to look at them."""
    shutil.rmtree(probed.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        probed.folder.parent.rmdir()
