"""One run in progress: data, model and state, a step at a time.

Shapes: B batch, H x W pixels. Predictions and labels are [B, 12] in millimetres.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pipeline.checkpoint import Cadence, read_checkpoint, write_checkpoint
from pipeline.config import RunConfig
from pipeline.data.dataset import Batch, Samples, epoch_batches, eval_batches
from pipeline.data.pack import Pack
from pipeline.data.split import split_indices
from pipeline.data.transforms import Preprocess
from pipeline.device import autocast, gpu_utilisation, peak_memory_gb, reset_peak_memory
from pipeline.errors import DivergedError
from pipeline.losses import LOSSES
from pipeline.metrics import SquaredError
from pipeline.models import arch, build, set_output_mean
from pipeline.optim import build_optimizer
from pipeline.progress import EpochRecord, Progress
from pipeline.runrecord import RunRecord
from pipeline.schedule import lr_factor
from pipeline.state import TrainState

INITIALISATION, STEPS = 0, 1  # the streams of randomness of a run
NO_BAD_STEP = -1
REMEDY = "lower train.lr, lengthen the scheduler's warmup or set train.clip_norm"


def seed_torch(seed: int, *path: int) -> None:
    """Seeds torch as a function of the run's seed and a place in the run, so that nothing need be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]))


