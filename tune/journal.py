"""The one writer of a study's journal, and the lock that makes it the only one.

A record is on disk (flushed and synced) before `append` returns, so nothing is acted on that a restart would
not know. The lock is the kernel's: it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from pipeline.errors import DiskError, StudyError
from pipeline.jsonl import intact_length
from pipeline.paths import StudyPaths, write_text_atomically
from pipeline.records import Record, read_journal, seconds_now
from tune.scratch import remove_abandoned

LOCK_TRIES, LOCK_PAUSE_S = 5, 0.1


@dataclass(frozen=True)
class Driver:
    """Who drives a study, since when (seconds since 1970), and the folder for its temporary files."""

    host: str
    pid: int
    since: float
    scratch: str

    def minutes(self) -> int:
        """Whole minutes since it started."""
        return int((seconds_now() - self.since) // 60)


def read_driver(paths: StudyPaths) -> Driver | None:
    """The study's present or last driver; None if there was none or its file is from another version."""
    try:
        return Driver(**json.loads(paths.driver.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_driven(paths: StudyPaths) -> bool:
    """Whether a driver of the study lives now, on any host that shares the file system."""
    try:
        with paths.lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@dataclass
class Journal:
    """An open, locked journal. Raises StudyError if another driver has it, or the disk refuses a record."""

    paths: StudyPaths
    scratch: str = ""
    _me: Driver = field(init=False, repr=False)
    _lock: IO[bytes] = field(init=False, repr=False)
    _file: IO[bytes] = field(init=False, repr=False)
    _size: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.paths.root.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.paths)
        try:
            self._introduce()
            self._file = self.paths.journal.open("ab", buffering=0)
            self._size = intact_length(self.paths.journal.read_bytes())
            os.ftruncate(self._file.fileno(), self._size)
        except BaseException:
            self._lock.close()
            raise

    def _introduce(self) -> None:
        """Removes what a killed driver left in its temporary folder; says who drives now."""
        previous = read_driver(self.paths)
        if previous and previous.host == platform.node() and previous.scratch:
            remove_abandoned(Path(previous.scratch))
        self._me = Driver(platform.node(), os.getpid(), seconds_now(), self.scratch)
        write_text_atomically(self.paths.driver, json.dumps(asdict(self._me)))

    def read(self) -> list[Record]:
        """Every record so far."""
        return read_journal(self.paths.journal)

    def append(self, record: Record) -> None:
        """Writes one record; it is on disk when this returns."""
        line = record.line().encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError("only a part of the record could be written; the disk is full")
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._size)
            raise DiskError(
                f"{self.paths.journal}: cannot be written: {error}. Nothing is lost: make room and give the "
                "same command again"
            ) from error
        self._size += len(line)

    def close(self) -> None:
        """Closes the file, claims the temporary folder no longer, and lets the lock go."""
        self._file.close()
        with suppress(OSError):  # a full disk has been reported by then
            write_text_atomically(self.paths.driver, json.dumps(asdict(replace(self._me, scratch=""))))
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryJournal(list[Record]):
    """A journal for replays: the records of a study that leaves nothing behind. It has no files."""

    @property
    def paths(self) -> StudyPaths:
        """None: raises StudyError."""
        raise StudyError("a study in memory has no files")

    def read(self) -> list[Record]:
        """Every record so far."""
        return list(self)


def _locked(paths: StudyPaths) -> IO[bytes]:
    handle = paths.lock.open("ab")
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:  # a driver, or a reader that looks for one at this moment
            time.sleep(LOCK_PAUSE_S)
        except OSError as error:
            handle.close()
            raise StudyError(
                f"{paths.lock}: the file system cannot lock files ({error}); put --runs on one that can"
            ) from None
    handle.close()
    raise StudyError(_running_message(paths))


def _running_message(paths: StudyPaths) -> str:
    driver = read_driver(paths)
    who = (
        f"on {driver.host}, process {driver.pid}, for {driver.minutes()} min"
        if driver
        else "by another process"
    )
    runs = paths.root.parents[1]
    return (
        f"study {paths.root.name} is being run {who}. Follow it with: "
        f"python -m tune.status --runs {runs} --study {paths.root.name} --watch"
    )
