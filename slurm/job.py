"""Inside a job: runs a module, and sees to it that the work goes on whatever happens to process or job.

| what happens                           | what this does                                                    |
|----------------------------------------|-------------------------------------------------------------------|
| SIGUSR1: the time limit is near        | SIGTERM to the module, which saves; the job back into the queue   |
| SIGTERM: cancelled or preempted        | lets the module save and leaves; Slurm requeues what it preempted |
| the module is killed (kill -9, memory) | starts it again; gives up if it keeps being killed                |
| exit code 74: the disk is full         | waits, starts it again                                            |
| any other exit code                    | leaves with it                                                    |

It is what the batch script becomes, so that Slurm's signals reach it:

python -m slurm.job -- MODULE ARGUMENTS
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import FrameType

from pipeline import cli
from pipeline.provenance import node, now, slurm_job
from slurm.errors import SlurmError
from slurm.limit import TimeLimit
from slurm.queue import SUBMIT_AGAIN, Queue

TIME_IS_UP = (signal.SIGUSR1,)
LEAVE = (signal.SIGTERM, signal.SIGINT)
SUPERVISED = "PIPELINE_SUPERVISED"  # tells a module that it is started again if it is stopped
EXIT_REQUEUE = 85  # the batch script puts the job back into the queue
POLL_S = 0.2
SETTLE_S = 1.0  # a signal for the whole job may reach the module a moment earlier than this process
SAVE_SHARE, REQUEUE_SHARE = 0.75, 0.2  # of the time between the signal and the limit
REQUEUE_TRIES = 4
REQUEUE_TIMEOUT_S = 20


@dataclass(frozen=True)
class Patience:
    """How long and how often.

    save_s: what the module gets to save; then it is killed.
    requeue_s: for how long a controller that refuses is asked again.
    quick_s, quick, kills: the module is given up if it is killed within its first quick_s seconds `quick`
        times in a row, or `kills` times in all.
    disk_s, disk_most_s: the first and the longest wait for room on the disk.
    requeue: whether the site lets a job go back into the queue.
    requeue_outside: leave with EXIT_REQUEUE, as Slurm's commands are not to be had in the container.
    """

    save_s: float = 90.0
    requeue_s: float = 24.0
    quick_s: float = 60.0
    quick: int = 3
    kills: int = 20
    disk_s: float = 60.0
    disk_most_s: float = 600.0
    requeue: bool = True
    requeue_outside: bool = False


class Supervisor:
    """Runs one command until it is done, cannot go on, or the job has to end."""

    def __init__(self, command: list[str], patience: Patience, limit: TimeLimit) -> None:
        self._command = command
        self._patience = patience
        self._limit = limit
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: signal.Signals | None = None
        self._asked_at = 0.0
        self._quick = 0
        self._kills = 0
        self._disk_s = patience.disk_s

    def run(self) -> int:
        """The exit code of the job."""
        for number in (*TIME_IS_UP, *LEAVE):
            signal.signal(number, self._remember)
        while True:
            started = time.monotonic()
            code = self._run_once()
            lived_s = time.monotonic() - started
            self._pause(SETTLE_S if code < 0 else 0.0)
            if self._asked is not None:
                return self._leave(code)
            if not self._goes_on(code, lived_s):
                return exit_code(code)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._ask(signal.Signals(number))

    def _ask(self, received: signal.Signals) -> None:
        """The first signal decides; a cancellation overrides the end of the time."""
        if self._asked is None:
            self._asked_at = time.monotonic()
        if self._asked is None or received in LEAVE:
            self._asked = received
        self._tell_child()

    def _tell_child(self) -> None:
        """Asks the module to save and end.

        Slurm sends SIGTERM to every process of the job; a second one would end the module at once. So it is
        passed on as SIGINT.
        """
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signal.SIGTERM if self._asked in TIME_IS_UP else signal.SIGINT)

    def _run_once(self) -> int:
        """Starts the module, waits for its end and ends what it left behind; its return code."""
        if self._asked is not None:
            return cli.EXIT_INTERRUPTED
        child = subprocess.Popen(self._command, process_group=0, env=os.environ | {SUPERVISED: "1"})
        self._child = child
        if self._asked is not None:  # between the question above and the line above
            self._tell_child()
        while child.poll() is None:
            self._watch_the_time()
            self._kill_if_late(child)
            time.sleep(POLL_S)
        kill_group(child.pid)
        return child.returncode

    def _watch_the_time(self) -> None:
        if self._asked is None and self._limit.near():
            self._ask(signal.SIGUSR1)

    def _kill_if_late(self, child: subprocess.Popen[bytes]) -> None:
        asked = self._asked in TIME_IS_UP
        if asked and time.monotonic() - self._asked_at > self._patience.save_s:
            say(f"not ended within {self._patience.save_s:.0f} s; killing it: the last checkpoint counts")
            kill_group(child.pid)

    def _leave(self, code: int) -> int:
        """The job has to end: back into the queue if its time is up and something is left to do."""
        unfinished = code < 0 or code in (cli.EXIT_INTERRUPTED, cli.EXIT_DISK)
        if self._asked in LEAVE or not unfinished:
            say(f"leaving with exit code {exit_code(code)}, on {_name(self._asked)}")
            return exit_code(code)
        if not self._patience.requeue:
            say(f"the time limit is near: saved, and leaving, as jobs.requeue is false; {SUBMIT_AGAIN}")
            return exit_code(code)
        if self._patience.requeue_outside:
            say("the time limit is near: saved, and leaving; the batch script puts the job into the queue")
            return EXIT_REQUEUE
        return 0 if requeue(self._patience.requeue_s) else exit_code(code)

    def _goes_on(self, code: int, lived_s: float) -> bool:
        """Whether to start the module again, after the wait that this takes."""
        if code == cli.EXIT_DISK:
            say(f"the disk is full or failing; trying again in {self._disk_s:.0f} s")
            self._pause(self._disk_s)
            self._disk_s = min(2 * self._disk_s, self._patience.disk_most_s)
            return True
        if code >= 0:
            return False
        return self._may_restart(signal.Signals(-code), lived_s)

    def _may_restart(self, killed_by: signal.Signals, lived_s: float) -> bool:
        patience = self._patience
        self._kills += 1
        self._quick = self._quick + 1 if lived_s < patience.quick_s else 0
        what = f"killed by {killed_by.name} after {lived_s:.0f} s"
        if self._quick >= patience.quick or self._kills >= patience.kills:
            say(
                f"{what}, the {self._kills}. time: giving up. SIGKILL often means out of memory: raise "
                "gpu.memory in the cluster profile or lower train.batch_size; the same command then goes on"
            )
            return False
        say(f"{what}; starting it again, from its last checkpoint")
        return True

    def _pause(self, seconds: float) -> None:
        """Sleeps, unless the job has to end."""
        until = time.monotonic() + seconds
        while self._asked is None and time.monotonic() < until:
            self._watch_the_time()
            time.sleep(min(POLL_S, max(0.0, until - time.monotonic())))


def requeue(patience_s: float) -> bool:
    """Puts this job back into the queue, of an array only this task; says whether that worked."""
    job = slurm_job()
    problem = f"SLURM_JOB_ID is not set: this is no Slurm job; {SUBMIT_AGAIN}"
    for attempt in range(REQUEUE_TRIES if job else 0):
        time.sleep(patience_s / (REQUEUE_TRIES - 1) if attempt else 0.0)
        try:
            Queue(REQUEUE_TIMEOUT_S).requeue(str(job))
        except SlurmError as error:
            problem = str(error)
            continue
        say("the time limit is near: saved, and back into the queue; it goes on where it was")
        return True
    say(f"could not go back into the queue: {problem}")
    return False


def kill_group(leader: int) -> None:
    """Kills what is left of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def exit_code(code: int) -> int:
    """A return code as a shell has it: 128 and the signal's number for a killed process."""
    return code if code >= 0 else 128 - code


