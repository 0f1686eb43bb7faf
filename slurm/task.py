"""One task of a job array: runs the line of the table that is this task's.

Where a site has no arrays, each task is a job of its own, and its line is given.

python -m slurm.task TABLE [--offset N]
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import cli
from pipeline.errors import ConfigError
from pipeline.paths import write_text_atomically

INDEX = "SLURM_ARRAY_TASK_ID"


def write_table(path: Path, tasks: Sequence[Sequence[str]]) -> None:
    """Writes the command of each task: a module and its arguments."""
    write_text_atomically(path, json.dumps([list(task) for task in tasks], indent=1) + "\n")


def read_task(path: Path, index: str | None, offset: int | None = None) -> list[str]:
    """The command of one task: `index` of those from `offset` on. Raises ConfigError if there is none."""
    if index is None and offset is None:
        raise ConfigError(
            f"{INDEX} is not set: this runs inside a job array, or with --offset; "
            "see python -m slurm.launch train"
        )
    tasks: list[list[str]] = json.loads(path.read_text(encoding="utf-8"))
    number = int(index or 0) + (offset or 0)
    if number >= len(tasks):
        raise ConfigError(f"{path} has {len(tasks)} tasks; there is no task {number}")
    return tasks[number]


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m slurm.task`."""
    parser = cli.parser(
        "python -m slurm.task",
        "Runs this array task's line of a table that slurm.launch wrote.",
        "  SLURM_ARRAY_TASK_ID=0 python -m slurm.task runs/jobs/NAME/tasks.json",
    )
    parser.add_argument("table", type=Path, metavar="TABLE", help="tasks.json of the launch")
    parser.add_argument(
        "--offset", type=int, metavar="N", help="the first task of this array, or this job's (default: 0)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    module, *arguments = read_task(args.table, os.environ.get(INDEX), args.offset)
    print(f"task: python -m {module} {' '.join(arguments)}", flush=True)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    cli.run(main)
