"""One run in progress: data, model and state, a step at a time.

Shapes: B batch, H x W pixels. Predictions and labels are [B, 12] in millimetres.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from pipeline.checkpoint import Cadence, read_checkpoint, write_checkpoint
from pipeline.config import RunConfig
from pipeline.data.dataset import Samples, epoch_batches, eval_batches
from pipeline.data.pack import Pack
from pipeline.data.split import split_indices
from pipeline.data.transforms import Preprocess
from pipeline.device import device_name, gpu_utilisation, peak_memory_gb, reset_peak_memory
from pipeline.ema import averaged
from pipeline.errors import DamagedCheckpointError, DivergedError, InterruptedRunError
from pipeline.gpumemory import free_gpu_memory
from pipeline.meter import REMEDY, Meter, refuse_explosion
from pipeline.metrics import SquaredError
from pipeline.microbatch import MemoryHints, nothing_fits, room_before_the_first_step, smaller
from pipeline.models import arch, build, set_output_mean
from pipeline.optim import build_optimizer
from pipeline.progress import EpochRecord, Progress
from pipeline.runrecord import RunRecord
from pipeline.schedule import lr_factor
from pipeline.state import TrainState
from pipeline.stepper import Stepper, seed_torch

OnEpoch = Callable[[EpochRecord], None]
AskedToStop = Callable[[], bool]
INITIALISATION, STEPS = 0, 1  # the streams of randomness of a run


class Trainer:
    """Holds what a run needs while it trains; `fit` owns how it starts and ends."""

    def __init__(
        self,
        config: RunConfig,
        pack: Pack,
        record: RunRecord,
        device: torch.device,
        largest: int | None = None,
    ) -> None:
        self.config, self.record, self.device = config, record, device
        split = pack.split("train")
        rows, validation_rows = split_indices(config.data.split, split.ids)
        self.preprocess = Preprocess.from_moments(
            config.data, split.moments[rows], pack.meta.height, pack.meta.width
        )
        self.samples = Samples(split, rows, device)
        self.validation = Samples(split, validation_rows, device)
        self.batches_per_epoch = len(epoch_batches(len(rows), config.train.batch_size, config.seed, 0))
        self.state = self._fresh_state(self.samples.mean_label_mm().tolist())
        self.hints = MemoryHints(record.paths.memory_hints, self._memory_key())
        reset_peak_memory(device)
        self._latest_cadence = Cadence(config.checkpoint_every_s)
        self._best_cadence = Cadence(0)
        self._best: dict[str, Any] | None = None  # the best weights while they wait to be written
        self._restore()
        self.micro_batch = self._micro_batch(largest)
        self.state.progress.micro_batch = self.micro_batch
        whole = self.micro_batch >= config.train.batch_size
        largest_piece = self.micro_batch + whole  # a last batch may have one sample more
        self.stepper = Stepper(
            config.train, self.state, self.preprocess, device, largest_piece, config.data.augment
        )
        self._known = record.begin(self._facts())

    def _fresh_state(self, mean_mm_12: list[float]) -> TrainState:
        config = self.config
        seed_torch(config.seed, INITIALISATION)
        model = build(**dict(config.model), size=self.preprocess.height)
        set_output_mean(model, mean_mm_12)
        model = model.to(self.device)
        scaler = torch.amp.GradScaler(self.device.type, enabled=config.train.precision == "fp16")
        average = averaged(model, config.train.ema_epochs, self.batches_per_epoch)
        optimizer = build_optimizer(model.parameters(), config.train)
        return TrainState(model, optimizer, scaler, Progress(), average)

    def _restore(self) -> None:
        """Order of resume: 1. latest.pt; 2. the fresh state, if there is none, or a disk has damaged it."""
        latest = self.record.paths.latest
        if not latest.exists():
            return
        try:
            content = read_checkpoint(latest)
        except DamagedCheckpointError as error:
            print(
                f"{error}; starting from the beginning; epochs on record keep their results", file=sys.stderr
            )
            return
        self.state.restore(content, latest)

    def _micro_batch(self, largest: int | None) -> int:
        """In this order: what memory has just allowed, what this run used before, what others could use."""
        found = largest or self.state.progress.micro_batch or self.hints.largest()
        return min(found or self.config.train.batch_size, self.config.train.batch_size)

    def _facts(self) -> dict[str, Any]:
        config = self.config
        return {
            "arch": arch(config.model.name, config.model.small),
            "params": sum(parameter.numel() for parameter in self.state.model.parameters()),
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "micro_batch": self.micro_batch,
            "precision": config.train.precision,
            "samples": {"train": len(self.samples), "validation": len(self.validation)},
        }

    def _memory_key(self) -> str:
        """What decides how many samples fit: network, image size, precision, device."""
        model, precision = self.config.model, self.config.train.precision
        size = self.preprocess.height
        return f"{arch(model.name, model.small)} {size}px {precision} {device_name(self.device)}"

    def train(self, on_epoch: OnEpoch, asked_to_stop: AskedToStop) -> None:
        """Trains what is left of the run, telling `on_epoch` every epoch in order, restored ones too.

        However it ends, the best weights found so far reach the disk. Raises InterruptedRunError, the state
        saved, at the first step after `asked_to_stop` has become true.
        """
        try:
            for record in self.state.progress.history:
                on_epoch(record)
            while self.state.progress.epoch < self.config.train.epochs:
                self._train_epoch(asked_to_stop)
                on_epoch(self._end_epoch())
        finally:
            self._write_best()
        if not len(self.validation):
            self.record.check_owner()
            write_checkpoint(self.record.paths.final, self._weights(self._averaged_model(), rmse=None))

    def _train_epoch(self, asked_to_stop: AskedToStop) -> None:
        progress, train = self.state.progress, self.config.train
        batches = epoch_batches(len(self.samples), train.batch_size, self.config.seed, progress.epoch)
        self.state.model.train()
        meter = Meter(progress, self.device)
        for step in range(progress.step, len(batches)):
            meter.waits()
            batch = self.samples.batch(batches[step])
            meter.got_data()
            place = (self.config.seed, STEPS, progress.epoch, step)
            meter.add(self.stepper.step(batch, self._lr(step), place), len(batch), step)
            stop = asked_to_stop()
            if stop or self._latest_cadence.due():
                meter.store(step + 1)
                self._write_latest()
            if stop:
                raise InterruptedRunError(self._where_saved(step + 1, len(batches)))
        meter.store(len(batches))

    def _where_saved(self, step: int, steps: int) -> str:
        place = f"step {step} of {steps} of epoch {self.state.progress.epoch + 1}"
        return f"stopped and saved after {place}; the same command goes on from there"

    def _lr(self, step: int) -> float:
        """The learning rate at a step of the present epoch."""
        train, steps = self.config.train, self.batches_per_epoch
        done = self.state.progress.epoch * steps + step
        return train.lr * lr_factor(train.scheduler, done, train.epochs * steps)

    def _end_epoch(self) -> EpochRecord:
        progress = self.state.progress
        loss = progress.loss_sum / progress.images
        refuse_explosion(progress.epoch + 1, loss, [record.loss for record in progress.history])
        start, gpu_util = time.monotonic(), gpu_utilisation(self.device)  # of training, so before validation
        rmse, rmse_ema = (self._validate(model) for model in (self.state.model, self.state.average))
        record = EpochRecord(
            epoch=progress.epoch + 1,
            rmse=rmse,
            rmse_ema=rmse_ema,
            loss=loss,
            lr=self.state.optimizer.param_groups[0]["lr"],
            seconds=progress.train_seconds + time.monotonic() - start,
            images_per_s=progress.images / progress.train_seconds,
            data_wait=progress.wait_seconds / progress.train_seconds,
            gpu_util=gpu_util,
            peak_memory_gb=peak_memory_gb(self.device),
            micro_batch=self.micro_batch,
        )
        if progress.end_epoch(self._first_measured(record)):
            self._keep_best(record)
        if self._latest_cadence.due():
            self._write_latest()
        return progress.history[-1]

    def _first_measured(self, record: EpochRecord) -> EpochRecord:
        """This record, or the one an earlier attempt left of the same epoch: others have acted on that.

        The two are equal where training is deterministic.
        """
        if record.epoch in self._known:
            return self._known[record.epoch]
        self.record.append_epoch(record)
        return record

    def _validate(self, model: torch.nn.Module | None) -> float | None:
        """RMSE in metres over every validation number; None without validation data or model."""
        if model is None or not len(self.validation):
            return None
        model.eval()
        error = SquaredError(self.device)
        with torch.inference_mode():
            for rows in eval_batches(len(self.validation), self.micro_batch):
                batch = self.validation.batch(rows)
                error.add(self.stepper.predict(batch, model), batch.labels())
        rmse = error.rmse_m()
        if not math.isfinite(rmse):
            epoch = self.state.progress.epoch + 1
            raise DivergedError(f"the validation RMSE is {rmse} after epoch {epoch}; {REMEDY}")
        return rmse

    def _weights(self, model: torch.nn.Module, rmse: float | None) -> dict[str, Any]:
        """What prediction needs: weights, preprocessing and the configuration they belong to."""
        return {
            "config": self.config.model_dump(mode="json"),
            "preprocess": self.preprocess.to_dict(),
            "model": model.state_dict(),
            "epoch": self.state.progress.epoch,
            "rmse": rmse,
        }

    def _averaged_model(self) -> torch.nn.Module:
        """The average of the weights, or the weights themselves where none is kept."""
        average = self.state.average
        return self.state.model if average is None else average.module

    def _keep_best(self, measured: EpochRecord) -> None:
        """Keeps the better weights with the RMSE just measured of them, unless the disk has better ones."""
        score = measured.score
        if score is None or self.record.best_on_disk() <= score:
            return
        model = self.state.model if score == measured.rmse else self._averaged_model()
        self._best = self._weights(model, score)
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


def train_in_memory(
    config: RunConfig,
    pack: Pack,
    record: RunRecord,
    device: torch.device,
    on_epoch: OnEpoch,
    asked_to_stop: AskedToStop,
) -> Progress:
    """Trains a run to its end; where memory runs out, it goes on from the last checkpoint in smaller pieces.

    Raises MemoryLimitError if not even the smallest piece fits, or not even the network.
    """
    largest: int | None = None
    while True:
        with room_before_the_first_step(device_name(device)):
            trainer = Trainer(config, pack, record, device, largest)
        try:
            trainer.train(on_epoch, asked_to_stop)
            return trainer.state.progress
        except torch.OutOfMemoryError as error:
            largest = smaller(trainer.micro_batch)
            if largest is None:
                raise nothing_fits(trainer.preprocess.height, device_name(device), error) from error
        print(
            f"out of memory with {trainer.micro_batch} samples; going on with {largest} at once",
            file=sys.stderr,
        )
        trainer.hints.remember(largest)
        del trainer  # with its network, before the next one is built
        free_gpu_memory()
