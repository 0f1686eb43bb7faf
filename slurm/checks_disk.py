"""What the doctor looks at on this host: the folder of the results, scratch folders, open files."""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from slurm.cluster import Cluster
from slurm.commands import ask
from slurm.findings import Finding, note, ok, problem, warning
from tune.scratch import MAX_PARENT

GB = 1e9
LITTLE_GB, TOO_LITTLE_GB = 20.0, 1.0  # the largest network's checkpoint with optimizer state has 1.4 GB
FEW_FILES, TOO_FEW_FILES = 10_000, 500  # a study of 100 trials leaves about 700
FEW_OPEN_FILES = 4096  # Ray opens some for every worker and its processes
MOUNTS = Path("/proc/self/mounts")
OF_ONE_HOST = {"tmpfs", "ramfs", "overlay", "devtmpfs"}
NODE_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")


def results(runs: Path, probed: bool) -> tuple[Finding, ...]:
    """All about the folder RUNS; `probed`: whether a job will look at it from a node."""
    root = runs.resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _write(root)
    except OSError as error:
        remedy = "give --runs DIR (or PIPELINE_RUNS), a folder of yours on the shared disk"
        return (problem("RUNS", f"{root} cannot be written: {error.strerror}", remedy),)
    found = [ok("RUNS", f"{root} can be written"), *_shared(root, probed), *locks(root), *_room(root)]
    return (*found, *_files(root), *quota())


def _write(root: Path) -> None:
    """Writes, renames and removes a file, as every record is written."""
    path = root / f".doctor-{secrets.token_hex(4)}"
    try:
        path.write_text("written by slurm.doctor\n", encoding="utf-8")
        path.replace(path.with_suffix(".renamed"))
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".renamed").unlink(missing_ok=True)


def filesystem(path: Path) -> tuple[str, str]:
    """Mount point and type of the file system of an absolute path; empty where it is not told."""
    best = ("", "")
    lines = MOUNTS.read_text(encoding="utf-8").splitlines() if MOUNTS.exists() else []
    for line in lines:
        point, kind = line.split()[1:3]
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best


def _shared(root: Path, probed: bool) -> Iterator[Finding]:
    kind = filesystem(root)[1]
    own = next((folder for folder in NODE_FOLDERS if root.is_relative_to(folder)), None)
    if not own and kind not in OF_ONE_HOST:
        return
    what = f"it lies under {own}" if own else f"it is on {kind}"
    told = f"{what}, which is usually a host's own disk; nodes must see the same files"
    if probed:
        yield note("RUNS", f"{told}; the probe below tells whether they do")
    else:
        yield warning("RUNS", told, "give --runs DIR on the shared disk, or see with --probe")


def locks(root: Path) -> Iterator[Finding]:
    """Whether file locks work there: one keeps a study from having two drivers."""
    path = root / f".doctor-{secrets.token_hex(4)}.lock"
    try:
        with path.open("wb") as first, path.open("wb") as second:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield ok("locks", "file locks work there")
                return
        what = "a file can be locked twice"
    except OSError as error:
        what = str(error.strerror)
    finally:
        path.unlink(missing_ok=True)
    yield problem(
        "locks",
        f"file locks do not work in {root}: {what}; nothing would keep a study from having two drivers",
        "give --runs DIR on a file system with locks; Lustre has them when it is mounted with -o flock",
    )


def _room(root: Path) -> Iterator[Finding]:
    free_gb = shutil.disk_usage(root).free / GB
    told = f"{free_gb:.0f} GB free there" if free_gb >= 10 else f"{free_gb:.1f} GB free there"
    remedy = "make room or give another --runs DIR; a run that meets a full disk waits and goes on"
    needed = f"{LITTLE_GB:.0f} GB for some runs at once: a checkpoint has up to 1.4 GB"
    if free_gb < TOO_LITTLE_GB:
        yield problem("disk", told, remedy, needed)
    elif free_gb < LITTLE_GB:
        yield warning("disk", told, remedy, needed)
    else:
        yield ok("disk", told)


def _files(root: Path) -> Iterator[Finding]:
    stat = os.statvfs(root)
    if stat.f_files == 0:  # some file systems count none
        yield note("inodes", "the file system does not tell how many files it can still take")
        return
    told = f"room for {stat.f_favail:,} files"
    remedy = "remove files, or give another --runs DIR"
    needed = f"{FEW_FILES:,}: a trial leaves about 7, the code of each version 150"
    if stat.f_favail < TOO_FEW_FILES:
        yield problem("inodes", told, remedy, needed)
    elif stat.f_favail < FEW_FILES:
        yield warning("inodes", told, remedy, needed)
    else:
        yield ok("inodes", told)


def quota() -> Iterator[Finding]:
    """What `quota` says, where there is one. It marks what is used up with a star."""
    if shutil.which("quota") is None:
        yield note("quota", "there is no `quota` here; many sites have a command of their own that tells it")
        return
    answer = ask("quota", "-w")
    over = [line.split()[0] for line in answer.output.splitlines() if "*" in line]
    if over:
        yield warning("quota", f"used up on {', '.join(over)}", "make room; `quota -s` tells how much")
    elif answer.failed and answer.failed not in answer.said:
        yield note("quota", f"`quota` fails: {answer.failed}")
    else:
        yield ok("quota", "not used up, says `quota`")


def host(cluster: Cluster) -> tuple[Finding, ...]:
    """All about this host that is not the results' folder."""
    return (*_scratch(cluster), *_open_files())


def _scratch(cluster: Cluster) -> Iterator[Finding]:
    for text in cluster.environment.scratch:
        filled = os.path.expandvars(text)
        if "$" in filled:
            continue  # told only inside a job
        if len(filled) > MAX_PARENT:
            yield warning(
                "scratch",
                f"environment.scratch: {filled} has {len(filled)} characters; /tmp is taken instead, as the "
                "names of sockets are limited",
                "name a shorter folder on the node's own disk",
                f"at most {MAX_PARENT} characters",
            )
        elif not Path(filled).is_dir():
            yield note("scratch", f"{filled} is not on this host; the probe tells whether nodes have it")
        else:
            yield ok("scratch", f"{filled} is there")
            return


def _open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if hard != resource.RLIM_INFINITY and hard < FEW_OPEN_FILES:
        yield warning(
            "open files",
            f"at most {limit} (ulimit -Hn), and jobs take this limit over",
            f'add "ulimit -n {FEW_OPEN_FILES}" to environment.setup if nodes allow it, or keep --workers low',
            f"{FEW_OPEN_FILES} for a search's driver",
        )
    else:
        yield ok("open files", f"{soft}, may be raised to {limit} (ulimit -n)")
