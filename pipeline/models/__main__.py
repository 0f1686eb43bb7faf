"""`python -m pipeline.models`: what can be trained, and pretrained weights ahead of time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline import cli
from pipeline.models.table import find, names
from pipeline.models.weights import fetch

EXAMPLES = """\
  python -m pipeline.models list
  python -m pipeline.models fetch resnest269 resnet152
"""
PARAMETERS_PER_MILLION = 1e6


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipeline.models`."""
    parser = cli.parser("python -m pipeline.models", "Backbones and their pretrained weights.", EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True)
    listed = commands.add_parser("list", help="backbones, their architectures and millions of parameters")
    listed.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    fetch = commands.add_parser("fetch", help="download ImageNet weights (needs internet: a login node)")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="backbones, as `list` shows them")
    return parser


def listing(selected: Sequence[str]) -> str:
    """A table of the selected backbones and their small siblings, each at the image size it is meant for."""
    from pipeline.models import arch
    from pipeline.models.factory import REPORT_SIZE, SMALL_SIZE

    row = "{:<14} {:<16} {:>8}  {:<20} {:>8}"
    lines = [row.format("NAME", "ARCH", "MILLION", "SMALL", "MILLION")]
    for name in selected:
        full = f"{_millions(name, small=False, size=REPORT_SIZE):.3f}"
        small = f"{_millions(name, small=True, size=SMALL_SIZE):.3f}"
        lines.append(row.format(name, arch(name), full, arch(name, small=True), small))
    return "\n".join(lines)


def _millions(name: str, small: bool, size: int) -> float:
    """Parameters in millions, counted without allocating them."""
    import torch

    from pipeline.models import build

    with torch.device("meta"):
        model = build(name, small=small, size=size)
    return sum(parameter.numel() for parameter in model.parameters()) / PARAMETERS_PER_MILLION


def main(argv: list[str] | None = None) -> None:
    """Runs the command that `argv` (default: the process's arguments) names."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "list":
        print(listing(arguments.names or names()))
        return
    for name in arguments.names:
        find(name)  # all names are checked before the first download
    for name in arguments.names:
        print(f"{name}: {fetch(name)}")


if __name__ == "__main__":
    cli.run(main)
