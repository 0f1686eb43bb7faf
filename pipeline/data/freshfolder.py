"""Folders that appear whole or not at all, however the process that makes them ends."""

from __future__ import annotations

import fcntl
import glob
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.paths import temporary_name, temporary_names

MAKER_LOCK = ".maker.lock"  # in a temporary folder, locked while its maker lives


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` when the block ends, and disappears when it fails.

    What earlier, killed makers of `path` left on this host is removed first. Raises FileExistsError if `path`
    exists already, OSError if somebody else makes it before the block ends.
    """
    if path.exists():
        raise FileExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_folders(path)
    temporary = temporary_name(path)
    try:
        with _locked_folder(temporary):
            yield temporary
            temporary.rename(path)
        (path / MAKER_LOCK).unlink()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Makes a folder with a file in it that is locked while the block, or its process, lasts.

    The folder gets its name once the lock is held, so nobody finds it unlocked while its maker lives.
    """
    unnamed = folder.with_suffix(".new")
    unnamed.mkdir()
    with (unnamed / MAKER_LOCK).open("xb") as lock:
        with suppress(OSError):  # a file system without locks: nothing is ever removed there
            fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(folder)
        yield


def _remove_dead_folders(path: Path) -> None:
    """Removes temporary folders for `path` whose makers died; those of other hosts may have unseen locks."""
    pattern = temporary_names(glob.escape(path.name), glob.escape(socket.gethostname()))
    for folder in path.parent.glob(pattern):
        if _is_dead(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    try:
        with (folder / MAKER_LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # half removed, or just finished and renamed
        return True
    except OSError:  # locked, or no way to know
        return False
    return True
