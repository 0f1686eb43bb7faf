"""What studies have done and are doing, from the files on disk; works on any machine that sees them.

python -m tune.status
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from textwrap import fill
from typing import TYPE_CHECKING, Any

from pipeline import cli

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.paths import StudyPaths, Workspace
    from pipeline.trials import TrialState

WATCH_EVERY_S = 2.0
MIN_WIDTH = 80
EXAMPLES = """\
  python -m tune.status                                  every study
  python -m tune.status --study resnet50 --watch         one, kept current
  python -m tune.status --study resnet50 --trial 3       what happened to a trial
  python -m tune.status --json"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m tune.status`."""
    parser = cli.parser("python -m tune.status", "Shows what studies have done and are doing.", EXAMPLES)
    cli.add_runs(parser)
    parser.add_argument("--study", metavar="NAME", help="one study's trials (default: all studies)")
    parser.add_argument("--trial", type=int, metavar="K", help="one trial of --study")
    parser.add_argument("--json", action="store_true", help="the same as one JSON document")
    parser.add_argument("--watch", action="store_true", help="repeat until the driver ends, or Ctrl-C")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    from pipeline.errors import ConfigError
    from pipeline.paths import Workspace

    if args.trial is not None and args.study is None:
        raise ConfigError("--trial needs --study: trials are numbered within their study")
    if args.watch and args.json:
        raise ConfigError("--watch is for people; call --json again and again instead")
    workspace = Workspace(args.runs)
    if args.watch:
        watch(workspace, args)
    elif args.json:
        print(json.dumps(as_json(workspace, args.study, args.trial), indent=2))
    else:
        show(workspace, args.study, args.trial)


def watch(workspace: Workspace, args: argparse.Namespace) -> None:
    """Shows the same again and again until no driver is left, nor waits in a cluster's queue."""
    from rich.console import Console

    from tune.journal import is_driven

    console = Console()
    while True:
        console.clear()
        show(workspace, args.study, args.trial)
        names = all_names(workspace) if args.study is None else [args.study]
        if not any(is_driven(workspace.study(name)) or slurm_line(name) for name in names):
            return
        time.sleep(WATCH_EVERY_S)


def chosen(workspace: Workspace, name: str | None) -> list[StudyPaths]:
    """The named study, or all. Raises StudyError for an unknown name."""
    from pipeline.errors import StudyError

    studies = workspace.studies()
    found = [study for study in studies if name in (None, study.root.name)]
    if name is not None and not found:
        known = ", ".join(study.root.name for study in studies) or "none yet"
        raise StudyError(f"no study {name!r} in {workspace.root}/studies; known: {known}")
    return found


def show(workspace: Workspace, name: str | None, trial: int | None) -> None:
    """Prints a table of studies, of one study's trials, or one trial."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=MIN_WIDTH)
    if name is not None and trial is None and not begun(workspace, name) and slurm_line(name):
        console.print(f"study {name}, not begun yet")
        print_slurm(console, name)
        return
    studies = chosen(workspace, name)
    if name is None:
        show_all(console, workspace, studies)
    elif trial is None:
        console.print(study_line(studies[0]))
        print_slurm(console, studies[0].root.name)
        console.print(trials_text(studies[0], console.width), soft_wrap=True)
    else:
        from tune.describe import trial_text

        console.print(trial_text(studies[0], one_trial(studies[0], trial)), soft_wrap=True)


def show_all(console: Console, workspace: Workspace, studies: list[StudyPaths]) -> None:
    """Prints a table of studies, and what the queue says of those that are driven or wait for that."""
    from tune.journal import is_driven

    queued = waiting(workspace)
    if studies:
        console.print(studies_table(studies))
    elif not queued:
        console.print(
            f"no studies in {workspace.root}/studies; start one: python -m tune.search --model NAME"
        )
    driven = [study.root.name for study in studies if is_driven(study)]
    for name in [*driven, *queued]:
        print_slurm(console, name, f"study {name}, ")


def waiting(workspace: Workspace) -> list[str]:
    """The studies whose drivers wait in a cluster's queue, those among them that are not on disk yet."""
    from slurm.glance import waiting

    return waiting(workspace.root)


def all_names(workspace: Workspace) -> list[str]:
    """The studies on disk and in a cluster's queue."""
    known = [study.root.name for study in workspace.studies()]
    return known + [name for name in waiting(workspace) if name not in known]


def begun(workspace: Workspace, name: str) -> bool:
    """Whether a study is on disk: its driver may still wait in a cluster's queue."""
    return workspace.study(name).request.exists()


def print_slurm(console: Console, name: str, before: str = "") -> None:
    """Prints what a cluster's queue says of a study, if it says something; `before` begins the line."""
    told = slurm_line(name)
    if told:
        console.print(fill(f"{before}{told}", console.width, subsequent_indent=" " * 7))


def slurm_line(name: str) -> str:
    """What a cluster's queue says of a study's jobs now; empty without a cluster, or if it does not tell."""
    from slurm.glance import jobs, line, of_study

    told = line(of_study(jobs() or [], name))
    return f"Slurm: {told}" if told else ""


