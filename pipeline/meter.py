"""An epoch's running sums: loss, images, time spent waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from pipeline.errors import DivergedError
from pipeline.progress import Progress

NO_BAD_STEP = -1
REMEDY = "lower train.lr, lengthen the scheduler's warmup or set train.clip_norm"
MOST_LOSS = 100  # times that of the first epoch, which is near that of predicting the mean


def refuse_explosion(epoch: int, loss: float, before: Sequence[float]) -> None:
    """Raises DivergedError for a mean loss that is finite but beyond hope; `before`: of earlier epochs."""
    if before and loss > MOST_LOSS * before[0]:
        found = f"the loss of epoch {epoch} is {loss:.2g}, more than {MOST_LOSS} times that of the first"
        raise DivergedError(f"{found}, {before[0]:.3g}; {REMEDY}")


class Meter:
    """An epoch's running sums; losses stay on the device until they are stored, so that no step waits."""

    def __init__(self, progress: Progress, device: torch.device) -> None:
        self._progress = progress
        self._loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=device)
        self._bad_step = torch.tensor(NO_BAD_STEP, device=device)
        self._since = self._asked = time.monotonic()

    def waits(self) -> None:
        """A batch is asked for now."""
        self._asked = time.monotonic()

    def got_data(self) -> None:
        """The batch is here."""
        self._progress.wait_seconds += time.monotonic() - self._asked

    def add(self, loss: torch.Tensor, images: int, step: int) -> None:
        """Takes one step's mean loss over `images` samples."""
        first_bad = ~loss.isfinite() & (self._bad_step == NO_BAD_STEP)
        self._bad_step = torch.where(first_bad, step, self._bad_step)
        self._loss_sum += loss.double() * images
        self._progress.images += images

    def store(self, step: int) -> None:
        """Brings the sums into the progress, which stands at `step` now. Raises DivergedError."""
        bad_step = int(self._bad_step.item())
        if bad_step != NO_BAD_STEP:
            place = f"step {bad_step + 1} of epoch {self._progress.epoch + 1}"
            raise DivergedError(f"the loss is not finite at {place}; {REMEDY}")
        now = time.monotonic()
        self._progress.loss_sum, self._progress.step = self._loss_sum.item(), step
        self._progress.train_seconds += now - self._since
        self._since = now