class Trainer:
    """Holds what a run needs while it trains; `fit` owns how it starts and ends."""

    def __init__(self, config: RunConfig, pack: Pack, record: RunRecord, device: torch.device) -> None:
        self.config, self.record, self.device = config, record, device
        split = pack.split("train")
        rows, validation_rows = split_indices(config.data.split, split.ids)
        self.preprocess = Preprocess.from_moments(
            config.data, split.moments[rows], pack.meta.height, pack.meta.width
        )
        self.samples = Samples(split, rows, device)
        self.validation = Samples(split, validation_rows, device)
        self.batches_per_epoch = len(epoch_batches(len(rows), config.train.batch_size, config.seed, 0))
        self.loss = LOSSES[config.train.loss]
        self.state = self._fresh_state(self.samples.mean_label_mm().tolist())
        reset_peak_memory(device)
        self._latest_cadence = Cadence(config.checkpoint_every_s)
        self._best_cadence = Cadence(0)
        self._best: dict[str, Any] | None = None  # the best weights while they wait to be written
        self._restore_or_begin()

    def _fresh_state(self, mean_mm_12: list[float]) -> TrainState:
        config = self.config
        seed_torch(config.seed, INITIALISATION)
        name, small, pretrained = config.model.name, config.model.small, config.model.pretrained
        model = build(name, small=small, pretrained=pretrained, size=self.preprocess.height)
        set_output_mean(model, mean_mm_12)
        model = model.to(self.device)
        scaler = torch.amp.GradScaler(self.device.type, enabled=config.train.precision == "fp16")
        return TrainState(model, build_optimizer(model.parameters(), config.train), scaler, Progress())

    def _restore_or_begin(self) -> None:
        """Order of resume: 1. latest.pt; 2. the fresh state, if there is none."""
        latest = self.record.paths.latest
        if latest.exists():
            self.state.restore(read_checkpoint(latest), latest)
        self.record.begin(self._facts())
        self._known = self.record.mend_epochs()

    def _facts(self) -> dict[str, Any]:
        config = self.config
        return {
            "arch": arch(config.model.name, config.model.small),
            "params": sum(parameter.numel() for parameter in self.state.model.parameters()),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "micro_batch": config.train.batch_size,
            "precision": config.train.precision,
            "samples": {"train": len(self.samples), "validation": len(self.validation)},
        }

    def train(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        """Trains what is left of the run, telling `on_epoch` every epoch in order, restored ones too.

        However it ends, the best weights found so far reach the disk.
        """
        try:
            for record in self.state.progress.history:
                on_epoch(record)
            while self.state.progress.epoch < self.config.train.epochs:
                self._train_epoch()
                on_epoch(self._end_epoch())
        finally:
            self._write_best()
        if not len(self.validation):
            self.record.check_owner()
            write_checkpoint(self.record.paths.final, self._weights(rmse=None))

    def _train_epoch(self) -> None:
        progress, train = self.state.progress, self.config.train
        batches = epoch_batches(len(self.samples), train.batch_size, self.config.seed, progress.epoch)
        self.state.model.train()
        meter = Meter(progress, self.device)
        for step in range(progress.step, len(batches)):
            meter.waits()
            batch = self.samples.batch(batches[step])
            meter.got_data()
            meter.add(self._step(batch, step), len(batches[step]), step)
            if self._latest_cadence.due():
                meter.store(step + 1)
                self._write_latest()
        meter.store(len(batches))

    def _step(self, batch: Batch, step: int) -> torch.Tensor:
        """One optimizer step; returns the batch's mean loss, still on the device."""
        state, train = self.state, self.config.train
        seed_torch(self.config.seed, STEPS, state.progress.epoch, step)
        factor = lr_factor(train.scheduler, self._global_step(step), self._total_steps())
        for group in state.optimizer.param_groups:
            group["lr"] = train.lr * factor
        loss = self.loss(self._predict(batch), batch.labels())
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if train.clip_norm is not None:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), train.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return loss.detach()

    def _predict(self, batch: Batch) -> torch.Tensor:
        """Fingertips in millimetres, float32 [B, 12]; the network computes in the run's precision."""
        images = self.preprocess(batch.rgb_B9HW, batch.depth_mm_B3HW)
        with autocast(self.device, self.config.train.precision):
            predicted_mm_B12: torch.Tensor = self.state.model(images)
        return predicted_mm_B12.float()

    def _global_step(self, step: int) -> int:
        return self.state.progress.epoch * self.batches_per_epoch + step

    def _total_steps(self) -> int:
        return self.config.train.epochs * self.batches_per_epoch

    def _end_epoch(self) -> EpochRecord:
        progress = self.state.progress
        start, gpu_util = time.monotonic(), gpu_utilisation(self.device)  # of training, so before validation
        rmse = self._validate()
        record = EpochRecord(
            epoch=progress.epoch + 1,
            rmse=rmse,
            loss=progress.loss_sum / progress.images,
            lr=self.state.optimizer.param_groups[0]["lr"],
            seconds=progress.train_seconds + time.monotonic() - start,
            images_per_s=progress.images / progress.train_seconds,
            data_wait=progress.wait_seconds / progress.train_seconds,
            gpu_util=gpu_util,
            peak_memory_gb=peak_memory_gb(self.device),
        )
        record = self._first_measured(record)
        if progress.end_epoch(record):
            self._keep_best(rmse)
        if self._latest_cadence.due():
            self._write_latest()
        return record

    def _first_measured(self, record: EpochRecord) -> EpochRecord:
        """This record, or the one an earlier attempt left of the same epoch: others have acted on that.

        The two are equal where training is deterministic.
        """
        if record.epoch in self._known:
            return self._known[record.epoch]
        self.record.append_epoch(record)
        return record

    def _validate(self) -> float | None:
        """RMSE in metres over every validation number; None without validation data."""
        if not len(self.validation):
            return None
        self.state.model.eval()
        error = SquaredError(self.device)
        with torch.inference_mode():
            for rows in eval_batches(len(self.validation), self.config.train.batch_size):
                batch = self.validation.batch(rows)
                error.add(self._predict(batch), batch.labels())
        rmse = error.rmse_m()
        if not math.isfinite(rmse):
            epoch = self.state.progress.epoch + 1
            raise DivergedError(f"the validation RMSE is {rmse} after epoch {epoch}; {REMEDY}")
        return rmse

    def _weights(self, rmse: float | None) -> dict[str, Any]:
        """What prediction needs: weights, preprocessing and the configuration they belong to."""
        return {
            "config": self.config.model_dump(mode="json"),
            "preprocess": self.preprocess.to_dict(),
            "model": self.state.model.state_dict(),
            "epoch": self.state.progress.epoch,
            "rmse": rmse,
        }

    def _keep_best(self, rmse: float | None) -> None:
        """Keeps the weights with the RMSE measured of them, unless better ones are on disk already."""
        if rmse is None or self.record.best_on_disk() <= rmse:
            return
        self._best = self._weights(rmse)
        if self._best_cadence.due():
            self._write_best()
        else:
            weights = self._best["model"].items()
            self._best["model"] = {name: tensor.to("cpu", copy=True) for name, tensor in weights}

    def _write_best(self) -> None:
        if self._best is None:
            return
        self.record.check_owner()
        self._best_cadence.wrote(write_checkpoint(self.record.paths.best, self._best))
        self.record.best_written(self._best["epoch"], self._best["rmse"])
        self._best = None

    def _write_latest(self) -> None:
        """The best weights go first: a latest.pt on disk never knows of a best that is not there."""
        self._write_best()
        self.record.check_owner()
        self._latest_cadence.wrote(write_checkpoint(self.record.paths.latest, self.state.to_dict()))


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
