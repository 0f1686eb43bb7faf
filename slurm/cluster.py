"""What a site wants to know of a job: the profiles of configs/cluster/NAME.yaml, typed.

Nothing about a site stands in the code. A profile states what differs from the defaults here; an unknown key
is refused with those that exist.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.configfile import read_yaml, shipped, validated
from pipeline.errors import ConfigError
from pipeline.paths import configs
from pipeline.section import Strict

PROFILE_VARIABLE = "PIPELINE_CLUSTER"
MINUTES_A_DAY = 24 * 60
CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d)")
UNQUOTED_CLOCK = re.compile(r"^\s*time:\s*(\d+(?::\d\d)+)\s*(?:#.*)?$", re.MULTILINE)
ASK_SECONDS = 10
HOW = (
    "or write your own: copy configs/cluster/greene.yaml, adapt it and give --cluster FILE "
    f"(or {PROFILE_VARIABLE}=FILE)"
)


def minutes(value: Any) -> Any:
    """Turns "hh:mm:ss" or "d-hh:mm:ss" into whole minutes, rounded up; leaves numbers alone.

    Raises ValueError for any other text.
    """
    if not isinstance(value, str):
        return value
    found = CLOCK.fullmatch(value)
    if found is None:
        raise ValueError('expected minutes, "hh:mm:ss" or "d-hh:mm:ss", in quotes')
    days, hours, whole, seconds = (int(part or 0) for part in found.groups())
    return days * MINUTES_A_DAY + hours * 60 + whole + (seconds > 0)


Minutes = Annotated[int, BeforeValidator(minutes), Field(ge=1)]
Memory = Annotated[str, Field(pattern=r"^\d+[KMGT]?$", description="as sbatch --mem takes it: 64G, 6000M")]


class Resources(Strict):
    """What one kind of job asks for; what is null is not asked for.

    partition, qos, gres, constraint, comment: as sbatch has them.
    gpus: how many GPUs `gres` or `constraint` gives the job; one run uses one.
    time: the limit, minutes or "hh:mm:ss".
    extra: any further options, as in {exclude: gr101, nice: 100}; true for those without a value.
    """

    partition: str | None = None
    qos: str | None = None
    gres: str | None = None
    constraint: str | None = None
    comment: str | None = None
    gpus: int = Field(0, ge=0)
    cpus: int = Field(2, ge=1)
    memory: Memory | None = "8G"
    time: Minutes = MINUTES_A_DAY
    extra: dict[str, str | int | bool] = Field({})


class GpuResources(Resources):
    """A job that trains: a worker of a search, a single run, the final run."""

    gpus: int = Field(1, ge=0)
    cpus: int = Field(4, ge=1)
    memory: Memory | None = "32G"


class JobsConfig(Strict):
    """How jobs end and come back.

    requeue: whether the site lets a job go back into the queue under its own number.
    signal_s: seconds before the time limit at which a job is told to save and leave.
    arrays, array_size: whether job arrays are allowed, and how many tasks one may have.
    array_parallel: how many tasks of an array may run at once; null: as many as fit.
    """

    requeue: bool = True
    signal_s: int = Field(120, ge=1, le=65535)
    arrays: bool = True
    array_size: int = Field(100, ge=1)
    array_parallel: int | None = Field(None, ge=1)


class PoolConfig(Strict):
    """The elastic pool of a search's workers, each a job with the `gpu` resources.

    workers: the most at a time.
    idle_s: a worker without work leaves after so long.
    drain_s: so long before its time limit a worker takes no new trial, and hands on what it trains.
    lifetime_s: a worker leaves after so long; null: its time limit less drain_s.
    stagger_s: workers' lifetimes differ by up to so much, so that they do not all leave at once.
    rejoin_s: so long a worker whose driver is gone waits for the next one.
    poll_s: seconds between two questions to Slurm.
    """

    workers: int = Field(8, ge=1)
    idle_s: float = Field(120.0, gt=0)
    drain_s: float = Field(300.0, ge=0)
    lifetime_s: float | None = Field(None, gt=0)
    stagger_s: float = Field(600.0, ge=0)
    rejoin_s: float = Field(300.0, ge=0)
    poll_s: float = Field(30.0, gt=0)


class EnvironmentConfig(Strict):
    """How a job comes to its Python.

    setup: shell lines run first: `module load ...`, `source /path/venv/bin/activate`.
    container: what stands before the Python command, as in
        `apptainer exec --nv --overlay env.ext3:ro image.sif`. The batch script stays outside and puts
        the job back into the queue; a search's driver needs Slurm's commands inside, to submit its workers.
    python: the Python command; null: the one that submits, in the shipped scripts the checkout's
        .venv/bin/python or else python3.
    scratch: folders on the node's own disk, best first; the first that is there is taken, with the job's own
        variables filled in.
    interface: the network interface, or the address, at which workers reach the driver; null: the host's own.
    """

    setup: tuple[str, ...] = ()
    container: str | None = None
    python: str | None = None
    scratch: tuple[str, ...] = ("$SLURM_TMPDIR", "/tmp")
    interface: str | None = None

    @model_validator(mode="after")
    def _python_of_the_container(self) -> EnvironmentConfig:
        if self.container and not self.python:
            raise ValueError(
                "a container needs `python`: the command inside it, as in python: /ext3/miniconda3/bin/python"
            )
        return self

    def scratch_folder(self) -> Path:
        """The folder for short-lived files of this node, asked for inside the job.

        Raises ConfigError if none of them is there.
        """
        for text in self.scratch:
            filled = os.path.expandvars(text)
            if "$" not in filled and Path(filled).is_dir():
                return Path(filled)
        raise ConfigError(
            f"environment.scratch: none of {', '.join(self.scratch)} is there on {platform.node()}; "
            "name a folder on the node's own disk"
        )


class Cluster(Strict):
    """A site.

    name: the profile's name or its file, as --cluster takes it.
    cluster_names: what the site's Slurm calls itself (ClusterName in `scontrol show config`), so that the
        profile is found without being named.
    account: whom every job is charged to; null: Slurm's default.
    device: what training uses; cpu for clusters without GPUs.
    gpu, driver: what a training job and a search's driver ask for.
    """

    name: str
    cluster_names: tuple[str, ...] = ()
    account: str | None = None
    device: Literal["cuda", "cpu"] = "cuda"
    gpu: GpuResources = GpuResources()
    driver: Resources = Resources()
    jobs: JobsConfig = JobsConfig()
    pool: PoolConfig = PoolConfig()
    environment: EnvironmentConfig = EnvironmentConfig()

    @model_validator(mode="after")
    def _leaves_before_the_limit(self) -> Cluster:
        limit_s = self.gpu.time * 60
        for key, seconds in (("jobs.signal_s", self.jobs.signal_s), ("pool.drain_s", self.pool.drain_s)):
            if seconds >= limit_s:
                raise ValueError(
                    f"{key} is {seconds:g} s, but gpu.time is {limit_s} s in all: no time to train; "
                    f"lower {key} or raise gpu.time"
                )
        return self


def load_cluster(name_or_file: str) -> Cluster:
    """The profile of that name in configs/cluster, or the one in a file.

    Raises ConfigError for an unknown name, an unreadable file, an unknown key or a bad value.
    """
    path = Path(name_or_file)
    is_file = path.suffix in (".yaml", ".yml") or path.is_file()
    if not is_file and name_or_file not in shipped("cluster"):
        raise ConfigError(f"unknown cluster {name_or_file!r}; known: {', '.join(shipped('cluster'))}; {HOW}")
    path = path.resolve() if is_file else configs() / "cluster" / f"{name_or_file}.yaml"
    _refuse_unquoted_clock(path)
    try:
        return validated(Cluster, {"name": str(path) if is_file else name_or_file, **read_yaml(path)})
    except ConfigError as error:
        raise ConfigError(f"cluster profile {path}: {error}") from None


def _refuse_unquoted_clock(path: Path) -> None:
    """YAML reads 4:00:00 without quotes as the number 14400, which would be taken for minutes."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = UNQUOTED_CLOCK.search(text)
    if found:
        raise ConfigError(
            f'{path}: write time: "{found[1]}" with quotes; without them YAML reads a number to the base 60'
        )


def choose_cluster(asked: str | None) -> Cluster:
    """The profile to use: 1. `asked` (--cluster), 2. PIPELINE_CLUSTER, 3. the one that knows this Slurm.

    Raises ConfigError if none of them tells, with the profiles there are.
    """
    named = asked or os.environ.get(PROFILE_VARIABLE)
    if named:
        return load_cluster(named)
    here = cluster_name()
    fits = [name for name in shipped("cluster") if here in load_cluster(name).cluster_names]
    if len(fits) == 1:
        return load_cluster(fits[0])
    what = f"this Slurm calls itself {here!r}" if here else "Slurm does not tell its name here"
    which = f"{' and '.join(fits)} both know it" if fits else "no profile knows it"
    known = ", ".join(shipped("cluster"))
    raise ConfigError(
        f"which cluster is this? {what}, and {which}; give --cluster NAME, one of {known}; {HOW}"
    )


def cluster_name() -> str | None:
    """What the Slurm here calls itself; None without Slurm or without an answer."""
    command = ["scontrol", "show", "config"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^ClusterName\s*=\s*(\S+)", result.stdout, re.MULTILINE)
    return found[1] if found else None
