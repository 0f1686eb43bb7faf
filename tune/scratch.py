"""A driver's folder for temporary files, locked for as long as the driver lives, however it ends."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

PREFIX = "ft-"
LOCK = "lock"
MAX_PARENT = 30  # characters: Ray adds some 70, and a socket's name has at most 107


class Scratch:
    """A new folder, `root`, in `parent` (default: the system's), that only its user can read."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        parent = parent if len(str(parent)) <= MAX_PARENT else Path("/tmp")
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = (self.root / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._lock.close()


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
