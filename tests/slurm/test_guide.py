"""The site guide says what is there: fields of profiles, modules and their options, messages."""

import importlib.util
import re
from pathlib import Path

import pytest

from slurm.cluster import Cluster

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "slurm" / "README.md").read_text(encoding="utf-8")
SOURCES = {
    path: path.read_text(encoding="utf-8")
    for part in ("slurm", "tune", "pipeline")
    for path in (ROOT / part).rglob("*.py")
}
MESSAGES = [
    "is this search already",
    "is the driver of study",
    "is being run",
    "could not go back into the queue",
    "torch sees no GPU",
    "not ended within",
    "killing it",
    "Slurm does not answer",
    "killed by",
    "launch failed requeued held",
]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+\.\w+)`", GUIDE))))
def test_every_field_of_a_profile_exists(name: str) -> None:
    section, _, field = name.partition(".")
    if section in ("tune", "slurm", "pipeline") or field in ("sbatch", "csv", "yaml", "py"):
        return
    assert section in Cluster.model_fields, name
    assert field in Cluster.model_fields[section].annotation.model_fields, name


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)", GUIDE))))
def test_every_command_exists(module: str) -> None:
    assert importlib.util.find_spec(module), module


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", GUIDE))))
def test_every_option_exists(option: str) -> None:
    elsewhere = {"--nv", "--overlay", "--bind", "--requeue"}  # of Apptainer and sbatch
    assert option in elsewhere or any(f'"{option}"' in source for source in SOURCES.values())


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_said_somewhere(message: str) -> None:
    assert message in GUIDE
    assert any(message in source for source in SOURCES.values())


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", GUIDE):
        assert (ROOT / "slurm" / target).exists(), target
    headings = {
        re.sub(r"[^a-z -]", "", line.lower()).strip().replace(" ", "-")
        for line in GUIDE.splitlines()
        if line.startswith("## ")
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", GUIDE):
        assert anchor in headings, anchor
