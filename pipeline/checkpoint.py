"""Checkpoint files: plain tensors, numbers and texts, read without running code, written atomically."""

from __future__ import annotations

import errno
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import CheckpointError, DamagedCheckpointError
from pipeline.paths import write_atomically

FORMAT = 1
WRITE_SHARE = 0.05  # at most this part of the time goes into writing


class Cadence:
    """When the next write is due: after `every_s` seconds, and never more than WRITE_SHARE of the time."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def due(self) -> bool:
        """Whether enough time has passed since the last write."""
        return time.monotonic() >= self._next

    def wrote(self, seconds: float) -> None:
        """Takes how long the write took that has just ended."""
        self._next = time.monotonic() + max(self._every_s, seconds * (1 / WRITE_SHARE - 1))


def write_checkpoint(path: Path, content: dict[str, Any]) -> float:
    """Writes `content` (tensors, numbers, texts, lists, dictionaries); returns the seconds it took."""
    start = time.monotonic()
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT, **content}, temporary))
    return time.monotonic() - start


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU; never runs code from the file.

    Raises CheckpointError if it is missing or of another format, DamagedCheckpointError if it is damaged, and
    OSError if the disk does not give it.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError:  # torch's advice is to allow code to run; it is not ours
        raise DamagedCheckpointError(f"{path}: not a checkpoint, or a damaged one") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        # in a file that was cut, torch seeks to before its start, which is invalid; all else is the disk's
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        first_line = str(error).partition("\n")[0]
        raise DamagedCheckpointError(f"{path}: not a checkpoint, or a damaged one: {first_line}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (format {FORMAT} expected)")
    return content


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], source: Path) -> None:
    """Loads `weights` into `model`; every name and shape must match.

    Raises CheckpointError naming the first weights that are missing, unknown or of another shape.
    """
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is unknown" for name in weights if name not in expected]
    problems += [
        f"{name} is {list(weights[name].shape)}, the model has {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        shown = "; ".join(problems[:3])
        raise CheckpointError(f"{source}: does not fit the model in {len(problems)} weights: {shown}")
    model.load_state_dict(weights)
