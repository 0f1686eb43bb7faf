"""The scripts that are submitted by hand: as generated, and run by bash as a job would be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.paths import repository
from slurm.cluster import load_cluster
from slurm.scripts import FINAL, SEARCH, ByHand, text
from slurm.snapshot import FOLDERS


@pytest.mark.parametrize("script", [FINAL, SEARCH], ids=lambda script: script.file)
def test_the_shipped_script_is_what_the_command_prints(script: ByHand) -> None:
    shipped = (repository() / "slurm" / script.file).read_text()
    assert shipped == text(load_cluster("greene"), script), (
        f"slurm/{script.file} is not what the profile greene gives; if the change is meant, accept it: "
        f"python -m slurm.launch {script.kind} --cluster greene --dry-run > slurm/{script.file}"
    )


def run_as_job(checkout: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the final run's script as job 7, submitted in a checkout."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
    given = {"SLURM_SUBMIT_DIR": str(checkout), "SLURM_JOB_ID": "7", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["bash", str(repository() / "slurm" / FINAL.file)],
        env={**inherited, **given, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for folder in FOLDERS:
        shutil.copytree(repository() / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (root / ".venv" / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (root / ".venv" / "lib").symlink_to(Path(sys.prefix) / "lib")
    return root


def test_a_job_submitted_by_hand_runs_the_code_it_first_started_with(checkout: Path) -> None:
    expected = f"error: {checkout}/runs/best.yaml: not there yet; run a search first"
    first = run_as_job(checkout)
    assert first.returncode == 2
    assert expected in first.stderr
    (checkout / "pipeline" / "final.py").write_text("raise SystemExit('edited')")
    again = run_as_job(checkout, SLURM_RESTART_COUNT="1")
    assert expected in again.stderr
    assert "start 2 of this job" in again.stdout
    assert len(list((checkout / "runs" / "code").iterdir())) == 2  # the snapshot and the job's link to it


def test_model_runs_and_data_come_from_the_environment(checkout: Path, tmp_path: Path) -> None:
    result = run_as_job(checkout, RUNS=str(tmp_path / "elsewhere"), MODEL="hrnet")
    assert "elsewhere/leaderboard.csv: no usable row of model 'hrnet' (models there: none)" in result.stderr
    assert "python -m tune.search --model hrnet" in result.stderr
