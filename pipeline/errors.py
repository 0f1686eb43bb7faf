"""The errors a user can cause or meet, each with the reason the leaderboard shows for it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
TORCH_WRITER = "inline_container.cc"  # torch's archives; reading a damaged one is a CheckpointError of ours


class PipelineError(Exception):
    """Says what was found, what is allowed and what to do; shown without a traceback."""

    reason: ClassVar[str] = "USER_ERROR"


class ConfigError(PipelineError):
    """A configuration that cannot be run."""


class DataError(PipelineError):
    """Raw or packed data that cannot be used."""


class StudyError(PipelineError):
    """A study that cannot be started, resumed or read."""


class CheckpointError(PipelineError):
    """A checkpoint that is damaged or does not fit what it should be loaded into."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose content was cut or changed after it was written."""


class SupersededError(PipelineError):
    """Another attempt has taken the run over; this one must not write any more."""


class InterruptedRunError(PipelineError):
    """A run was asked to stop and has saved what it needs to go on from there."""


class DiskError(StudyError):
    """The disk is full or fails: no run's fault; the same command goes on when there is room."""


class DivergedError(PipelineError):
    """Training produced a number that is not finite."""

    reason = "DIVERGED"


class MemoryLimitError(PipelineError):
    """Not even the smallest piece of a batch fits into the memory."""

    reason = "CUDA_OOM"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that resembles it, if any does."""
    return "".join(f"; did you mean {match!r}?" for match in get_close_matches(name, list(known), n=1))


def reason_of(error: BaseException) -> str:
    """The leaderboard's reason for an exception that ended a run."""
    if isinstance(error, PipelineError):
        return error.reason
    if isinstance(error, MemoryError):
        return "HOST_OOM"
    if type(error).__name__ == "OutOfMemoryError":  # torch.cuda's, without importing torch
        return "CUDA_OOM"
    return "USER_ERROR"


def is_disk_trouble(error: BaseException) -> bool:
    """Whether an exception comes from a full or failing disk, which is no run's fault."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, DiskError) or (isinstance(chain, OSError) and chain.errno in DISK_ERRNOS):
            return True
        if isinstance(chain, RuntimeError) and TORCH_WRITER in str(chain):
            return True
        chain = chain.__cause__ or chain.__context__
    return False
