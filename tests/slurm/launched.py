"""What tests of launched jobs share."""

from pathlib import Path

from pipeline.paths import Workspace
from slurm.cluster import load_cluster
from slurm.launching import remember_driver
from slurm.submit import workers_name

TRAIN = ["train", "--cluster", "test", "--profile", "smoke"]


def last(folder: Path) -> Path:
    """The folder of the only launch into a workspace."""
    (found,) = (folder / "jobs").iterdir()
    return found


def launched_into(runs: Path, *jobs: str, name: str = "resnet50") -> None:
    """Records jobs as a workspace's own."""
    for job in jobs:
        remember_driver(job, name, runs, load_cluster("test"), runs / "code")


def worker_of(runs: Path, study: str = "resnet50") -> str:
    """What a worker of a study in a workspace is called."""
    return workers_name(study, Workspace(runs).pool(study))
