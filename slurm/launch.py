"""Training jobs, searches and final runs on a Slurm cluster, and eyes and hands for them.

python -m slurm.launch train|search|final|status|logs|stop
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline import cli

if TYPE_CHECKING:
    from slurm.cluster import Cluster

FORMAT = argparse.RawDescriptionHelpFormatter
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXAMPLES = """\
  python -m slurm.launch train --model convnext --cluster greene
  python -m slurm.launch train --model all --seeds 3 --data packs/hand
  python -m slurm.launch search --model resnet50 --data packs/hand --trials 40
  python -m slurm.launch final --model convnext
  python -m slurm.launch final --cluster greene --dry-run    the script alone
  python -m slurm.launch status
  python -m slurm.launch logs 1234567 -f
  python -m slurm.launch stop convnext"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.launch`."""
    parser = cli.parser(
        "python -m slurm.launch",
        "Submits jobs that survive: they save and go back into the queue before their\n"
        "time limit, after preemption and after a kill. `VERB --help` tells more.",
        EXAMPLES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_train(verbs)
    _add_search(verbs)
    _add_final(verbs)
    _add_status(verbs)
    _add_logs(verbs)
    _add_stop(verbs)
    return parser


def _verb(verbs: Verbs, name: str, help: str, examples: str) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name, help=help, description=help, epilog=f"examples:\n{examples}", formatter_class=FORMAT
    )


def _add_where(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--cluster",
        metavar="NAME",
        help="of configs/cluster, or a file (default: PIPELINE_CLUSTER, else by this Slurm's name)",
    )
    to.add_argument("--dry-run", action="store_true", help="print the batch script and stop")


def _add_train(verbs: Verbs) -> None:
    to = _verb(
        verbs,
        "train",
        "one run for each model and seed, as a job array",
        "  python -m slurm.launch train --model convnext,resnet50 --seeds 3",
    )
    to.add_argument("--model", required=True, metavar="NAMES", help="models of configs/model, a,b or all")
    to.add_argument(
        "--seeds", type=cli.positive, default=1, metavar="K", help="runs of each model (default: 1)"
    )
    to.add_argument("--profile", default="full", metavar="NAME", help="of configs/profile (default: full)")
    to.add_argument("--config", type=Path, metavar="FILE", help="YAML laid over the model's own")
    to.add_argument(
        "--minutes", type=cli.positive, metavar="M", help="time limit (default: the cluster profile's)"
    )
    cli.add_data(to, "the rendered twin")
    cli.add_runs(to)
    cli.add_overrides(to)
    _add_where(to)


def _add_search(verbs: Verbs) -> None:
    to = _verb(
        verbs,
        "search",
        "a search, driven by a small job; all other options are those of tune.search",
        "  python -m slurm.launch search --model convnext --trials 40 --data packs/hand",
    )
    cli.add_runs(to)
    _add_where(to)


def _add_final(verbs: Verbs) -> None:
    to = _verb(
        verbs,
        "final",
        "the final run of the best row; all other options are those of pipeline.final",
        "  python -m slurm.launch final --model convnext --set train.epochs=300",
    )
    cli.add_runs(to)
    _add_where(to)


def _add_status(verbs: Verbs) -> None:
    to = _verb(
        verbs, "status", "this project's jobs, and why they wait", "  python -m slurm.launch status --json"
    )
    cli.add_runs(to)
    to.add_argument("--json", action="store_true", help="for programs")


def _add_logs(verbs: Verbs) -> None:
    to = _verb(
        verbs,
        "logs",
        "the output of a job",
        "  python -m slurm.launch logs               the newest job's\n"
        "  python -m slurm.launch logs 1234567_2 -f\n"
        "  python -m slurm.launch logs convnext      the newest of a study or a model\n"
        "  python -m slurm.launch logs runs/train/convnext-0123456789ab",
    )
    to.add_argument("what", nargs="?", metavar="JOB|STUDY|RUN", help="default: the newest job")
    to.add_argument("-f", "--follow", action="store_true", help="go on until the job ends (Ctrl-C leaves it)")
    to.add_argument(
        "-n", "--lines", type=cli.positive, default=40, metavar="N", help="last lines (default: 40)"
    )
    cli.add_runs(to)


