"""Submits training jobs, searches and final runs, and remembers them under RUNS/jobs.

RUNS/jobs/<kind>-<what>-<time>/ holds job.json (numbers, command, code), the batch scripts, output and, for
an array, tasks.json: the command of every task.
"""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.configfile import load_experiment, shipped
from pipeline.errors import ConfigError
from pipeline.paths import Workspace, write_text_atomically
from pipeline.provenance import commit, now
from slurm import scripts
from slurm.cluster import Cluster
from slurm.errors import SlurmError
from slurm.scripts import ByHand
from slurm.submit import JobSpec, job_name, script, submit, submit_text
from slurm.task import write_table

RECORD = "job.json"
TABLE = "tasks.json"


@dataclass(frozen=True)
class Launched:
    """What was submitted by one command.

    jobs: Slurm's numbers, one an array or job; first: the number of each one's first task.
    kind: train, search or final. what: its models or its study.
    """

    jobs: tuple[str, ...]
    first: tuple[int, ...]
    kind: str
    what: tuple[str, ...]
    tasks: int
    cluster: str
    command: str
    code: str
    commit: str | None
    submitted: str


@dataclass(frozen=True)
class Array:
    """An array job of as many tasks of a table as the site allows, or a job of one; from task `first` on."""

    spec: JobSpec
    first: int


def training_tasks(args: Namespace, cluster: Cluster) -> list[tuple[str, ...]]:
    """The commands of `slurm.launch train`: every model with every seed.

    Raises ConfigError or DataError for what no run could be trained with, before it waits in a queue.
    """
    from pipeline.data.pack import open_pack
    from pipeline.models import require_weights

    if args.data is not None:
        open_pack(args.data)
    tasks = []
    for model in models_of(args.model):
        experiment = load_experiment(model, args.profile, args.config, args.overrides)
        require_weights(model, experiment.model.pretrained, experiment.model.small)
        seeds = range(experiment.seed, experiment.seed + args.seeds)
        tasks += [_training_command(args, cluster, model, seed) for seed in seeds]
    return tasks


def _training_command(args: Namespace, cluster: Cluster, model: str, seed: int) -> tuple[str, ...]:
    paths = {"--config": args.config, "--data": args.data, "--runs": args.runs}
    given = [part for flag, path in paths.items() if path for part in (flag, str(path.resolve()))]
    values = (f"device={cluster.device}", *args.overrides, f"seed={seed}")
    sets = [part for value in values for part in ("--set", value)]
    return ("pipeline.train", "--model", model, "--profile", args.profile, *given, *sets)


def models_of(asked: str) -> list[str]:
    """The models that `--model a,b` or `--model all` names. Raises ConfigError for an unknown one."""
    names = shipped("model") if asked == "all" else asked.split(",")
    unknown = [name for name in names if name not in shipped("model")]
    if unknown:
        raise ConfigError(f"unknown model {unknown[0]!r}; known: {', '.join(shipped('model'))}, or all")
    return names


def arrays(args: Namespace, cluster: Cluster, tasks: int, folder: Path) -> Iterator[Array]:
    """Array jobs for that many tasks of the table in `folder`, within what the site allows.

    A site without arrays gets a job for each task.
    """
    limits = cluster.jobs
    size = limits.array_size if limits.arrays else 1
    models = models_of(args.model)
    for first in range(0, tasks, size):
        spec = JobSpec(
            name=job_name("train", models[0] if len(models) == 1 else ""),
            arguments=("slurm.task", str(folder / TABLE), "--offset", str(first)),
            resources=cluster.gpu,
            logs=folder,
            minutes=args.minutes,
            requeue=True,
            signal_s=limits.signal_s,
            tasks=min(size, tasks - first) if limits.arrays else None,
            parallel=limits.array_parallel if limits.arrays else None,
        )
        yield Array(spec, first)


def launch_training(args: Namespace, cluster: Cluster) -> tuple[Launched, Path]:
    """Submits `slurm.launch train`; what was submitted and its folder.

    Each job is recorded as soon as Slurm has it. Raises SlurmError; it says which jobs are in the queue.
    """
    from slurm.snapshot import take

    tasks = training_tasks(args, cluster)
    folder, code = training_folder(args), take(args.runs)
    write_table(folder / TABLE, tasks)
    jobs: dict[str, int] = {}
    for array in arrays(args, cluster, len(tasks), folder):
        try:
            jobs[submit(cluster, array.spec, code)] = array.first
        except SlurmError as error:
            raise SlurmError(f"{error}{_told_of(jobs, array.first, len(tasks), args.runs)}") from None
        launched = _remember(folder, jobs, "train", models_of(args.model), len(tasks), cluster, code)
    return launched, folder


