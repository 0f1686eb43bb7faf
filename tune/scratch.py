"""A driver's or worker's folder for temporary files, which goes with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PREFIX = "ft-"
LOCK = "lock"
# Reads what its parent never writes, until the parent is gone and so has closed its end; then gives Ray's
# processes, which end when they miss the parent, some seconds.
JANITOR = 'trap "" HUP INT TERM; cat >/dev/null; sleep 2; rm -rf -- "$0"'
SURELY_LOCKED_S = 60.0  # a folder that is not locked by then never will be
MAX_PARENT = 30  # characters: Ray adds some 70, and a socket's name has at most 107


class Scratch:
    """A new folder, `root`, in `parent` (default: the system's), that only its user can read.

    Folders there whose processes died with all that could have removed them, as on a lost node, go first.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        parent = parent if len(str(parent)) <= MAX_PARENT else Path("/tmp")
        for folder in parent.glob(f"{PREFIX}*"):
            if is_older(folder, SURELY_LOCKED_S):
                remove_abandoned(folder)
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = (self.root / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._janitor = subprocess.Popen(
            ["sh", "-c", JANITOR, str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._lock.close()
        self._janitor.kill()
        self._janitor.communicate()


def is_older(folder: Path, seconds: float) -> bool:
    """Whether a folder is of this user and was made, or last added to, so long ago."""
    try:
        stat = folder.stat()
    except OSError:
        return False
    return stat.st_uid == os.getuid() and time.time() - stat.st_mtime > seconds


def remove_abandoned(folder: Path) -> None:
    """Removes the folder that a killed driver left; leaves one in use, and anything else, alone."""
    if not folder.name.startswith(PREFIX):
        return
    try:
        with (folder / LOCK).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # gone, none of ours, or in use
        return
