"""The next trial of a study, as a pure function of the study's seed and name, the trial's number and the
configurations drawn before it.

Trial 0 is the configured setting (the report's, unless a profile or the user changed it); later ones are
drawn at random from the space, after those that the study takes over from an earlier one (tune.warm). No
configuration is drawn twice.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.config import Choice, Distribution, LogUniform, RunConfig, SearchConfig, Uniform
from pipeline.configfile import apply_values
from pipeline.errors import ConfigError
from pipeline.records import Source

MAX_SEED = 2**31
MAX_REDRAWS = 100
Values = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """A trial's dotted configuration keys, its training seed, and where the values came from."""

    values: Values
    seed: int
    source: Source


@dataclass(frozen=True)
class Outcome:
    """What a trial's values lead to: the error it may end with, metres (inf: failed); None: not known yet."""

    values: Values
    promise: float | None


class Sampler(Protocol):
    """Where a study's trials come from."""

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        """Trial `number`, with none of the `taken` configurations; None if there is none left.

        `known`: every trial so far.
        """
        ...

    def config(self, values: Values, seed: int) -> RunConfig:
        """What a trial with these values trains."""
        ...


class Space:
    """The distributions of a study's dotted keys around `base`, the configured setting.

    A key whose value in `base` is a whole number is drawn as a whole number. Raises ConfigError for a key
    that the configuration does not have, and for a bound or choice that it does not allow.
    """

    def __init__(self, distributions: Mapping[str, Distribution], base: RunConfig) -> None:
        self.distributions = dict(distributions)
        self._base = base
        self._configured = {key: look_up(plain(base), key) for key in distributions}
        for key, distribution in distributions.items():
            for value in _extremes(distribution):
                self._check(key, value)

    def _check(self, key: str, value: Any) -> None:
        try:
            self.resolved({key: self.typed(key, value)})
        except ConfigError as error:
            raise ConfigError(f"search.space.{key}: {value!r} is not allowed there: {error}") from None

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        """Trial `number` of a study, with none of the `taken` configurations (as `canonical` names them).

        None if every configuration of the space has been drawn.
        """
        rng = _rng(self._base.seed, study, number)
        seed = _training_seed(rng)
        if number == 0:
            return Draw(self._configured, seed, "configured")
        drawn = (self._sample(rng) for _ in range(MAX_REDRAWS))
        for values in itertools.chain(drawn, self._all()):
            if canonical(values) not in taken:
                return Draw(values, seed, "random")
        return None

    def config(self, values: Values, seed: int) -> RunConfig:
        """The configured setting with a trial's values and seed laid over it."""
        return apply_values(self._base, values).model_copy(update={"seed": seed})

    def _sample(self, rng: np.random.Generator) -> Values:
        drawn = {key: _sample(distribution, rng) for key, distribution in self.distributions.items()}
        return self.resolved({key: self.typed(key, value) for key, value in drawn.items()})

    def _all(self) -> Iterable[Values]:
        """Every configuration of a finite space; none of an infinite one."""
        entries = self.distributions.values()
        options = [entry.choice for entry in entries if isinstance(entry, Choice)]
        if len(options) == len(entries):
            for values in itertools.product(*options):
                yield self.resolved(dict(zip(self.distributions, values, strict=True)))

    def typed(self, key: str, value: Any) -> Any:
        """A drawn number as the kind of number that the configuration has there."""
        present = self._configured[key]
        whole = isinstance(present, int) and not isinstance(present, bool)
        return round(value) if whole and isinstance(value, float) else value

    def resolved(self, values: Values) -> Values:
        """The values as the configuration holds them, defaults filled in: equal settings become equal."""
        tree = plain(apply_values(self._base, values))
        return {key: look_up(tree, key) for key in values}


def make_sampler(search: SearchConfig, base: RunConfig) -> Sampler:
    """The sampler that a study is configured with."""
    if search.sampler == "random":
        return Space(search.space, base)
    from tune.tpe import TpeSpace  # imports Optuna

    return TpeSpace(search.space, base)


def canonical(values: Values) -> str:
    """A text that is equal for equal configurations."""
    return json.dumps(values, sort_keys=True)


def _sample(distribution: Distribution, rng: np.random.Generator) -> Any:
    match distribution:
        case LogUniform(log_uniform=(low, high)):
            return min(max(float(np.exp(rng.uniform(np.log(low), np.log(high)))), low), high)
        case Uniform(uniform=(low, high)):
            return float(rng.uniform(low, high))
        case Choice(choice=options):
            return options[int(rng.integers(len(options)))]


def _extremes(distribution: Distribution) -> tuple[Any, ...]:
    match distribution:
        case LogUniform():
            return distribution.log_uniform
        case Uniform():
            return distribution.uniform
        case Choice():
            return distribution.choice


def training_seed(seed: int, study: str, number: int) -> int:
    """The seed with which trial `number` of a study trains, whatever its values."""
    return _training_seed(_rng(seed, study, number))


def _training_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(MAX_SEED))


def _rng(seed: int, study: str, number: int) -> np.random.Generator:
    name = hashlib.sha256(study.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(name[:8], "big"), number])


def plain(config: RunConfig) -> dict[str, Any]:
    """A configuration as plain numbers and texts."""
    return config.model_dump(mode="json")


def look_up(tree: Any, key: str) -> Any:
    """What a plain configuration has at a dotted key. Raises ConfigError if there is no such key."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            known = ", ".join(tree) if isinstance(tree, dict) else "nothing"
            raise ConfigError(f"search.space.{key}: no configuration key {part!r} there; known: {known}")
        tree = tree[part]
    return tree
