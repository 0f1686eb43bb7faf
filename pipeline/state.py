"""What a run in progress is: everything that changes while it trains, and how that is saved and restored.

Left out of a checkpoint on purpose: random generator states (randomness is a function of seed, epoch and
step), the order of samples (a function of seed and epoch), the data and everything that the configuration
determines.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoint import load_weights


@dataclass(frozen=True)
class EpochRecord:
    """One line of epochs.jsonl. `rmse`: metres, None without validation data; `loss`: training mean."""

    epoch: int
    rmse: float | None
    loss: float
    lr: float
    seconds: float
    images_per_s: float
    data_wait: float
    gpu_util: float | None
    peak_memory_gb: float | None


@dataclass
class Progress:
    """Where a run stands: `epoch` whole epochs, `step` steps of the next and that epoch's running sums."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    images: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    best_rmse: float = math.inf
    best_epoch: int = 0
    history: list[EpochRecord] = field(default_factory=list)

    def end_epoch(self, record: EpochRecord) -> bool:
        """Takes a finished epoch's record; returns whether its RMSE is the best so far."""
        self.history.append(record)
        self.epoch, self.step = record.epoch, 0
        self.loss_sum, self.images, self.train_seconds, self.wait_seconds = 0.0, 0, 0.0, 0.0
        improved = record.rmse is not None and record.rmse < self.best_rmse
        if improved and record.rmse is not None:
            self.best_rmse, self.best_epoch = record.rmse, record.epoch
        return improved

    @classmethod
    def after(cls, history: list[EpochRecord]) -> Progress:
        """The progress of a run that has just ended the epochs of `history`."""
        progress = cls()
        for record in history:
            progress.end_epoch(record)
        return progress

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """The inverse of `to_dict`."""
        return cls(**{**values, "history": [EpochRecord(**record) for record in values["history"]]})


@dataclass
class TrainState:
    """Model, optimizer, loss scaler and progress: what must come back for a run to go on as if never cut."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress

    def to_dict(self) -> dict[str, Any]:
        """The state as a checkpoint holds it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": self.progress.to_dict(),
        }

    def restore(self, content: dict[str, Any], source: Path) -> None:
        """Takes over what `to_dict` gave. Raises CheckpointError if the weights do not fit the model."""
        load_weights(self.model, content["model"], source)
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.progress = Progress.from_dict(content["progress"])
