"""A worker of a search: a Ray node inside a Slurm job, for as long as it is wanted.

    starts ray -> serves -> the driver moved: joins the next one; the driver is gone for good: ends
                         -> SIGTERM, SIGUSR1 or the end of its lifetime: trials save, Ray drains, it ends

Every worker has its own folder for Ray's files on the node, so that several get on there, and leaves nothing.

python -m slurm.worker --pool DIR --cluster NAME
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipeline import cli

if TYPE_CHECKING:
    from pipeline.paths import PoolPaths
    from slurm.cluster import Cluster

POLL_S = 0.5
JOINED_S = 30.0  # a Ray that cannot reach its head ends sooner
MAX_STARTS = 3  # of Ray for the same driver: ports may clash with a neighbour's once
SAVE_S = 60.0  # how long trials may take to save before Ray is ended
KILL_S = 10.0  # how long Ray may take to end
STAGGER_STEPS = 8  # lifetimes of workers one after the other differ
DRAIN = "drain"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Head:
    """The driver's Ray: its address, and since when it has been there (seconds since 1970)."""

    address: str
    since: float


def read_head(pool: PoolPaths) -> Head | None:
    """The newest head that a driver announced; None before there is one."""
    try:
        return Head(**json.loads(pool.head.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def say(text: str) -> None:
    """A line in the job's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} worker on {platform.node()}: {text}", flush=True)


class Worker:
    """Serves drivers one after the other; `run` returns when there is none or it is time to leave."""

    def __init__(self, pool: PoolPaths, cluster: Cluster, scratch: Path) -> None:
        self._pool = pool
        self._cluster = cluster
        self._scratch = scratch
        self._leave_at = time.monotonic() + lifetime_s(cluster, int(os.environ.get("SLURM_JOB_ID", "0")))
        self._signal = 0
        self._served = False
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number

    @property
    def _leaving(self) -> str:
        """Why it is time to leave; empty as long as it is not."""
        if self._signal:
            return signal.Signals(self._signal).name
        return "the end of its lifetime" if time.monotonic() >= self._leave_at else ""

    @property
    def _reason(self) -> str:
        """The leaderboard's name for why it leaves: whoever sends SIGTERM wants the place."""
        return "PREEMPTED" if self._signal in (signal.SIGTERM, signal.SIGINT) else "TIMEOUT"

    def run(self) -> bool:
        """Joins the present driver, then each that follows within the profile's `rejoin_s`.

        Whether it has been of use, or was asked to leave before it could be.
        """
        say("looks for the driver")
        last: Head | None = None
        starts = 0
        while (head := self._next_head(last if starts >= MAX_STARTS else None)) and not self._leaving:
            starts = starts + 1 if head == last else 1
            last = head
            self._served |= self._serve(head, starts) >= JOINED_S
        say(f"leaves: {self._leaving or 'no driver to work for'}")
        return self._served or bool(self._leaving)

    def _next_head(self, other_than: Head | None) -> Head | None:
        """A head that answers and is not `other_than`; None after rejoin_s, or if it is time to leave."""
        deadline = time.monotonic() + self._cluster.pool.rejoin_s
        while not self._leaving:
            head = read_head(self._pool)
            if head is not None and head != other_than and answers(head.address):
                return head
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_S)
        return None

    def _serve(self, head: Head, start: int) -> float:
        """Runs a Ray node until it ends, the driver is another one, or it is time to leave; for how long."""
        begun = time.monotonic()
        folder = self._scratch / f"{head.since:.0f}-{start}"
        folder.mkdir(mode=0o700, exist_ok=True)
        say(f"joins {head.address}")
        ray = subprocess.Popen(
            ray_command(head, folder, self._cluster),
            env=self._environment(folder),
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            while ray.poll() is None and not self._leaving and read_head(self._pool) in (head, None):
                time.sleep(POLL_S)
            if self._leaving:
                say(f"{self._leaving}: trials save, then it leaves")
                with suppress(OSError):  # on a full disk it is there, but empty
                    (folder / DRAIN).write_text(self._reason)
        finally:
            end(ray, SAVE_S if self._leaving else KILL_S)
            say(f"Ray ended with {ray.returncode}")
        return time.monotonic() - begun

    def _environment(self, folder: Path) -> dict[str, str]:
        from tune.local_ray import ENVIRONMENT
        from tune.session import DRAIN_VARIABLE

        return (
            os.environ
            | ENVIRONMENT
            | {
                "RAY_AUTH_TOKEN_PATH": str(self._pool.token),
                "OMP_NUM_THREADS": str(self._cluster.gpu.cpus),
                "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(SAVE_S),
                DRAIN_VARIABLE: str(folder / DRAIN),
            }
        )


def lifetime_s(cluster: Cluster, job: int) -> float:
    """Seconds until a worker leaves: inside the time limit, and not all at the same time."""
    pool = cluster.pool
    whole = pool.lifetime_s or cluster.gpu.time * 60 - pool.drain_s
    stagger = min(pool.stagger_s, whole / 2)
    return whole - stagger * (job % STAGGER_STEPS) / STAGGER_STEPS


def ray_command(head: Head, folder: Path, cluster: Cluster) -> list[str]:
    """`ray start` for a node with what the job was granted, that opens no port it does not need."""
    from tune.local_ray import OBJECT_STORE_BYTES

    job = os.environ.get("SLURM_JOB_ID", "")
    gpus = cluster.gpu.gpus if cluster.device == "cuda" else 0
    return [
        sys.executable,
        *("-m", "ray.scripts.scripts", "start", f"--address={head.address}", "--block"),
        *(f"--num-cpus={cluster.gpu.cpus}", f"--num-gpus={gpus}"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={folder / 'ray'}",
        *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
        *("--disable-usage-stats", f"--labels=slurm_job={job}"),
    ]


def end_with_parent() -> None:
    """Asks the kernel for a SIGTERM when the parent ends: not every site's Slurm finds orphans."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def answers(address: str) -> bool:
    """Whether something listens at host:port."""
    import socket

    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ends Ray and everything it started: asks, waits, then kills its process group and session."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        say(f"Ray does not end within {patience_s:.0f} s and is killed")
    kill_session(process.pid)
    process.wait()


def kill_session(leader: int) -> None:
    """Kills every process of the session that `leader` began: Ray's children make groups of their own."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getsid(int(pid)) == leader:
                os.kill(int(pid), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.worker`."""
    parser = cli.parser(
        "python -m slurm.worker",
        "Works for a search, as a Ray node in a Slurm job. A search submits its workers itself.",
        "  python -m slurm.worker --pool runs/pools/convnext --cluster greene",
    )
    parser.add_argument("--pool", type=Path, required=True, metavar="DIR", help="RUNS/pools/STUDY")
    parser.add_argument("--cluster", required=True, metavar="NAME", help="site profile, or its file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    from pipeline.paths import PoolPaths
    from slurm.cluster import load_cluster
    from slurm.errors import SlurmError
    from tune.scratch import Scratch

    cluster = load_cluster(args.cluster)
    scratch = Scratch(cluster.environment.scratch_folder())
    try:
        was_of_use = Worker(PoolPaths(args.pool), cluster, scratch.root).run()
    finally:
        scratch.remove()
    if not was_of_use:
        raise SlurmError(
            f"no driver of {args.pool} could be reached from {platform.node()}; see whether this node "
            "reaches the driver's (python -m slurm.doctor --probe), and environment.interface in the profile"
        )


if __name__ == "__main__":
    cli.run(main)