def say(text: str) -> None:
    """A line in the job's log."""
    print(f"[{now()} job {slurm_job()}] {text}", flush=True)


def _name(number: signal.Signals | None) -> str:
    return number.name if number is not None else "its own"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.job`."""
    parser = cli.parser(
        "python -m slurm.job",
        "Runs a module inside a Slurm job: requeues it before the time limit, restarts it\n"
        "if it is killed. Batch scripts end with it; python -m slurm.launch writes them.",
        "  python -m slurm.job -- pipeline.train --model convnext\n"
        "  python -m slurm.job --signal-s 120 -- pipeline.final --runs runs",
    )
    parser.add_argument(
        "--signal-s",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds between SIGUSR1 and the time limit (default: 120)",
    )
    parser.add_argument(
        "--disk-wait-s",
        type=float,
        default=60.0,
        metavar="S",
        help="first wait for a full disk (default: 60)",
    )
    parser.add_argument(
        "--no-requeue", action="store_true", help="the site forbids it: end, and say what to submit again"
    )
    parser.add_argument(
        "--requeue-outside",
        action="store_true",
        help=f"leave with exit code {EXIT_REQUEUE} instead of asking Slurm: it is outside the container",
    )
    parser.add_argument("module", metavar="MODULE", help="as python -m takes it")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="of the module")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    shares = (SAVE_SHARE * args.signal_s, REQUEUE_SHARE * args.signal_s)
    where = {"requeue": not args.no_requeue, "requeue_outside": args.requeue_outside}
    patience = Patience(*shares, disk_s=args.disk_wait_s, **where)
    os.environ["PYTHONUNBUFFERED"] = "1"  # the log is read while it is written
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    say(f"{args.module} on {node()}, start {int(restarts) + 1} of this job")
    command = [sys.executable, "-P", "-m", args.module, *args.arguments]
    sys.exit(Supervisor(command, patience, TimeLimit(args.signal_s)).run())


if __name__ == "__main__":
    cli.run(main)
