"""Whether the profile's environment leads to a Python that can do the work: the job's own script, run here.

A job whose environment is broken dies as soon as it starts, and that is noticed only after it has waited.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.paths import repository
from slurm.cluster import Cluster
from slurm.commands import ask
from slurm.findings import Finding, note, ok, problem, warning
from slurm.head import address_of
from slurm.submit import JobSpec, job_name, script

START_S = 180  # a container or an environment of many files on a busy shared disk
MODULE = "slurm.probe"
BY_PROBE = "see with --probe whether it is there on a node"

SYMPTOMS = {  # what a job that found no Python prints -> what to do
    r"Run 'conda init'|CondaError|conda init|conda: command not found": (
        "`conda activate` needs conda's functions in a batch script: in environment.setup put \"source "
        'CONDA/etc/profile.d/conda.sh" before "conda activate NAME"; or only set environment.python to the '
        "environment's own python"
    ),
    r"[Uu]nknown option:? -P": "this Python is older than 3.11; set environment.python to a newer one",
    r"No module named '?(slurm|pipeline)": (
        "the code's copy under RUNS/code cannot be read there; give --runs DIR on the shared disk, and bind "
        "it into the container if there is one"
    ),
    r"No module named": "install this project there: `pip install -e .` in the environment that jobs use",
    r"(apptainer|singularity): (command )?not found": (
        'add "module load apptainer" or what the site calls it to environment.setup'
    ),
    r"module: (command )?not found": (
        'batch shells have no `module` here: put "source /etc/profile" first in environment.setup'
    ),
    r"[Nn]o such file or directory|not found|cannot open": (
        "set environment.python in the profile to a Python that every node can read, and environment.setup "
        "to what leads to it; a path on this host's own disk will not do"
    ),
    r"[Pp]ermission denied": "the file is not executable or not readable for you on that host",
}


def remedy_for(output: str) -> str:
    """What to do about what a job without a Python printed."""
    general = (
        "mend `environment` in the profile: setup, container and python must lead to this project's Python"
    )
    return _known(output) or general


def _known(output: str) -> str:
    return next((advice for pattern, advice in SYMPTOMS.items() if re.search(pattern, output)), "")


def complaints(output: str) -> Iterator[Finding]:
    """A line that `environment.setup` printed and that explains a broken environment, if there is one."""
    for line in output.splitlines():
        remedy = "" if line.startswith("{") else _known(line)
        if remedy:
            yield warning("setup", f"environment.setup printed: {line.strip()}", remedy)
            return


def last_line(output: str) -> str:
    """The end of an output, where the reason stands."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "nothing printed")


def environment(cluster: Cluster) -> tuple[Finding, ...]:
    """All findings about the environment, seen from this host."""
    answer = ask("bash", "-c", script(cluster, _spec(cluster), repository()), timeout_s=START_S)
    try:
        report = json.loads(last_line(answer.said))
        found = (*python(report["python"]), *commands(report["slurm_commands"]))
        return (*complaints(answer.errors), *found)
    except (ValueError, KeyError, TypeError):
        return (_no_python(cluster, answer.said or answer.failed, answer.failed),)


def _spec(cluster: Cluster) -> JobSpec:
    """The worker's job, but for its module."""
    return JobSpec(job_name("probe"), (MODULE,), cluster.gpu, Path("."), supervised=False)


def _no_python(cluster: Cluster, output: str, failed: str) -> Finding:
    container = (cluster.environment.container or "").split(" ")[0]
    if container and not cluster.environment.setup and shutil.which(container) is None:
        return warning("python", f"there is no {container} on this host to try the container with", BY_PROBE)
    said = last_line(failed or output)
    return problem(
        "python",
        f"the environment of the profile leads to no Python here: {said}",
        remedy_for(f"{failed}\n{output}"),
        "setup, container and python of the profile's `environment` that work in a batch script",
    )


def python(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings about a Python that answered."""
    versions: dict[str, str | None] = found["libraries"]
    missing = [name for name, version in versions.items() if version is None]
    yield ok("python", f"{found['version']}, {found['executable']}")
    if missing:
        needed = "install this project into it: `pip install -e .`, or name another environment.python"
        yield problem("libraries", f"that Python lacks {', '.join(missing)}", needed)
        return
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "ray", "submitit"))
    yield ok("libraries", shown)
    own = {name: _version(name) for name in versions}
    other = [f"{name} {own[name]}" for name in versions if own[name] not in (None, versions[name])]
    if other:
        yield note("libraries", f"the Python that runs this has others: {', '.join(other)}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commands(found: Mapping[str, str | None]) -> Iterator[Finding]:
    """Findings about Slurm's commands in the job's environment, inside its container if there is one."""
    missing = [name for name, path in found.items() if path is None]
    if missing:
        yield problem(
            "in the job",
            f"no {', '.join(missing)} in the job's environment: a search's driver could not submit workers",
            "bind Slurm's commands, its libraries, configuration and munge's socket into the container; see "
            "slurm/README.md, Containers",
        )
    else:
        yield ok("in the job", f"{', '.join(found)} are on PATH in the job's environment")


def address(cluster: Cluster) -> Iterator[Finding]:
    """The address at which workers would reach a driver on this host."""
    try:
        own = own_address(cluster.environment.interface)
    except (ConfigError, OSError) as error:
        told = str(error)
        yield problem("interface", told, "set environment.interface to one that all nodes have, or null")
        return
    named = cluster.environment.interface
    yield ok("interface", f"{own}, {f'environment.interface {named}' if named else 'chosen by this host'}")


def own_address(interface: str | None) -> str:
    """The address of the profile's interface; of none, the one that this host sends from, as Ray chooses."""
    import socket

    named = address_of(interface)
    if named:
        return named
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        try:
            outward.connect(("192.0.2.1", 9))  # a documentation address; nothing is sent
            return str(outward.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())
