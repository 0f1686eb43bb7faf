from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Experiment
from pipeline.data.pack import PackWriter, Sample
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Begun, Record
from tests.tune.earlier import DATA, SPACE, MakeExperiment, request
from tune.journal import Journal
from tune.request import Request
from tune.study import Study
from tune.warm import begin, warm_start


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest packed data set; nobody looks at it."""
    root, generator = tmp_path_factory.mktemp("data") / "pack", np.random.default_rng(0)
    with PackWriter(root, {"train": 2, "test": 1}, 32, 32, ("train",), "made up") as writer:
        for split, index in (("train", 0), ("train", 1), ("test", 0)):
            rgb = generator.integers(0, 255, (9, 32, 32), dtype=np.uint8)
            depth = generator.integers(300, 900, (3, 32, 32), dtype=np.uint16)
            label = generator.normal(size=12) if split == "train" else None
            writer.write(split, index, Sample(rgb, depth, index, label))
    return root


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


@pytest.fixture
def workspace(paths: StudyPaths) -> Workspace:
    return Workspace(paths.root.parents[1])


@pytest.fixture
def earlier(workspace: Workspace, experiment: MakeExperiment) -> Callable[..., Experiment]:
    """Writes the study `old`: its trials' records, with a configuration; says which one."""

    def write(*trials: list[Record], name: str = "old", profile: str = "smoke", **search: Any) -> Experiment:
        made = experiment(**search)
        Request(name, profile, DATA, None, made).write(workspace.study(name))
        with Journal(workspace.study(name)) as journal:
            for record in [Begun(study=name), *(record for trial in trials for record in trial)]:
                journal.append(record)
        return made

    return write


@pytest.fixture
def warm_study(workspace: Workspace, paths: StudyPaths, experiment: MakeExperiment) -> Callable[..., Study]:
    """Opens the study `s`, started from `old`, as a driver does, and closes its journal's lock."""

    def make(**search: Any) -> tuple[Study, Journal]:
        made = experiment(warm_start="old", **search)
        warm = warm_start(workspace, request(made))
        request(made).write(paths)
        journal = Journal(paths)
        begin(journal, "s", warm)
        return Study("s", made, journal, lambda _study, _record: None), journal

    return make
