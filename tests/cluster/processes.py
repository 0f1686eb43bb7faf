"""Processes seen through /proc: the daemons of a cluster, the trees below them, what jobs left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int  # clock ticks since boot

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        found = read_stat(self.pid)
        return found is not None and found.process == self and found.state not in "ZX"

    def send(self, number: int) -> None:
        """Sends a signal, unless the process has gone."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


@dataclass(frozen=True)
class Stat:
    """What /proc tells of a process."""

    process: Process
    name: str
    state: str
    parent: int


def read_stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Stat(Process(pid, int(fields[19])), name, fields[0], int(fields[1]))


def all_processes() -> list[Stat]:
    numbers = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [stat for stat in map(read_stat, numbers) if stat is not None and stat.state not in "ZX"]


def trees_below(roots: Iterable[Process]) -> list[Process]:
    """The processes given and all their descendants, parents first."""
    everything = all_processes()
    found = list(dict.fromkeys(roots))
    for process in found:  # grows while it is walked
        children = (stat.process for stat in everything if stat.parent == process.pid)
        found.extend(child for child in children if child not in found)
    return found


def environment(process: Process) -> dict[str, str]:
    """What a process was started with; empty where that cannot be read."""
    try:
        content = Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(entry.partition("=")[::2] for entry in content.split("\0") if "=" in entry)


def is_within(process: Process, directory: str) -> bool:
    """Whether a process stands in a directory or below it."""
    try:
        place = os.readlink(f"/proc/{process.pid}/cwd")
    except OSError:
        return False
    return f"{place}/".startswith(f"{directory}/")


def start_daemon(
    command: list[str], env: Mapping[str, str], directory: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Starts a daemon that stays in the foreground of a session of its own: Ctrl-C does not reach it."""
    with output.open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def identify(pid: int) -> Process:
    """The process with this number; fails if it has ended already."""
    found = read_stat(pid)
    if found is None:
        raise ProcessLookupError(f"process {pid} has ended already")
    return found.process


def kill_all(find: Callable[[], list[Process]], seconds: float = 10) -> None:
    """Kills what `find` finds until it finds nothing: processes may start others meanwhile.

    All are frozen before any is killed, so that none sees another's end and can tell of it.
    """
    deadline = time.monotonic() + seconds
    while found := [process for process in find() if process.is_alive()]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes that do not end: {[process.pid for process in found]}")
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                process.send(number)
        time.sleep(POLL_S)


def traces(root: Path) -> list[int]:
    """Processes whose arguments or environment name something in a directory."""
    found = []
    for stat in all_processes():
        folder = Path(f"/proc/{stat.process.pid}")
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"{root}/".encode() in told:
            found.append(stat.process.pid)
    return found
