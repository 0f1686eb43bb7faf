"""The code as it was when a job was submitted, so that a requeued job does not meet another one.

RUNS/code/<hash>/ holds pipeline, tune, slurm, configs and pyproject.toml; COMMIT and, where the checkout had
uncommitted changes, CHANGES.patch say which version that is. Equal code is stored once. A job that was
submitted by hand takes its snapshot when it first starts: RUNS/code/job-<id> then points to it.

python -m slurm.snapshot
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from pipeline import cli
from pipeline.paths import Workspace, repository
from pipeline.provenance import COMMIT_FILE, commit

FOLDERS = ("pipeline", "tune", "slurm", "configs")
FILES = ("pyproject.toml",)
SUFFIXES = {".py", ".yaml", ".toml", ".sbatch", ".md"}
PATCH = "CHANGES.patch"
HASH_DIGITS = 12


def take(runs: Path) -> Path:
    """The snapshot of the running code under `runs`, made if it is not there yet.

    Code that runs from a snapshot is one already: its own folder is returned.
    """
    target = place(runs)
    if not target.exists():
        source = repository()
        _write(target, commit() or "", _contents(source), source)
    return target


def place(runs: Path) -> Path:
    """Where the snapshot of the running code is, or would be."""
    source = repository()
    if (source / COMMIT_FILE).is_file():
        return source
    return Workspace(runs.resolve()).code / _digest(commit() or "", _contents(source))


def of_job(runs: Path, job: str) -> Path:
    """The snapshot that a job took when it first started, or takes now."""
    link = Workspace(runs.resolve()).code / f"job-{job}"
    if not link.exists():
        target = take(runs)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))
    return link.resolve()


def _contents(source: Path) -> dict[str, bytes]:
    """Every file that running needs, by its path below `source`, in a fixed order."""
    found = [path for folder in FOLDERS for path in (source / folder).rglob("*") if path.suffix in SUFFIXES]
    found += [source / name for name in FILES if (source / name).is_file()]
    return {str(path.relative_to(source)): path.read_bytes() for path in sorted(found) if path.is_file()}


def _digest(version: str, contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256(version.encode())
    for name, content in contents.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:HASH_DIGITS]


def _write(target: Path, version: str, contents: dict[str, bytes], source: Path) -> None:
    """Makes `target` appear whole or not at all; another process may make the same one meanwhile."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        for name, content in contents.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if version.endswith("+"):
            (temporary / PATCH).write_bytes(_changes(source))
        (temporary / COMMIT_FILE).write_text(version + "\n", encoding="utf-8")
        temporary.rename(target)
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _changes(source: Path) -> bytes:
    """What tracked files differ in from the commit; new files are in the snapshot, though not in here."""
    command = ["git", "-C", str(source), "diff", "--binary", "HEAD"]
    return subprocess.run(command, capture_output=True, check=False).stdout


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.snapshot`."""
    parser = cli.parser(
        "python -m slurm.snapshot",
        "Stores the code that runs under RUNS/code, once, and prints where.",
        "  python -m slurm.snapshot\n  python -m slurm.snapshot --job $SLURM_JOB_ID   the same at each start",
    )
    parser.add_argument("--job", metavar="ID", help="the snapshot that this job took when it first started")
    cli.add_runs(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    print(of_job(args.runs, args.job) if args.job else take(args.runs))


if __name__ == "__main__":
    cli.run(main)
