"""Searches with a stand-in for training, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("standin_driver.py")


def start(
    runs: Path, data: Path, trials: int, pause: float, fault: str = "", **variables: str
) -> subprocess.Popen[str]:
    """Starts a search, or resumes it; `variables` as in standin_driver."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FAULT": fault} | variables
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(runs), str(data), str(trials), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
