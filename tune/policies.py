"""The searches that a replay compares: how each draws, judges and stops.

A policy is written NAME or NAME:key=value,...; the keys are those of the configuration's `search` section,
and `metric`: what a trial is judged by, `rmse`, `rmse_ema` or `best`, the smaller of the two.
"""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Constant, Experiment, ModelConfig, RunConfig, SearchConfig, TrainConfig
from pipeline.configfile import parse_scalar, validated
from pipeline.errors import ConfigError
from tune.curves import METRICS, Metric, Table
from tune.journal import MemoryJournal
from tune.space import Draw, Outcome, Values, canonical
from tune.study import Study


@dataclass(frozen=True)
class Policy:
    """A search: its name as it was asked for, what it judges by, and its `search` settings."""

    name: str
    metric: Metric = "best"
    search: dict[str, Any] = field(default_factory=dict)

    def settings(self, table: Table) -> SearchConfig:
        """The search section for a table: every setting is a trial of the recorded length."""
        size = {"trials": len(table.curves), "epochs": table.epochs}
        full = {"grace": table.epochs} if self.search.get("grace") == "epochs" else {}
        return validated(SearchConfig, {**size, **self.search, **full})

    def study(self, table: Table, seed: int) -> Study:
        """A fresh study over a table's settings, which come in an order of their own for each seed."""
        search = self.settings(table)
        experiment = Experiment(model=ModelConfig(name="replay"), search=search, seed=seed)
        sampler = make_sampler(search, table, seed)
        return Study("replay", experiment, MemoryJournal(), lambda study, record: None, sampler)


POLICIES: dict[str, Policy] = {
    # every setting trained to its end
    "random-full": Policy("random-full", search={"grace": "epochs", "share": 0}),
    # Ray's AsyncHyperBandScheduler with its defaults, told what the network scores
    "ray-asha": Policy("ray-asha", "rmse", {"grace": 1, "reduction": 4, "share": 0}),
    # this project's search with its defaults, given as long as it takes
    "asha": Policy("asha", search={"share": 1}),
    # the same, drawn by TPE
    "asha-tpe": Policy("asha-tpe", search={"share": 1, "sampler": "tpe"}),
}


def policy(text: str) -> Policy:
    """The policy that a text names. Raises ConfigError for an unknown name, key or value."""
    name, _, changes = text.partition(":")
    if name not in POLICIES:
        raise ConfigError(f"--policy {text}: {name!r} is not one of {', '.join(POLICIES)}")
    base = POLICIES[name]
    metric, search = base.metric, dict(base.search)
    for change in filter(None, changes.split(",")):
        key, separator, value = change.partition("=")
        if not separator:
            raise ConfigError(f"--policy {text}: {change!r} is not key=value, as in {name}:grace=3")
        if key == "metric":
            metric = _metric(text, value)
        else:
            search[key] = parse_scalar(value)
    return Policy(text, metric, search)


def _metric(text: str, value: str) -> Metric:
    if value not in METRICS:
        raise ConfigError(f"--policy {text}: metric {value!r} is not one of {', '.join(METRICS)}")
    return METRICS[value]


class Shuffled:
    """Draws a table's settings without replacement, in an order that the seed decides."""

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._order = list(range(len(table.curves)))
        random.Random(seed).shuffle(self._order)

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        """The next setting's place in the table, as the value `setting`."""
        for place in range(number, number + len(self._order)):
            values = {"setting": self._order[place % len(self._order)]}
            if canonical(values) not in taken:
                return Draw(values, 0, "random")
        return None

    def config(self, values: Values, seed: int) -> RunConfig:
        """Of the setting itself only the warm-up is known; nobody trains this."""
        warmup = self._table.curves[values["setting"]].warmup / self._table.epochs
        train = TrainConfig(epochs=self._table.epochs, scheduler=Constant(warmup=warmup))
        return RunConfig(model=ModelConfig(name="replay"), train=train)


def make_sampler(search: SearchConfig, table: Table, seed: int) -> Shuffled:
    """Draws a table's settings as the study is configured to draw."""
    if search.sampler == "random":
        return Shuffled(table, seed)
    from tune.nearest import NearestToTpe  # imports Optuna

    return NearestToTpe(table, seed)
