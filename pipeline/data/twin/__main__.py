"""python -m pipeline.data.twin: renders the stand-in for the recorded data set."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pipeline import cli
from pipeline.config import TwinConfig
from pipeline.errors import ConfigError

EXAMPLES = """\
  python -m pipeline.data.twin --out data/twin
      as many samples as were recorded, 224 pixels, packed (about 3 GB)
  python -m pipeline.data.twin --out data/small --train 800 --test 200 --size 64
      enough for a first run on a CPU
  python -m pipeline.data.twin --out data/raw --train 50 --test 10 --raw
      the recorded data set's layout, as pipeline.data.pack reads it
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = cli.parser("python -m pipeline.data.twin", __doc__.split(": ", 1)[1].capitalize(), EXAMPLES)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    for name, meaning in (
        ("train", "training samples"),
        ("test", "test samples"),
        ("size", "height and width of each view, pixels"),
        ("seed", "equal seeds give equal data sets"),
    ):
        default = TwinConfig.model_fields[name].default
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})"
        )
    parser.add_argument("--raw", action="store_true", help="write the raw layout instead of packed arrays")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="rendering processes (default: one per CPU for larger sets)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Renders what the arguments ask for."""
    args = build_parser().parse_args(argv)
    from pipeline.configfile import validated
    from pipeline.data.progress import progress
    from pipeline.data.twin.make import render_pack, write_raw

    if args.processes is not None and args.processes < 1:
        raise ConfigError(f"--processes {args.processes}: at least one process is needed")
    asked = {name: getattr(args, name) for name in TwinConfig.model_fields}
    config = validated(TwinConfig, asked)
    started = time.monotonic()
    with progress("rendering", config.train + config.test) as step:
        (write_raw if args.raw else render_pack)(args.out, config, args.processes, step)
    print(
        f"{args.out}: {config.train} training and {config.test} test samples, {config.size} x {config.size} "
        f"pixels, seed {config.seed}, in {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    cli.run(main)
