"""What a search is going to do, each choice with its reason, before anything is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config import Experiment, TwinConfig
from pipeline.configfile import load_experiment, shipped
from pipeline.data.pack import open_pack
from pipeline.data.source import twin_paths
from pipeline.errors import ConfigError, StudyError
from pipeline.paths import Workspace
from pipeline.records import Warm
from tune.budget_plan import budget_text
from tune.check import Facts, check_data, check_experiment
from tune.place import Workers
from tune.plan_lines import data_line, device_line, model_line, plural, search_lines, study_line
from tune.request import Request, fresh_name, refuse_changed, refuse_name, with_fixed_rungs
from tune.warm import warm_lines, warm_start

MAX_CPU_WORKERS = 8  # each holds a copy of the network and the data's batches
WIDTH, LABEL_WIDTH = 80, 11
SLURM_CONFS = (Path("/etc/slurm/slurm.conf"), Path("/etc/slurm-llnl/slurm.conf"))
PING_S = 10.0


@dataclass(frozen=True)
class Because:
    """A choice and its reason."""

    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})" if self.reason else self.value


@dataclass(frozen=True)
class Plan:
    """One study to be run, on the data set given or, without one, on the experiment's twin.

    warm: what it takes over from an earlier study.
    """

    workspace: Workspace
    study: str
    experiment: Experiment
    profile: str
    workers: Workers
    data: Path | None
    lines: tuple[tuple[str, str], ...]
    warm: Warm | None = None

    def with_line(self, label: str, text: str, before: str) -> Plan:
        """This plan with a line more."""
        place = [known for known, _ in self.lines].index(before)
        return replace(self, lines=(*self.lines[:place], (label, text), *self.lines[place:]))


def plans_text(plans: Sequence[Plan]) -> str:
    """Plans for a person, at most WIDTH columns wide; what several have in common comes first, once."""
    if len(plans) == 1:
        return _filled(plans[0].lines)
    common = [line for line in plans[0].lines if all(line in plan.lines for plan in plans)]
    own = [[line for line in plan.lines if line not in common] for plan in plans]
    heading = ("studies", f"{len(plans)}, at the same time, with the same workers")
    return "\n\n".join(_filled(lines) for lines in ([heading, *common], *own))


def _filled(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"  {label:<{LABEL_WIDTH}}",
            subsequent_indent=" " * (LABEL_WIDTH + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for label, text in lines
    )


@dataclass(frozen=True)
class Machine:
    """What trials may run on.

    gpus: how many can be used. profile: the one that fits. choose_workers: from the number asked for and the
    GPUs in use. overrides: configuration that it needs. lines: what else a plan should tell of it. stop: how
    to end a search, with {runs} and what it is called, {name}, to be filled in.
    """

    gpus: int
    executor: Because
    profile: Because
    choose_workers: Callable[[int | None, int], tuple[Workers, str]]
    overrides: tuple[str, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    stop: str = "Ctrl-C"


def this_machine(why: str) -> Machine:
    """The machine this process runs on, used because of `why`."""
    gpus = visible_gpus()
    smoke = Because("smoke", "no GPU here: small networks, to see that it works; or give --profile full")
    full = Because("full", f"{plural(gpus, 'GPU')} here")
    return Machine(gpus, Because("local", why), full if gpus else smoke, choose_workers)


def make_plans(args: Namespace, machine: Machine) -> list[Plan]:
    """The studies that the command line asks for, one a model, on that machine.

    Raises StudyError for a bad name, ConfigError or DataError for a request of which no trial could be
    trained.
    """
    if args.study is not None:
        refuse_name(args.study)
    if args.model == "all" and args.study is not None:
        raise StudyError("--study names one study; with --model all each is named after its model")
    if args.model == "all" and args.warm_start is not None:
        raise StudyError(
            f"--warm-start {args.warm_start}: a study starts from one of its own backbone; give one --model "
            "at a time with it"
        )
    models = shipped("model") if args.model == "all" else [args.model]
    return with_budget([make_plan(model, args, machine) for model in models])


def with_budget(plans: list[Plan]) -> list[Plan]:
    """The plans with what they tell of the budget that their studies spend together."""
    searches = [(plan.workspace.study(plan.study), plan.experiment.search) for plan in plans]
    text = budget_text(searches, plans[0].workers.count)
    if not text:
        return plans
    return [plan.with_line("budget", text, before="results") for plan in plans]


def choose_executor(asked: str | None) -> Because:
    """`slurm` or `local`, and why: what was asked for, else a cluster where there is one."""
    if asked is not None:
        return Because(asked, "--executor")
    if shutil.which("sbatch") is None:
        return Because("local", "no sbatch on PATH")
    if not slurm_is_set_up():
        return Because("local", "sbatch is on PATH, but no Slurm is set up here")
    return Because("slurm", "sbatch is on PATH")


def refuse_cluster(named: str | None, executor: Because) -> None:
    """Raises ConfigError if a cluster was named, but trials would run on this machine."""
    if named is not None:
        raise ConfigError(
            f"--cluster {named}, but trials would run on this machine ({executor.reason}); make Slurm's "
            "commands work here (module load, SLURM_CONF), or leave --cluster out"
        )


def slurm_is_set_up() -> bool:
    """Whether this host belongs to a cluster, even if its controller does not answer at the moment."""
    if os.environ.get("SLURM_CONF") or any(path.exists() for path in SLURM_CONFS):
        return True
    try:
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, timeout=PING_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ping.returncode == 0


def make_plan(model: str, args: Namespace, machine: Machine) -> Plan:
    """The plan for one model on that machine."""
    profile = Because(args.profile, "--profile") if args.profile else machine.profile
    experiment = load_experiment(model, profile.value, overrides=[*machine.overrides, *_overrides(args)])
    refuse_other_model(model, experiment)
    check_experiment(experiment)
    gpus = _usable(machine.gpus, experiment)
    workers, why_workers = machine.choose_workers(args.workers, gpus)
    workspace = Workspace(args.runs.resolve())
    study = args.study or model
    study = fresh_name(workspace, study) if args.fresh else study
    experiment = with_fixed_rungs(workspace.study(study), experiment)
    data = args.data and args.data.resolve()
    check_data(experiment, _facts(data, workspace, experiment.twin))
    fingerprint = _fingerprint(data, workspace, experiment.twin)
    refuse_changed(workspace.study(study), profile.value, fingerprint, experiment)
    asked = Request(study, profile.value, fingerprint or "not rendered yet", None, experiment)
    warm = warm_start(workspace, asked)
    lines = [
        ("study", study_line(workspace, study)),
        ("model", model_line(experiment)),
        ("profile", str(profile)),
        ("executor", str(machine.executor)),
        *machine.lines,
        ("workers", f"{workers.count} with {plural(workers.threads, 'thread')} each ({why_workers})"),
        ("device", device_line(experiment, gpus)),
        ("data", data_line(args.data, workspace, experiment.twin)),
        *search_lines(experiment),
        *warm_lines(warm),
        ("results", f"{args.runs}/leaderboard.csv and best.yaml; {args.runs}/studies/{study}"),
        ("stop", _stops(args, machine, model, study)),
        ("follow", f"python -m tune.status --runs {args.runs} --study {study} --watch"),
    ]
    return Plan(workspace, study, experiment, profile.value, workers, data, tuple(lines), warm)


def _stops(args: Namespace, machine: Machine, model: str, study: str) -> str:
    """How to end the search, several studies at once, and how to resume it."""
    several = args.model == "all"
    stop = machine.stop.format(name="all" if several else study, runs=args.runs)
    if not args.fresh:
        return f"{stop}; the same command resumes"
    command = f"the same command, but for --model {model}," if several else "the same command"
    return f"{stop}; {command} resumes with --study {study}"


def refuse_other_model(model: str, experiment: Experiment) -> None:
    """Raises ConfigError if an override takes another backbone than the one whose settings were loaded."""
    if experiment.model.name != model:
        raise ConfigError(
            f"--set model.name={experiment.model.name}, but the space and the settings are those of {model}; "
            f"give --model {experiment.model.name} instead"
        )


def visible_gpus() -> int:
    """How many GPUs torch can use; torch is asked only where a driver is there at all."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def choose_workers(asked: int | None, gpus: int) -> tuple[Workers, str]:
    """One trial a GPU, or one a core: small networks gain nothing from more threads."""
    cores = len(os.sched_getaffinity(0))
    here = plural(gpus, "GPU") if gpus else plural(cores, "core") + ", no GPU in use"
    if gpus and asked is not None and asked > gpus:
        raise StudyError(f"--workers {asked}, but there are {gpus} GPUs and a trial takes a whole one")
    count = asked or gpus or min(cores, MAX_CPU_WORKERS)
    workers = Workers(count, max(1, cores // count), 1 if gpus else 0)
    return workers, here if asked is None else f"--workers; {here}"


def _overrides(args: Namespace) -> list[str]:
    flags = {"search.trials": args.trials, "search.epochs": args.epochs}
    flags |= {"search.sampler": args.sampler, "seed": args.seed}
    flags |= {"search.gpu_hours": args.gpu_hours, "search.confirm": args.confirm}
    flags |= {"search.deadline": args.deadline and args.deadline.isoformat()}
    flags |= {
        "search.warm_start": args.warm_start and json.dumps(args.warm_start)
    }  # a name may look a number
    return [f"{key}={value}" for key, value in flags.items() if value is not None] + list(args.overrides)


def _usable(gpus: int, experiment: Experiment) -> int:
    if experiment.device == "cuda" and not gpus:
        raise ConfigError("device: cuda was asked for, but there is no GPU; set device=auto or device=cpu")
    usable = 0 if experiment.device == "cpu" else gpus
    if experiment.train.precision == "fp16" and not usable:
        raise ConfigError(
            "train.precision: fp16 needs a GPU, and none is in use; on the CPU use fp32 or bf16"
        )
    return usable


def _fingerprint(given: Path | None, workspace: Workspace, twin: TwinConfig) -> str | None:
    """That of the data set; None for a twin that is not rendered yet."""
    pack = given or twin_paths(workspace, twin).root
    return open_pack(pack).meta.fingerprint if (pack / "meta.yaml").exists() else None


def _facts(given: Path | None, workspace: Workspace, twin: TwinConfig) -> Facts:
    pack = twin_paths(workspace, twin)
    if given is None and not pack.meta.exists():
        return Facts.of_twin(twin)
    return Facts.of_pack(open_pack(given or pack.root))
