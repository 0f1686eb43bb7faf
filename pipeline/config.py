"""The typed configuration: the one home of every default.

YAML files state only differences from what stands here; `pipeline.configfile` merges them. An unknown key is
refused with the list of known ones.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from pipeline.augment_config import AugmentConfig
from pipeline.schedule_config import Constant as Constant
from pipeline.schedule_config import Cosine as Cosine
from pipeline.schedule_config import MultiStep as MultiStep
from pipeline.schedule_config import Scheduler as Scheduler
from pipeline.schedule_config import Step as Step
from pipeline.section import Strict as Strict

SPLIT = r"full|head:0\.\d+|block:0\.\d+|kfold:\d+/\d+"


def _known_split(text: str) -> str:
    if not re.fullmatch(SPLIT, text):
        raise ValueError("known are head:0.7, block:0.7, kfold:0/5 and full")
    return text


SplitText = Annotated[str, AfterValidator(_known_split), Field(description="see pipeline.data.split")]


def _local(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.astimezone()


Moment = Annotated[datetime, AfterValidator(_local), Field(description="local time, or with an offset")]
OptimizerName = Literal["adam", "adamw", "sgd"]
SamplerName = Literal["random", "tpe"]
LossName = Literal["mse", "smooth_l1"]
Precision = Literal["fp32", "fp16", "bf16"]
Stem = Literal["adapted", "fresh"]
DepthMode = Literal["clip", "report", "symmetric", "per_image"]


class ModelConfig(Strict):
    """Which backbone. `small` takes its small sibling; `pretrained` is true, false or a checkpoint's path.

    stem: what becomes of a pretrained input layer made for three channels: `adapted` repeats its weights over
        the twelve, as timm does; `fresh` starts it anew, as the report did.
    """

    name: str
    small: bool = False
    pretrained: bool | str = False
    stem: Stem = "adapted"


class DataConfig(Strict):
    """Which samples are trained on and how they become the 12 input channels.

    split: `head:0.7` (the report's: the first int(0.7 N)), `block:0.7` (by temporal id), `kfold:i/k`, `full`.
    inputs: the channels left out are zero.
    depth: `clip` is metres clipped to a range, with a reserved value for invalid pixels; `report` is the
        report's (mm / 1000) / 65.535, in [0, 1]; `symmetric` is the same in [-1, 1]; `per_image` puts the
        clipped distances of each image between 0 and 1, with a reserved value for invalid pixels.
    rgb_statistics: whether each view has its own mean and deviation of each colour, or all share one.
    """

    split: SplitText = "head:0.7"
    inputs: Literal["rgbd", "rgb", "depth"] = "rgbd"
    depth: DepthMode = "clip"
    rgb_statistics: Literal["view", "shared"] = "view"
    augment: AugmentConfig = AugmentConfig()


Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Strict):
    """How the weights are found."""

    epochs: int = Field(200, ge=1)
    batch_size: int = Field(32, ge=2, description="BatchNorm needs at least two samples")
    lr: float = Field(1e-3, gt=0)
    optimizer: OptimizerName = "adam"
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    scheduler: Scheduler = Constant()
    loss: LossName = "mse"
    clip_norm: float | None = Field(
        None, gt=0, description="largest gradient norm (millimetre loss); null: no clipping"
    )
    ema_epochs: float | None = Field(
        None, gt=0, description="average the weights over about so many epochs; null: no average"
    )
    precision: Precision = "fp32"
    deterministic: bool = False

    @model_validator(mode="after")
    def _finite(self) -> TrainConfig:
        for key in ("lr", "weight_decay", "clip_norm"):
            value = getattr(self, key)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{key} is {value}; a finite number is needed")
        return self


class RunConfig(Strict):
    """Everything that decides the result of one run; device and checkpoint cadence should not."""

    model: ModelConfig
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every_s: float = Field(60.0, ge=0, description="and never more than 5% of the time")

    def request(self) -> dict[str, Any]:
        """What was asked for: all that decides the result, as plain numbers and texts."""
        return self.model_dump(mode="json", exclude={"device", "checkpoint_every_s"})

    def hash(self) -> str:
        """Twelve hex digits over what was asked for; equal requests have equal hashes."""
        return hashlib.sha256(json.dumps(self.request(), sort_keys=True).encode()).hexdigest()[:12]


class LogUniform(Strict):
    """A number whose logarithm is uniform between the two bounds."""

    log_uniform: tuple[float, float]

    @model_validator(mode="after")
    def _positive_range(self) -> LogUniform:
        low, high = self.log_uniform
        if not 0 < low < high:
            raise ValueError(f"log_uniform [{low}, {high}]: needs 0 < low < high")
        return self


class Uniform(Strict):
    """A number that is uniform between the two bounds."""

    uniform: tuple[float, float]

    @model_validator(mode="after")
    def _range(self) -> Uniform:
        low, high = self.uniform
        if not low < high:
            raise ValueError(f"uniform [{low}, {high}]: needs low < high")
        return self


class Choice(Strict):
    """One of the listed values, each as likely."""

    choice: tuple[Any, ...] = Field(min_length=1)


def _kind_of_distribution(value: Any) -> str | None:
    """The one key of a distribution, as read from YAML or as built; None for anything else."""
    keys = list(value) if isinstance(value, dict) else list(getattr(type(value), "model_fields", []))
    return str(keys[0]) if len(keys) == 1 else None


Distribution = Annotated[
    Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind_of_distribution,
        custom_error_type="distribution",
        custom_error_message="expected one of log_uniform: [low, high], uniform: [low, high], choice: [...]",
    ),
]


FINISHERS = 4  # trials that rungs leave to the end, at least
MAX_PARTS = 27  # of a run, the first of which ends at the first rung


class SearchConfig(Strict):
    """A study: how many trials, how long, which rungs, over which space.

    Rungs lie at grace x reduction^i epochs; a trial goes on past a rung if it is among the best 1/reduction
    of the trials that reached it so far (ASHA, arXiv:1810.05934). What that leaves of `share` goes to trials
    that were stopped (tune.chances). A budget may end a study earlier (tune.budget).
    """

    trials: int = Field(64, ge=1)
    epochs: int = Field(100, ge=1)
    grace: int | None = Field(None, ge=1, description="the first rung; null: as the number of trials allows")
    reduction: int = Field(3, ge=2)
    share: float = Field(
        1 / 3, ge=0, le=1, description="of trials x epochs, to be trained; 0: no second chances"
    )
    chances: int | None = Field(
        None, ge=1, description="stopped trials that go on at a time; null: sqrt(trials) / 4, at least 4"
    )
    sampler: SamplerName = "random"
    warm_start: str | None = Field(None, description="the earlier study that this one starts from")
    warm_settings: int = Field(
        3, ge=1, description="how many of its best settings are tried after the configured one"
    )
    ema_epochs: float | None = Field(
        2.0,
        gt=0,
        description="train.ema_epochs of trials where that is null: rungs judge by the better weights",
    )
    gpu_hours: float | None = Field(
        None, gt=0, description="of all workers together, from when each is held; null: no limit"
    )
    deadline: Moment | None = None
    confirm: int = Field(0, ge=0, description="the best trials to run again with other seeds")
    keep: int = Field(3, ge=1, description="stopped trials outside the best `keep` lose their checkpoints")
    space: dict[str, Distribution] = Field({})

    @model_validator(mode="after")
    def _grace_fits(self) -> SearchConfig:
        if self.first_rung > self.epochs:
            raise ValueError(
                f"grace {self.grace} exceeds epochs {self.epochs}: no trial would reach a rung; lower grace"
            )
        return self

    @property
    def first_rung(self) -> int:
        """The epoch at which trials are judged first.

        Unless configured, there are as many rungs as leave FINISHERS trials or more to the end, the first not
        before a MAX_PARTS-th of a run: with few trials, judging early loses more than it saves. Chosen by
        replay; see tune/README.md.
        """
        if self.grace is not None:
            return self.grace
        parts = self.reduction
        while parts * self.reduction <= min(MAX_PARTS, self.trials / FINISHERS):
            parts *= self.reduction
        return math.ceil(self.epochs / parts)

    @property
    def affordable_share(self) -> float:
        """`share`, or all epochs where GPU hours were given to be used; 0: no second chances in any case."""
        return 1.0 if self.gpu_hours is not None and self.share else self.share


class FinalConfig(Strict):
    """The final run: the winner's configuration on all the data."""

    epochs: int = Field(200, ge=1)


class TwinConfig(Strict):
    """The rendered stand-in that a search makes when no data set is given."""

    size: int = Field(224, ge=32, le=1024)
    train: int = Field(3396, ge=2)
    test: int = Field(849, ge=1)
    seed: int = Field(0, ge=0)


class Experiment(RunConfig):
    """All sections of the configuration files together."""

    search: SearchConfig = SearchConfig()
    final: FinalConfig = FinalConfig()
    twin: TwinConfig = TwinConfig()

    def run(self) -> RunConfig:
        """The part that one training run needs."""
        return RunConfig(**{key: getattr(self, key) for key in RunConfig.model_fields})

    def trial(self, seed: int) -> RunConfig:
        """The run of a search's trial, before its own values are laid over it."""
        average = self.train.ema_epochs or self.search.ema_epochs
        train = self.train.model_copy(update={"epochs": self.search.epochs, "ema_epochs": average})
        return self.run().model_copy(update={"train": train, "seed": seed})