def _told_of(jobs: Mapping[str, int], done: int, tasks: int, runs: Path) -> str:
    """What is in the queue although a later job was refused, and how to go on; empty if nothing is."""
    if not jobs:
        return ""
    stop = f"python -m slurm.launch stop {' '.join(jobs)} --runs {shlex.quote(str(runs))}"
    return (
        f". Before that {done} of {tasks} runs were submitted, job {', '.join(jobs)}: give the same command "
        f"again when they have ended, what is complete is not trained again; or take them back: {stop}"
    )


def launch_by_hand(
    cluster: Cluster, what: ByHand, arguments: Sequence[str], runs: Path, name: str
) -> tuple[Launched, Path]:
    """Submits a final run or a search, as `sbatch slurm/FILE` would, with its code copied now.

    `name` is the model or the study.
    """
    from slurm.snapshot import take

    folder, code = new_folder(runs, what.kind, name), take(runs)
    title = job_name(what.kind, name)
    text = scripts.text(cluster, what, arguments, title)
    output = [f"--output={folder / title}-%j.out"]  # wins over the script's
    job = submit_text(cluster, text, folder, output, scripts.variables(code, runs))
    return _remember(folder, {job: 0}, what.kind, [name] if name else [], 1, cluster, code), folder


def remember_driver(job: str, name: str, runs: Path, cluster: Cluster, code: Path) -> None:
    """Records a driver that was submitted by hand as if it had been launched."""
    if all(job not in launched.jobs for launched, _ in launches(runs)):
        folder = new_folder(runs, scripts.SEARCH.kind, name)
        _remember(folder, {job: 0}, scripts.SEARCH.kind, [name], 1, cluster, code)


def how_it_goes_on(cluster: Cluster) -> str:
    """What becomes of a job that ends before it is complete."""
    if cluster.jobs.requeue:
        return "it is requeued until it is complete"
    return "when it ends incomplete, the same command goes on (jobs.requeue is false)"


def training_folder(args: Namespace) -> Path:
    """The folder of one `slurm.launch train`."""
    models = models_of(args.model)
    return new_folder(args.runs, "train", models[0] if len(models) == 1 else f"{len(models)}-models")


def new_folder(runs: Path, kind: str, what: str) -> Path:
    """A folder for one launch that does not exist yet."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = "-".join(filter(None, (kind, what, stamp, secrets.token_hex(2))))
    return Workspace(runs.resolve()).jobs / name


def _remember(
    folder: Path,
    jobs: Mapping[str, int],
    kind: str,
    what: Sequence[str],
    tasks: int,
    cluster: Cluster,
    code: Path,
) -> Launched:
    launched = Launched(
        jobs=tuple(jobs),
        first=tuple(jobs.values()),
        kind=kind,
        what=tuple(what),
        tasks=tasks,
        cluster=cluster.name,
        command=" ".join(sys.argv[1:]),
        code=str(code),
        commit=commit(),
        submitted=now(),
    )
    write_text_atomically(folder / RECORD, json.dumps(asdict(launched), indent=1) + "\n")
    return launched


def launches(runs: Path) -> list[tuple[Launched, Path]]:
    """Everything that was launched into `runs`, oldest first; a damaged record is left out."""
    found = []
    for path in Workspace(runs.resolve()).jobs.glob(f"*/{RECORD}"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values.update({key: tuple(values[key]) for key in ("jobs", "first", "what")})
            found.append((Launched(**values), path.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda pair: pair[0].submitted)


def task_of(number: str, launched: Launched, folder: Path) -> str | None:
    """Which model and seed a task of a training array, or a job of one task, is; None if not known."""
    array, _, index = number.partition("_")
    if launched.kind != "train":
        return None
    try:
        tasks = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        words = tasks[launched.first[launched.jobs.index(array)] + int(index or 0)]
        return f"{words[2]}, {words[-1].replace('=', ' ')}"
    except (OSError, ValueError, LookupError):
        return None


def training_script(args: Namespace, cluster: Cluster) -> str:
    """What `slurm.launch train --dry-run` prints: every array's script."""
    from slurm.snapshot import place

    tasks = training_tasks(args, cluster)
    folder, code = training_folder(args), place(args.runs)
    return "\n".join(script(cluster, array.spec, code) for array in arrays(args, cluster, len(tasks), folder))
