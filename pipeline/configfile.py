"""From YAML files and `--set` overrides to a typed Experiment.

Later sources win: 1. defaults in pipeline.config, 2. configs/model/NAME.yaml, 3. configs/profile/NAME.yaml,
4. the user's file, 5. --set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.config import Experiment, RunConfig, Strict
from pipeline.errors import ConfigError, did_you_mean
from pipeline.paths import configs

AnySection = TypeVar("AnySection", bound=Strict)
SHOWN_WHOLE = ("scheduler", "missing")  # errors about a section as it stands, which is short then


def shipped(kind: str) -> list[str]:
    """The names of the shipped files of a kind (`model`, `profile`), sorted."""
    return sorted(path.stem for path in (configs() / kind).glob("*.yaml"))


def load_experiment(
    model: str, profile: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> Experiment:
    """The experiment of a backbone, with a profile, a file and overrides on top.

    Raises ConfigError for an unknown model or profile, an unreadable file, an unknown key or a bad value.
    """
    tree: dict[str, Any] = {"model": {"name": model}}
    tree = merge(tree, read_shipped("model", model))
    if profile is not None:
        tree = merge(tree, read_shipped("profile", profile))
    if file is not None:
        tree = merge(tree, read_yaml(file))
    return validated(Experiment, with_overrides(tree, overrides))


def read_shipped(kind: str, name: str) -> dict[str, Any]:
    """configs/KIND/NAME.yaml as a dictionary; an unknown name is refused with the known ones."""
    known = shipped(kind)
    if name not in known:
        raise ConfigError(f"unknown {kind} {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}")
    return read_yaml(configs() / kind / f"{name}.yaml")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}; expected sections such as 'train:'")
    return tree


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`base` with `top` laid over it, section by section.

    A mapping with another `name` (a scheduler) replaces the old one whole: its keys belong to that name.
    """
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _renamed(old, value):
            value = merge(old, value)
        merged[key] = value
    return merged


def _renamed(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name")


def with_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies `a.b=c` texts; the right side is read as YAML, so 3e-4, true, null and [1, 2] work."""
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {text}: expected KEY=VALUE, as in --set train.lr=3e-4")
        tree = with_value(tree, key, parse_scalar(value))
    return tree


def parse_scalar(text: str) -> Any:
    """A value from the command line: YAML, with 3e-4 taken as the number it means."""
    try:
        return float(text) if _is_exponent(text) else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set: {text!r} cannot be read: {error}") from None


def _is_exponent(text: str) -> bool:
    """YAML 1.1 reads 3e-4, without a dot, as a text."""
    mantissa, separator, exponent = text.lower().partition("e")
    return bool(separator) and mantissa.replace(".", "", 1).isdigit() and exponent.lstrip("+-").isdigit()


def with_value(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `tree` with the dotted `key` set; below `space`, the rest is one key, such as train.lr."""
    head, _, rest = key.partition(".")
    if not rest:
        return {**tree, head: value}
    if head == "space":
        return {**tree, head: {**tree.get(head, {}), rest: value}}
    section = tree.get(head, {})
    return {**tree, head: with_value(section if isinstance(section, dict) else {}, rest, value)}


def apply_values(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """A run configuration with dotted keys replaced, as a search draws them."""
    tree: dict[str, Any] = config.model_dump(mode="json")
    for key, value in values.items():
        tree = with_value(tree, key, value)
    return validated(RunConfig, tree)


def validated(kind: type[AnySection], tree: dict[str, Any]) -> AnySection:
    """`tree` as a typed section, with every problem named by its dotted key."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(dict(problem)) for problem in error.errors())) from None


def _explain(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "configuration"
    message = problem["msg"].removeprefix("Value error, ")
    found = problem.get("input")
    about_it = not isinstance(found, dict) or problem["type"] in SHOWN_WHOLE
    shown = f" (found {found!r})" if about_it and "unknown key" not in message else ""
    return f"{where}: {message}{shown}"
