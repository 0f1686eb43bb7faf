"""A Slurm to play with: `python -m tests.cluster up [--no-accounting]` and `down`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.cluster.cluster import PREFIX, SlurmCluster, missing_commands
from tests.cluster.config import PACKAGES

DOWN = "python -m tests.cluster down"
EPILOG = """\
examples:
  eval "$(python -m tests.cluster up)"     # this shell now talks to it
  sinfo; sbatch --gres=gpu:1 --wrap=env; sacct
  python -m tests.cluster down
"""


def by_hand() -> Path:
    """The directory of the cluster that was started by hand; one per user."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}by-hand-{os.getuid()}"


def up(accounting: bool) -> None:
    missing = missing_commands(accounting)
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; on Debian: apt-get install {PACKAGES}")
    if by_hand().exists():
        cluster = attach()
        print(f"# was up already, {'with' if cluster.accounting else 'without'} accounting")
    else:
        cluster = SlurmCluster(accounting, by_hand())
        cluster.start()
    for name, value in cluster.env.items():
        print(f"export {name}='{value}'")
    print("# sinfo, sbatch --gres=gpu:1, squeue: nodes gr1-gr3, partitions gpu and urgent; logs are in")
    print(f"# {cluster.root}/log. End it with: {DOWN}")


def attach() -> SlurmCluster:
    """The cluster that was started by hand before; ends the command unless it is there and complete."""
    if (by_hand() / "state.json").exists():
        cluster = SlurmCluster.attach(by_hand())
        if cluster.abandoned and cluster.running:
            return cluster
    sys.exit(f"{by_hand()} exists, of a cluster that starts at this moment or has failed; end it with {DOWN}")


def down() -> None:
    """Ends the cluster that was started by hand, and those whose tests were killed before they could."""
    ended = 0
    for state in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/state.json"):
        if state.stat().st_uid != os.getuid():
            continue
        try:
            cluster = SlurmCluster.attach(state.parent)
        except (KeyError, TypeError, ValueError):  # a file of something else
            continue
        if cluster.abandoned:
            cluster.stop()
            print(f"ended the cluster in {cluster.root}")
            ended += 1
    if not ended:
        sys.exit("no cluster is up")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--no-accounting", action="store_true", help="as on sites that have no sacct")
    arguments = parser.parse_args()
    if arguments.command == "up":
        up(not arguments.no_accounting)
    else:
        down()


if __name__ == "__main__":
    main()