def _add_stop(verbs: Verbs) -> None:
    to = _verb(
        verbs,
        "stop",
        "cancels jobs of this project, and no others; what they did is kept",
        "  python -m slurm.launch stop 1234567\n"
        "  python -m slurm.launch stop convnext\n"
        "  python -m slurm.launch stop all",
    )
    to.add_argument(
        "what", nargs="+", metavar="JOB|STUDY|all", help="jobs; of --runs: a study's, a model's, or all"
    )
    cli.add_runs(to)


def _train(args: argparse.Namespace, rest: list[str]) -> None:
    from slurm.cluster import choose_cluster
    from slurm.launching import launch_training, training_script

    cluster = choose_cluster(args.cluster)
    if args.dry_run:
        print(training_script(args, cluster), end="")
        return
    launched, folder = launch_training(args, cluster)
    _tell(args, cluster, launched.jobs, "1 run" if launched.tasks == 1 else f"{launched.tasks} runs", folder)


def _search(args: argparse.Namespace, rest: list[str]) -> None:
    from slurm.cluster import choose_cluster
    from slurm.scripts import SEARCH, text
    from slurm.search import submit_search
    from tune.search import build_parser as search_parser

    cluster = choose_cluster(args.cluster)
    if args.dry_run:
        print(text(cluster, SEARCH, rest), end="")
        return
    submit_search(cluster, search_parser().parse_args([*rest, "--runs", str(args.runs)]))


def _final(args: argparse.Namespace, rest: list[str]) -> None:
    from pipeline.final import build_parser as final_parser
    from pipeline.final import read_winner
    from pipeline.paths import Workspace
    from slurm.cluster import choose_cluster
    from slurm.launching import launch_by_hand
    from slurm.scripts import FINAL, text

    asked = final_parser().parse_args(rest)
    cluster = choose_cluster(args.cluster)
    if args.dry_run:
        print(text(cluster, FINAL, rest), end="")
        return
    winner = read_winner(Workspace(args.runs.resolve()), asked.overrides, asked.model)
    name = winner.config.model.name
    launched, folder = launch_by_hand(cluster, FINAL, rest, args.runs, name)
    _tell(args, cluster, launched.jobs, f"the final run of {name}", folder)


def _tell(args: argparse.Namespace, cluster: Cluster, jobs: tuple[str, ...], what: str, folder: Path) -> None:
    from slurm.launching import how_it_goes_on

    runs = f"--runs {shlex.quote(str(args.runs))}"
    print(f"submitted job {', '.join(jobs)}: {what}; {how_it_goes_on(cluster)}")
    print(f"folder    {folder}")
    print(f"state     python -m slurm.launch status {runs}")
    print(f"output    python -m slurm.launch logs {jobs[0]} -f {runs}")
    print(f"stop      python -m slurm.launch stop {' '.join(jobs)} {runs}   (launching it again resumes)")


def _status(args: argparse.Namespace, rest: list[str]) -> None:
    from slurm.watch import status

    print(status(args.runs, args.json))


def _logs(args: argparse.Namespace, rest: list[str]) -> None:
    from slurm.logs import show

    show(args.runs, args.what, args.lines, args.follow)


def _stop(args: argparse.Namespace, rest: list[str]) -> None:
    from slurm.watch import stop

    print(stop(args.runs, args.what))


VERBS: dict[str, Callable[[argparse.Namespace, list[str]], None]] = {
    "train": _train,
    "search": _search,
    "final": _final,
    "status": _status,
    "logs": _logs,
    "stop": _stop,
}
PASSES_ON = {"search", "final"}


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.verb not in PASSES_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    VERBS[args.verb](args, rest)


if __name__ == "__main__":
    cli.run(main)
