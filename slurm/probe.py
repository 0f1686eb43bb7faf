"""Looks around on the node that it runs on, and reports as JSON what a search would meet there.

Nothing but the standard library is needed to start: that torch or another library is missing is a finding.
The report is written after every step, so that a step that ends the process is known by its absence.

python -m slurm.probe
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import cli

LIBRARIES = ("torch", "torchvision", "timm", "ray", "submitit", "pydantic", "numpy")
SLURM_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
CONNECT_S = 10
ASK_S = 20
SOCKET_BYTES = 70  # of its own that Ray adds to the folder's name
Step = Callable[[argparse.Namespace], Any]


def python(args: argparse.Namespace) -> dict[str, Any]:
    """Which Python this is, and its libraries' versions (None: not installed)."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {"version": platform.python_version(), "executable": sys.executable, "libraries": versions}


def slurm_commands(args: argparse.Namespace) -> dict[str, str | None]:
    """Where Slurm's commands are, as a job sees them."""
    return {name: shutil.which(name) for name in SLURM_COMMANDS}


def host(args: argparse.Namespace) -> dict[str, Any]:
    """The node, the job, and what the job may use."""
    return {
        "node": os.environ.get("SLURMD_NODENAME") or platform.node(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "cpus": len(os.sched_getaffinity(0)),
        "gpus_granted": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "interfaces": [name for _, name in socket.if_nameindex()],
    }


def controller(args: argparse.Namespace) -> str:
    """Empty if Slurm's controller answers a job; a job could not be requeued otherwise."""
    result = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=ASK_S, check=False)
    return (result.stderr.strip() or result.stdout.strip()) if result.returncode else ""


def runs(args: argparse.Namespace) -> dict[str, Any]:
    """Whether the results' folder is the doctor's, may be written, and whether its locks hold across hosts.

    The doctor holds the lock that is tried here.
    """
    folder = args.report.parent
    lock = folder / "lock"
    seen = lock.exists()
    with (folder / "written-by-node").open("w", encoding="utf-8") as handle:
        handle.write(platform.node())
    excluded = None
    if seen:
        try:
            with lock.open("rb+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            excluded = False
        except BlockingIOError:
            excluded = True
    return {"seen": seen, "written": True, "lock_excludes": excluded}


def scratch(args: argparse.Namespace) -> dict[str, Any]:
    """The folder for temporary files: whether it takes files and sockets with names as long as Ray's."""
    from slurm.cluster import load_cluster
    from tune.scratch import Scratch

    own = Scratch(load_cluster(args.cluster).environment.scratch_folder())
    try:
        (own.root / "file").write_bytes(b"0" * 1_000_000)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(own.root / ("s" * SOCKET_BYTES)))
        free_gb = shutil.disk_usage(own.root).free / 1e9
        return {"folder": str(own.root.parent), "free_gb": round(free_gb, 1)}
    finally:
        own.remove()


def head(args: argparse.Namespace) -> dict[str, Any]:
    """What the doctor says who listens at --head: its word is compared there. Nothing is sent."""
    name, _, port = args.head.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=CONNECT_S) as connection:
        connected = time.time()
        with connection.makefile("r", encoding="ascii") as lines:
            return {"word": lines.readline().strip(), "time": connected}


def gpu(args: argparse.Namespace) -> dict[str, Any]:
    """torch, its CUDA build, the driver, the GPUs, and whether one computes."""
    from slurm.probe_gpu import look

    return look(args.device)


ALWAYS: dict[str, Step] = {"python": python, "slurm_commands": slurm_commands}
ON_A_NODE: dict[str, Step] = {
    **ALWAYS,
    "host": host,
    "runs": runs,
    "head": head,
    "controller": controller,
    "scratch": scratch,
    "gpu": gpu,
}


def attempt(step: Step, args: argparse.Namespace) -> Any:
    """What a step found; {"error": text} if it failed."""
    try:
        return step(args)
    except Exception as error:  # whatever a node does to it is what was asked for
        return {"error": f"{type(error).__name__}: {error}"}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.probe`."""
    parser = cli.parser(
        "python -m slurm.probe",
        "Reports what a job would meet on this host; slurm.doctor --probe sends it.",
        "  python -m slurm.probe\n  python -m slurm.probe --report report.json --head 10.0.0.1:5000",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="where the whole report goes")
    parser.add_argument("--head", metavar="HOST:PORT", help="where the doctor listens")
    parser.add_argument("--cluster", metavar="NAME", help="site profile, or its file")
    parser.add_argument("--device", default="cuda", metavar="NAME", help="cuda or cpu (default: cuda)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    report: dict[str, Any] = {}
    for name, step in (ON_A_NODE if args.report else ALWAYS).items():
        report[name] = attempt(step, args)
        if args.report:
            write(args.report, report, complete=False)
    if args.report:
        write(args.report, report, complete=True)
    print(json.dumps(report), flush=True)


def write(path: Path, report: dict[str, Any], complete: bool) -> None:
    """Replaces the report in one step."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({**report, "complete": complete}), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    cli.run(main)
