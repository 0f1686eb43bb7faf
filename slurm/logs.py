"""The output of a job: which file it is, its last lines, and what comes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.paths import RunPaths, Workspace
from slurm.errors import SlurmError
from slurm.launching import Launched, launches
from slurm.queue import ask
from slurm.submit import JOB_PREFIX
from slurm.watch import DRIVER, chosen, own_jobs

POLL_S = 1.0
ASK_EVERY_S = 15.0  # whether the job still runs
LINE_BYTES = 400  # a generous guess, to read the end of a large file only


def show(runs: Path, what: str | None, lines: int, follow: bool) -> None:
    """Prints the end of a job's output; with `follow` what comes, too, from before the job starts to its end.

    Raises StudyError if there is no such output.
    """
    if not follow:
        _print_end(find(runs, what), lines)
        return
    try:
        what = _driver_now(runs, what) or what
        path = _wait_for(runs, what)
        _follow(runs, path, what, _print_end(path, lines))
    except KeyboardInterrupt:
        print("\nleft; the job goes on", flush=True)


def _driver_now(runs: Path, what: str | None) -> str | None:
    """The number of the queued driver that `what` names: the output of an earlier one is not meant."""
    try:
        named = chosen(own_jobs(runs), [what]) if what else []
    except SlurmError:
        return None
    return next((ours.job.id for ours in named if ours.kind == DRIVER), None)


def _wait_for(runs: Path, what: str | None) -> Path:
    """The output of a job, once it has started. Raises StudyError if there is neither output nor job."""
    told, asked = "", -ASK_EVERY_S
    while True:
        asks = time.monotonic() - asked >= ASK_EVERY_S
        try:
            return find(runs, what, asks)
        except StudyError:
            if asks:
                asked, line = time.monotonic(), _why_not_yet(runs, what)
            if not line:
                raise
        if line != told:
            print(f"waiting: {line}", flush=True)
            told = line
        time.sleep(POLL_S)


def _why_not_yet(runs: Path, what: str | None) -> str:
    """What a job that has no output yet waits for; empty if there is no such job."""
    if shutil.which("squeue") is None:
        return ""
    try:
        waiting = chosen(own_jobs(runs), [what or "all"])
    except SlurmError as error:
        return str(error)
    return f"job {waiting[0].job.id} {waiting[0].waits() or waiting[0].job.state.lower()}" if waiting else ""


def find(runs: Path, what: str | None, asks: bool = True) -> Path:
    """The newest output of a job, a study, a model or a run; `asks`: Slurm, too, where it is.

    Raises StudyError if there is none.
    """
    files = list(_candidates(runs, what, asks)) or list(_of_ray(runs, what))
    if not files:
        known = ", ".join(job for launched, _ in launches(runs) for job in launched.jobs) or "none"
        raise StudyError(
            f"no output of {what or 'any job'}: it has not started, or was launched elsewhere "
            f"(jobs launched into {runs}: {known}); see python -m slurm.launch status"
        )
    return max(files, key=lambda path: path.stat().st_mtime)


def _candidates(runs: Path, what: str | None, asks: bool) -> Iterable[Path]:
    job = _job_of_run(runs, what) if what else None
    wanted = job or what
    for launched, folder in launches(runs):
        if wanted is None or _names(launched, wanted):
            yield from folder.glob(_pattern(wanted, launched))
    if wanted is not None:
        yield from Path().glob(f"{JOB_PREFIX}-*-{wanted}.out")  # submitted by hand from here
        yield from _told_by_slurm(wanted) if asks else ()


def _of_ray(runs: Path, study: str | None) -> Iterable[Path]:
    """What Ray prints: all that there is of a search outside of Slurm."""
    if study:
        yield from (path for path in [Workspace(runs).study(study).log] if path.exists())


def _names(launched: Launched, wanted: str) -> bool:
    return wanted.partition("_")[0] in launched.jobs or wanted in launched.what


def _pattern(wanted: str | None, launched: Launched) -> str:
    """Output files are named after the job, NAME-JOB.out or NAME-JOB_TASK.out."""
    if wanted is None or wanted in launched.what:
        return "*.out"
    return f"*-{wanted}.out" if "_" in wanted else f"*-{wanted}[._]*"


def _job_of_run(runs: Path, what: str) -> str | None:
    """The Slurm job that trained a run, given its folder or its name."""
    from pipeline.runrecord import read_run

    workspace = Workspace(runs)
    for paths in (RunPaths(Path(what)), workspace.run("train", what), workspace.run("final", what)):
        if paths.record.exists():
            job = read_run(paths).get("slurm_job")
            return str(job) if job else None
    return None


def _told_by_slurm(job: str) -> Iterable[Path]:
    """The file that Slurm itself names, for a job that it remembers."""
    if not job.replace("_", "").isdecimal():
        return
    try:
        fields = ask(["scontrol", "show", "job", job]).split()
    except SlurmError:
        return
    named = (Path(field.removeprefix("StdOut=")) for field in fields if field.startswith("StdOut="))
    yield from (path for path in named if path.exists())


def _print_end(path: Path, lines: int) -> int:
    """Prints the last lines; where the file ended."""
    print(f"==> {path} <==", flush=True)
    with path.open("rb") as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - lines * LINE_BYTES))
        content = handle.read()
    shown = content.splitlines(keepends=True)[-lines:]
    sys.stdout.write(b"".join(shown).decode(errors="replace"))
    sys.stdout.flush()
    return size


def _follow(runs: Path, path: Path, what: str | None, position: int) -> None:
    """Prints what is added, until the job is gone or the user leaves."""
    asked = time.monotonic()
    while True:
        time.sleep(POLL_S)
        gone = False
        if time.monotonic() - asked > ASK_EVERY_S:
            asked, gone = time.monotonic(), not still_written(runs, path, what)
        with path.open("rb") as handle:
            handle.seek(position)
            added = handle.read()
        position += len(added)
        sys.stdout.write(added.decode(errors="replace"))
        sys.stdout.flush()
        if gone:
            return


def still_written(runs: Path, path: Path, what: str | None) -> bool:
    """Whether the job that writes a file is still queued; yes if Slurm does not tell."""
    last = path.stem.rpartition("-")[2]
    number = last if last.replace("_", "").isdecimal() else None
    try:
        return bool(chosen(own_jobs(runs), [number or what or "all"]))
    except SlurmError:
        return True
