"""The README's two steps to another backbone, done in a copy of the project: nothing else is touched."""

import os
import shutil
import subprocess
import sys

import pytest

from pipeline.leaderboard import refresh
from pipeline.paths import Workspace, repository

END_OF_TABLE = "\n)\n\n\ndef names() -> list[str]:"
ROW = """
    Backbone(
        name="resnet18",
        arch="resnet18",
        full=pooled("resnet18"),
        small=pooled("resnet18", layers=(1, 1, 1, 1), channels=_SMALL_CHANNELS),
        weights="resnet18.tv_in1k",
        not_loaded=("fc.",),
    ),"""
SETTINGS = """\
# ResNet-18 (arXiv:1512.03385), as a user may add it.
train:
  epochs: 90
search:
  space:
    train.lr: {log_uniform: [1.0e-4, 4.0e-3]}
final:
  epochs: 90
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for name in ("pipeline", "tune", "configs"):
        shutil.copytree(repository() / name, root / name)
    table = root / "pipeline" / "models" / "table.py"
    source = table.read_text(encoding="utf-8")
    assert source.count(END_OF_TABLE) == 1
    table.write_text(source.replace(END_OF_TABLE, ROW + END_OF_TABLE), encoding="utf-8")
    (root / "configs" / "model" / "resnet18.yaml").write_text(SETTINGS, encoding="utf-8")
    return root


def run(project, *arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.end_to_end
def test_one_row_and_one_file_are_enough_to_train_and_rank_it(project, blobs, tmp_path):
    settings = ["--profile", "smoke", "--set", "train.epochs=1", "--runs", tmp_path, "--data", blobs]
    assert "completed; checkpoint" in run(project, "pipeline.train", "--model", "resnet18", *settings)
    (row,) = refresh(Workspace(tmp_path)).to_dict("records")
    assert (row["model"], row["arch"], row["status"]) == ("resnet18", "resnet18-small", "completed")


def test_one_row_and_one_file_are_enough_to_search_over_it(project, tmp_path):
    options = ["--executor", "local", "--profile", "smoke", "--runs", tmp_path, "--dry-run"]
    plan = run(project, "tune.search", "--model", "resnet18", *options)
    assert "resnet18" in plan
    assert "train.lr 0.001 to 0.01" in " ".join(plan.split())
