"""What would fail every trial of a search, found before anything is rendered, trained or recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Choice, Experiment, TwinConfig
from pipeline.data.pack import Pack
from pipeline.data.split import split_indices
from pipeline.errors import ConfigError, DataError
from pipeline.models import require_weights
from pipeline.models.factory import SIZE_MULTIPLE
from tune.space import Space

SPLIT_KEY = "data.split"


@dataclass(frozen=True)
class Facts:
    """What of a data set decides whether it can be searched on; `ids`: int64 [N] of the train split."""

    name: str
    height: int
    width: int
    ids: NDArray[np.int64]
    labelled: bool

    @classmethod
    def of_pack(cls, pack: Pack) -> Facts:
        """Those of a packed data set. Raises DataError if it has no train split."""
        train = pack.split("train")
        return cls(str(pack.root), pack.meta.height, pack.meta.width, train.ids, train.labels is not None)

    @classmethod
    def of_twin(cls, twin: TwinConfig) -> Facts:
        """Those of a twin before it is rendered; its test frames lie between the training frames."""
        ids = np.linspace(0, twin.train + twin.test - 1, twin.train).astype(np.int64)
        return cls("the rendered stand-in", twin.size, twin.size, ids, labelled=True)


def check_experiment(experiment: Experiment) -> None:
    """Raises ConfigError for a space that does not fit and for pretrained weights that are not here."""
    Space(experiment.search.space, experiment.run())
    model = experiment.model
    require_weights(model.name, model.pretrained, model.small)


def check_data(experiment: Experiment, facts: Facts) -> None:
    """Raises DataError for data on which nothing can be searched, ConfigError for a split without validation.

    Every split that a trial may get is tried.
    """
    if facts.height != facts.width or facts.height % SIZE_MULTIPLE:
        raise DataError(
            f"{facts.name}: images of {facts.height} x {facts.width} pixels; the networks need square ones "
            f"with a multiple of {SIZE_MULTIPLE}, such as 64 or 224: pack or render the data at such a size"
        )
    if not facts.labelled:
        raise DataError(f"{facts.name}: the train split has no labels; pack a data set that has them")
    for spec in _splits(experiment):
        _, validation = split_indices(spec, facts.ids)
        if not len(validation):
            raise ConfigError(
                f"data.split {spec!r}: a search ranks trials by their validation RMSE, and this leaves "
                "nothing to validate on; use head:0.7, block:0.7 or kfold:0/5 "
                "(the final run takes all the data itself)"
            )


def _splits(experiment: Experiment) -> set[str]:
    varied = experiment.search.space.get(SPLIT_KEY)
    return {experiment.data.split, *(varied.choice if isinstance(varied, Choice) else ())}
