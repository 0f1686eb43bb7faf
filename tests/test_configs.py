"""The shipped YAML files: they load, say where they come from, and hold the report's settings."""

import ast
from typing import get_args

import pytest
from pydantic import TypeAdapter

from pipeline import models
from pipeline.config import Constant, Cosine, Experiment, MultiStep, Scheduler, Step, Strict
from pipeline.configfile import apply_values, load_experiment, read_shipped, shipped
from pipeline.paths import configs, repository

REPORT = {  # name: batch size, learning rate, optimizer, weight decay, epochs, pretrained
    "resnest269": (32, 0.001, "adam", 0.0, 200, True),
    "resnet152": (32, 0.001, "adam", 0.0, 180, True),
    "convnext": (32, 0.004, "adamw", 0.05, 180, False),
    "hrnet": (24, 0.001, "adam", 0.0, 210, False),
    "poseresnet152": (32, 0.001, "adam", 0.0, 140, False),
    "resnet50": (32, 0.001, "adam", 0.0, 30, True),
}
REPORT_SCHEDULES = {
    "resnest269": MultiStep(milestones=(30 / 200, 60 / 200, 90 / 200), factor=0.5),
    "resnet152": Step(every=30 / 180, factor=0.5),
    "convnext": Cosine(warmup=20 / 180),
    "hrnet": MultiStep(milestones=(170 / 210, 200 / 210), factor=0.1),
    "poseresnet152": Step(every=30 / 140, factor=0.5),
    "resnet50": Constant(),
}
SEARCHED = {"train.lr", "train.batch_size", "train.weight_decay", "train.scheduler"}
FILES = sorted([*configs().glob("model/*.yaml"), *configs().glob("profile/*.yaml")])


def bounds(experiment, key):
    return experiment.search.space[key].log_uniform


def test_every_backbone_has_a_file_and_every_file_a_backbone():
    assert shipped("model") == sorted(models.names())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_file_opens_with_its_source_command_cost_and_expectation(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    opening = "\n".join(line for line in lines[:12] if line.startswith("#"))
    assert lines[0].startswith("# ")
    assert "Command: python -m tune.search --model" in opening
    assert "Cost" in opening
    assert "Source" in opening or path.stem == "full", "full changes nothing"
    assert "xpected" in opening


@pytest.mark.parametrize("name", REPORT)
def test_training_is_the_reports_best_setting(name):
    experiment = load_experiment(name)
    train = experiment.train
    found = (train.batch_size, train.lr, train.optimizer, train.weight_decay, train.epochs)
    assert (*found, experiment.model.pretrained) == REPORT[name]
    assert train.scheduler == REPORT_SCHEDULES[name]
    assert train.betas == (0.9, 0.999)
    assert train.loss == "mse"


@pytest.mark.parametrize("name", REPORT)
def test_the_space_contains_the_reports_setting(name):
    experiment = load_experiment(name)
    train, space = experiment.train, experiment.search.space
    assert set(space) == SEARCHED
    low, high = bounds(experiment, "train.lr")
    assert low < train.lr < high
    assert train.batch_size in space["train.batch_size"].choice
    schedules = [TypeAdapter(Scheduler).validate_python(each) for each in space["train.scheduler"].choice]
    assert train.scheduler in schedules
    low, high = bounds(experiment, "train.weight_decay")
    assert train.weight_decay == 0.0 or low < train.weight_decay < high


@pytest.mark.parametrize("name", REPORT)
def test_every_range_of_the_space_has_its_reason(name):
    lines = (configs() / "model" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith("    train.")]
    assert len(found) == len(SEARCHED)
    assert all(lines[number - 1].startswith("    # ") for number in found)


@pytest.mark.parametrize("profile", [None, "full", "smoke"])
@pytest.mark.parametrize("name", REPORT)
def test_every_corner_of_the_space_is_a_valid_run(name, profile):
    experiment = load_experiment(name, profile)
    for key, distribution in experiment.search.space.items():
        values = getattr(distribution, "choice", None) or distribution.log_uniform
        for value in values:
            assert apply_values(experiment.run(), {key: value}).model.name == name


def settings(kind):
    """The names of a section's settings, and of those below it."""
    for name, field in kind.model_fields.items():
        yield name
        for below in strict_in(field.annotation):
            yield from settings(below)


def strict_in(annotation):
    """The sections that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [found for part in get_args(annotation) for found in strict_in(part)]


def words(tree):
    """Everything by which code can name a setting."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.arg(arg=name) | ast.Constant(value=str(name)):
                yield name
            case ast.MatchClass(kwd_attrs=names):
                yield from names


def test_every_setting_is_read_somewhere():
    """Of the sources outside the configuration, which only check what was asked for."""
    packages = [repository() / name for name in ("pipeline", "tune")]
    sources = [path for package in packages for path in package.rglob("*.py")]
    read = {
        word
        for path in sources
        if not path.stem.endswith("config")
        for word in words(ast.parse(path.read_text(encoding="utf-8")))
    }
    known = set(settings(Experiment))
    assert {"lr", "factor", "p_max", "log_uniform", "stem", "ema_epochs"} <= known
    assert sorted(known - read) == []


def test_the_full_profile_changes_nothing():
    assert read_shipped("profile", "full") == {}


@pytest.mark.parametrize("name", REPORT)
def test_the_smoke_profile_runs_small_on_the_cpu_without_downloads(name):
    experiment = load_experiment(name, "smoke")
    assert experiment.model.small
    assert experiment.model.pretrained is False
    assert experiment.device == "cpu"
    assert experiment.twin.size == 64
    assert experiment.search.epochs == experiment.train.epochs <= 12
    low, high = bounds(experiment, "train.lr")
    assert low < experiment.train.lr < high
