"""One optimizer step: augmentation, learning rate, forward and backward in pieces, clipping, update.

Shapes: B batch. Predictions and labels are [B, 12] in millimetres.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.augment_config import AugmentConfig
from pipeline.config import TrainConfig
from pipeline.data.augment import augment
from pipeline.data.dataset import Batch
from pipeline.data.transforms import Preprocess
from pipeline.device import autocast
from pipeline.losses import LOSSES
from pipeline.microbatch import NormMomentum, piece_sizes
from pipeline.state import TrainState


def seed_torch(seed: int, *path: int) -> None:
    """Seeds torch as a function of the run's seed and a place in the run, so that nothing need be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]))


class Stepper:
    """Takes optimizer steps on a state, each on pieces of at most `micro_batch` samples."""

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        preprocess: Preprocess,
        device: torch.device,
        micro_batch: int,
        augmentation: AugmentConfig,
    ) -> None:
        self._config, self._state, self._preprocess, self._device = config, state, preprocess, device
        self._loss = LOSSES[config.loss]
        self._momentum = NormMomentum(state.model)
        self._micro_batch = micro_batch
        self._augmentation = augmentation

    def step(self, batch: Batch, lr: float, seed: tuple[int, ...]) -> torch.Tensor:
        """One step; returns the batch's mean loss, still on the device.

        `seed` is the run's seed and the step's place in the run: all of a step's randomness follows from it.
        """
        state, config = self._state, self._config
        seed_torch(*seed)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        loss = self.gradients(augment(batch, self._augmentation))
        if config.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.average is not None:
            state.average.update_parameters(state.model)
        return loss

    def gradients(self, batch: Batch) -> torch.Tensor:
        """Leaves the gradients of the batch's mean loss in the parameters; returns that loss.

        The batch is taken as it is, as in `predict`: only `step` augments.
        """
        self._state.optimizer.zero_grad(set_to_none=True)
        sizes = piece_sizes(len(batch), self._micro_batch)
        self._momentum.set_pieces(len(sizes))
        total = torch.zeros((), device=self._device)
        for piece in batch.split(sizes):
            share = len(piece) / len(batch)
            loss = share * self._loss(self.predict(piece), piece.labels())
            self._state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def predict(self, batch: Batch, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Fingertips in millimetres, float32 [B, 12], by `model` (else the one in training).

        The network computes in the run's precision.
        """
        images = self._preprocess(batch.rgb_B9HW, batch.depth_mm_B3HW)
        with autocast(self._device, self._config.precision):
            predicted_mm_B12: torch.Tensor = (model or self._state.model)(images)
        return predicted_mm_B12.float()