def trials_of(study: StudyPaths) -> dict[int, TrialState]:
    """The fold of the study's journal."""
    from pipeline.records import read_journal
    from pipeline.trials import fold

    return fold(read_journal(study.journal))


def one_trial(study: StudyPaths, number: int) -> TrialState:
    """One trial's state. Raises StudyError for a number that was never drawn."""
    from pipeline.errors import StudyError

    trials = trials_of(study)
    if number not in trials:
        raise StudyError(f"study {study.root.name} has no trial {number}; it has 0 to {len(trials) - 1}")
    return trials[number]


def driver_text(study: StudyPaths) -> str:
    """Whether the study is being run: the lock tells, driver.json only names the process."""
    from tune.journal import is_driven, read_driver

    if not is_driven(study):
        return "not running"
    driver = read_driver(study)
    return "running" if driver is None else f"running on {driver.host}, process {driver.pid}"


def study_line(study: StudyPaths) -> str:
    """A study's heading."""
    from tune.budget_plan import so_far
    from tune.request import read_request

    request = read_request(study)
    line = f"study {study.root.name}, {driver_text(study)}, profile {request.profile if request else '-'}"
    return ", ".join([line, *so_far(study, request)])


def studies_table(studies: list[StudyPaths]) -> Table:
    """One row a study."""
    from rich.table import Table

    table = Table("study", "driver", "trials", "now", "best", "trial", box=None, pad_edge=False)
    for study in studies:
        table.add_row(study.root.name, driver_text(study), *study_cells(study))
    return table


def study_cells(study: StudyPaths) -> list[str]:
    """What a study's records say, or why they cannot be read: one bad study must not hide the others."""
    from pipeline.errors import PipelineError
    from pipeline.spread import trusted
    from tune.describe import going_text
    from tune.journal import is_driven
    from tune.progress import mm
    from tune.ranking import most_trusted
    from tune.request import read_request

    try:
        states = trials_of(study)
        request = read_request(study)
    except (PipelineError, OSError) as error:
        return ["-", f"unreadable: {error}", "-", "-"]
    asked = request.experiment.search.trials if request else "?"
    best = most_trusted(states)
    driven = is_driven(study)
    counts = Counter(going_text(trial, driven) for trial in states.values())
    return [
        f"{sum(not trial.unfinished and trial.confirms is None for trial in states.values())}/{asked}",
        ", ".join(f"{count} {status}" for status, count in sorted(counts.items())),
        mm(trusted(states, best).rmse) if best else "-",
        str(best.number) if best else "-",
    ]


def trials_text(study: StudyPaths, width: int) -> str:
    """A line a trial, best first, those without a result last; its values below it if a line is too short."""
    from tune.columns import aligned
    from tune.describe import going_text
    from tune.journal import is_driven
    from tune.progress import mm, short

    trials, driven = trials_of(study), is_driven(study)
    rows = [["trial", "status", "epochs", "rung", "best"]]
    values = ["values"]
    for trial in sorted(trials.values(), key=lambda t: (t.best_rmse is None, t.best_rmse or 0.0, t.number)):
        going = going_text(trial, driven)
        rung = "-" if trial.rung is None else str(trial.rung)
        epochs = str(max(trial.epochs, default=0))
        rows.append([str(trial.number), f"{going} {trial.reason}".strip(), epochs, rung, mm(trial.best_rmse)])
        values.append(short(trial.values))
    return aligned(rows, values, width)


def as_json(workspace: Workspace, name: str | None, number: int | None) -> dict[str, Any]:
    """Studies, or one trial, as plain values; RMSE in metres, times in seconds since 1970."""
    from tune.describe import trial_json

    studies = chosen(workspace, name)
    if number is not None:
        return trial_json(one_trial(studies[0], number))
    queued = waiting(workspace) if name is None else [name]
    found = {study.root.name: study_json(study, study.root.name in queued) for study in studies}
    to_come = [workspace.study(other) for other in queued if other not in found]
    return found | {study.root.name: study_json(study, True) for study in to_come}


def study_json(study: StudyPaths, asked: bool) -> dict[str, Any]:
    """A study's driver and trials, or the error that keeps them from being read.

    slurm: the jobs in the queue, of a study that was asked for, is driven or waits for its driver; null where
    no queue tells.
    """
    from pipeline.errors import PipelineError
    from tune.describe import trial_json
    from tune.journal import is_driven

    driven = is_driven(study)
    found = {"driven": driven, "slurm": slurm_json(study) if asked or driven else None}
    try:
        trials = trials_of(study).values()
    except (PipelineError, OSError) as error:
        return {**found, "error": str(error)}
    return {**found, "trials": [trial_json(trial) for trial in trials]}


def slurm_json(study: StudyPaths) -> list[dict[str, Any]] | None:
    """The study's jobs as plain values; None where no queue tells."""
    from slurm.glance import jobs, of_study, row

    queued = jobs()
    return None if queued is None else [row(job) for job in of_study(queued, study.root.name)]


if __name__ == "__main__":
    cli.run(main)
