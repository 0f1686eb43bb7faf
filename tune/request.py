"""What was asked of a study, kept in study.yaml: the same request resumes it, another one is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline.config import Experiment
from pipeline.configfile import read_yaml, validated
from pipeline.errors import ConfigError, StudyError
from pipeline.paths import StudyPaths, Workspace, write_text_atomically

FREE_KEYS = (
    *("commit", "experiment.device", "experiment.checkpoint_every_s"),  # no influence on the result
    *("experiment.search.gpu_hours", "experiment.search.deadline"),  # what is left to do fits or does not
    "experiment.search.confirm",  # comes after all that was searched
)
TRIALS_KEY = "experiment.search.trials"
FINGERPRINT = re.compile(r"[0-9a-f]{32,}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Request:
    """A study's name, profile, configuration, the fingerprint of its data, and the code's commit."""

    study: str
    profile: str
    data: str
    commit: str | None
    experiment: Experiment

    def as_tree(self) -> dict[str, Any]:
        """Plain numbers and texts, as study.yaml holds them."""
        return {
            "study": self.study,
            "profile": self.profile,
            "data": self.data,
            "commit": self.commit,
            "experiment": self.experiment.model_dump(mode="json"),
        }

    def write(self, paths: StudyPaths) -> None:
        """Replaces study.yaml."""
        write_text_atomically(paths.request, yaml.safe_dump(self.as_tree(), sort_keys=False))


def read_request(paths: StudyPaths) -> Request | None:
    """The request of a study; None if it has none yet. Raises StudyError if it cannot be read."""
    if not paths.request.exists():
        return None
    try:
        tree = read_yaml(paths.request)
        return Request(**{**tree, "experiment": validated(Experiment, tree["experiment"])})
    except (ConfigError, KeyError, TypeError) as error:
        raise StudyError(
            f"{paths.request}: not the request of a study of this version ({error}); "
            "use --study NAME or --fresh for a new study"
        ) from None


def with_fixed_rungs(paths: StudyPaths, experiment: Experiment) -> Experiment:
    """The experiment, its rungs where the study's first command put them, however many trials are added."""
    search = experiment.search
    if search.grace is not None:
        return experiment
    found = read_request(paths)
    first = (found.experiment.search if found else search).first_rung
    return experiment.model_copy(update={"search": search.model_copy(update={"grace": first})})


def refuse_changed(paths: StudyPaths, profile: str, data: str | None, experiment: Experiment) -> None:
    """Raises StudyError if a study exists that was started with another request.

    `data` is the fingerprint of the data set; None if that is not known yet.
    """
    found = read_request(paths)
    if found is not None:
        refuse_other(found, Request(paths.root.name, profile, data or found.data, found.commit, experiment))


def refuse_other(old: Request, new: Request) -> None:
    """Raises StudyError with every difference between two requests that would change results.

    More trials than before, or another budget, are no difference: the study goes on.
    """
    raised = new.experiment.search.trials > old.experiment.search.trials
    free = (*FREE_KEYS, TRIALS_KEY) if raised else FREE_KEYS
    differing = [line for key, line in changes(old, new).items() if key not in free]
    if differing:
        raise StudyError(
            f"study {new.study} was started with another request:\n" + "\n".join(differing) + "\n"
            "Repeat the first command to resume it, or use --study NAME, --fresh or another --runs for a new "
            "study (search.trials may be raised, not lowered; the budget may change)"
        )


def changes(old: Request, new: Request) -> dict[str, str]:
    """A line for each dotted key in which two requests differ."""
    before, after = flat(old.as_tree()), flat(new.as_tree())
    return {
        key: f"  {key.removeprefix('experiment.')}: {_shown(before.get(key))} -> {_shown(after.get(key))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _shown(value: Any) -> str:
    """A value for a person; of a data set's fingerprint the first digits tell enough."""
    is_fingerprint = isinstance(value, str) and FINGERPRINT.fullmatch(value)
    return f"{value[:8]}..." if is_fingerprint else repr(value)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys; an empty one stays a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


def refuse_name(name: str) -> None:
    """Raises StudyError for a study's name that is not one folder under RUNS/studies, or means all models."""
    if name == "all":
        raise StudyError("--study 'all': is what a search of all models is called; give another name")
    if not NAME.fullmatch(name):
        raise StudyError(
            f"--study {name!r}: a name is made of letters, digits, '.', '_' and '-', and starts with "
            "a letter or digit; --runs chooses the folder"
        )


def fresh_name(workspace: Workspace, base: str) -> str:
    """`base` if there is no such study, else the first of base-2, base-3, ... that does not exist."""
    taken = {paths.root.name for paths in workspace.studies()}
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name
