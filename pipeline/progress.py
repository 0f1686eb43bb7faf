"""How far a run is: its epochs, and the sums of the one that is under way. Knows nothing of tensors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One line of epochs.jsonl. `rmse`: metres, None without validation data; `loss`: training mean.

    `rmse` is of the weights as trained, `rmse_ema` of their average, None where none is kept.
    """

    epoch: int
    rmse: float | None
    rmse_ema: float | None
    loss: float
    lr: float
    seconds: float
    images_per_s: float
    data_wait: float
    gpu_util: float | None
    peak_memory_gb: float | None
    micro_batch: int

    @property
    def score(self) -> float | None:
        """The RMSE of the better weights, trained or averaged, metres; None without validation data."""
        return min((rmse for rmse in (self.rmse, self.rmse_ema) if rmse is not None), default=None)


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
    micro_batch: int | None = None  # what was found to fit; kept, as BatchNorm depends on it
    history: list[EpochRecord] = field(default_factory=list)

    def end_epoch(self, record: EpochRecord) -> bool:
        """Takes a finished epoch's record; returns whether its RMSE is the best so far."""
        self.history.append(record)
        self.epoch, self.step = record.epoch, 0
        self.loss_sum, self.images, self.train_seconds, self.wait_seconds = 0.0, 0, 0.0, 0.0
        score = record.score
        if score is None or score >= self.best_rmse:
            return False
        self.best_rmse, self.best_epoch = score, record.epoch
        return True

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
