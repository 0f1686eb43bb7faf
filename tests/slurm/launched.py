"""What tests of launched jobs share."""

from pathlib import Path

TRAIN = ["train", "--cluster", "test", "--profile", "smoke"]


def last(folder: Path) -> Path:
    """The folder of the only launch into a workspace."""
    (found,) = (folder / "jobs").iterdir()
    return found
