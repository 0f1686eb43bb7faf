"""What libraries print goes to a log; the terminal stays ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

STDOUT, STDERR = 1, 2


@contextmanager
def chatter_to(log: Path) -> Iterator[TextIO]:
    """Sends everything written to stdout and stderr, by C++ and child processes too, to the end of `log`.

    Yields the original stdout as a stream of our own.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = {number: os.dup(number) for number in (STDOUT, STDERR)}
    try:
        with log.open("ab") as handle:
            _flush()
            for number in saved:
                os.dup2(handle.fileno(), number)
        with os.fdopen(os.dup(saved[STDOUT]), "w", encoding="utf-8", errors="replace") as terminal:
            yield terminal
    finally:
        _flush()
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
