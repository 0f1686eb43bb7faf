"""What a run in progress is: everything that changes while it trains, and how that is saved and restored.

Left out of a checkpoint on purpose: random generator states (randomness is a function of seed, epoch and
step), the order of samples (a function of seed and epoch), the data and everything that the configuration
determines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from pipeline.checkpoint import load_weights
from pipeline.progress import Progress


@dataclass
class TrainState:
    """Model, optimizer, loss scaler, progress, averaged weights: what makes a run go on as if never cut."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress
    average: AveragedModel | None = None

    def to_dict(self) -> dict[str, Any]:
        """The state as a checkpoint holds it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": self.progress.to_dict(),
        }

    def restore(self, content: dict[str, Any], source: Path) -> None:
        """Takes over what `to_dict` gave. Raises CheckpointError if the weights do not fit the model."""
        load_weights(self.model, content["model"], source)
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.progress = Progress.from_dict(content["progress"])
