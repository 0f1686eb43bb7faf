"""Batches that do not fit into memory, in pieces: the effective batch stays what was asked for.

Gradients of the pieces are weighted by their sizes and added up, so that without BatchNorm they equal those
of the whole batch up to rounding. BatchNorm normalises each piece by itself, as in data-parallel training;
its momentum is lowered so that the running statistics move as far in one optimizer step as with one piece.
When memory runs out, `fit` goes on from the last checkpoint with pieces half as large.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import MemoryLimitError
from pipeline.paths import write_text_atomically

SMALLEST_PIECE = 2  # BatchNorm cannot train on one sample


def piece_sizes(count: int, largest: int) -> list[int]:
    """`count` samples in as few pieces of at most `largest` as it takes, evenly: 33 by 7 is 7+7+7+6+6.

    No piece is smaller than two; where that is impossible, pieces exceed `largest` by one.
    """
    pieces = max(1, min(math.ceil(count / largest), count // SMALLEST_PIECE))
    small, larger = divmod(count, pieces)
    return [small + 1] * larger + [small] * (pieces - larger)


def smaller(largest: int) -> int | None:
    """The next size to try after `largest` did not fit: half of it; None below two."""
    return None if largest <= SMALLEST_PIECE else max(SMALLEST_PIECE, math.ceil(largest / 2))


def nothing_fits(size: int, device: str, error: BaseException) -> MemoryLimitError:
    """What is left to say when the smallest piece, of images of so many pixels a side, met `error`."""
    return MemoryLimitError(
        f"not even {SMALLEST_PIECE} samples of {size} pixels a side fit into the memory of {device}; "
        f"a smaller network, smaller images or a larger GPU would do ({_headline(error)})"
    )


@contextmanager
def room_before_the_first_step(device: str) -> Iterator[None]:
    """Raises MemoryLimitError where memory runs out while a run is prepared: no smaller piece would help."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryLimitError(
            f"the network does not fit into the memory of {device}, even before the first step; a smaller "
            f"network or a larger GPU would do, or one that no other process uses ({_headline(error)})"
        ) from error


def _headline(error: BaseException) -> str:
    return str(error).partition("\n")[0]


class NormMomentum:
    """Sets the momentum m of every BatchNorm to 1 - (1 - m)^(1/k) for k pieces a step."""

    def __init__(self, model: torch.nn.Module) -> None:
        kinds = torch.nn.modules.batchnorm._BatchNorm
        self._norms = [
            (module, module.momentum)
            for module in model.modules()
            if isinstance(module, kinds) and module.momentum is not None
        ]
        self._pieces = 1

    def set_pieces(self, pieces: int) -> None:
        """Takes the number of pieces of the next step."""
        if pieces == self._pieces:
            return
        for module, momentum in self._norms:
            module.momentum = 1 - (1 - momentum) ** (1 / pieces)
        self._pieces = pieces


class MemoryHints:
    """The largest piece that fitted, by network and device, kept beside the runs of a study as a hint.

    Several workers may write it; the last one wins, and whoever finds it wrong finds the right size again.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def largest(self) -> int | None:
        """The size found before, None if nothing ran out of memory yet."""
        found = self._read().get(self._key)
        return found if isinstance(found, int) and found >= SMALLEST_PIECE else None

    def remember(self, largest: int) -> None:
        """Keeps a size that had to be lowered."""
        write_text_atomically(self._path, json.dumps({**self._read(), self._key: largest}, indent=1))

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
