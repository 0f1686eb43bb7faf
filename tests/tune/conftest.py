from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Experiment
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Record
from tune.journal import Journal
from tune.study import Study

SPACE = {"train.lr": {"log_uniform": (1e-4, 1e-2)}, "train.batch_size": {"choice": (8, 16)}}


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """Makes an experiment with a small search; keywords replace search settings."""

    def make(**search: Any) -> Experiment:
        settings = {"trials": 6, "epochs": 9, "grace": 1, "reduction": 3, "space": SPACE} | search
        return Experiment.model_validate({"model": {"name": "resnet50"}, "search": settings})

    return make


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return Workspace(tmp_path).study("s")


def ignore(study: Study, record: Record) -> None:
    """A listener that does not listen."""


@pytest.fixture
def open_study(paths: StudyPaths, experiment: Callable[..., Experiment]) -> Callable[..., Study]:
    """Opens the study `s` on its journal; close the second value before opening it again."""

    def make(listen: Callable[[Study, Record], None] = ignore, **search: Any) -> tuple[Study, Journal]:
        journal = Journal(paths)
        return Study("s", experiment(**search), journal, listen), journal

    return make
