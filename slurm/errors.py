"""What can go wrong between this project and Slurm."""

from __future__ import annotations

from pipeline.errors import PipelineError


class SlurmError(PipelineError):
    """Slurm refused something or cannot be reached; says what to do about it."""
