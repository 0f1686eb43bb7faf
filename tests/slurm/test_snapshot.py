import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.paths import repository
from slurm.snapshot import FOLDERS, take

WHICH = "from pipeline.provenance import commit, repository; print(repository(), commit())"
TAKE = "import sys; from pathlib import Path; from slurm.snapshot import take; print(take(Path(sys.argv[1])))"


def python(code: Path, source: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", source, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with this code, committed."""
    root = tmp_path / "checkout"
    for folder in FOLDERS:
        shutil.copytree(repository() / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def test_a_snapshot_is_what_runs_and_is_stored_once(tmp_path: Path) -> None:
    first, second = take(tmp_path), take(tmp_path)
    assert first == second
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.name]
    assert (first / "pipeline" / "train.py").read_bytes() == (repository() / "pipeline/train.py").read_bytes()
    assert (first / "configs" / "cluster" / "greene.yaml").exists()
    assert not list(first.rglob("__pycache__"))


def test_a_job_that_runs_from_a_snapshot_knows_its_commit_and_takes_no_other(tmp_path: Path) -> None:
    code = take(tmp_path / "runs")
    expected = (code / "COMMIT").read_text().strip() or "None"
    assert python(code, WHICH) == f"{code} {expected}"
    assert python(code, TAKE, str(tmp_path / "others")) == str(code)
    assert not (tmp_path / "others").exists()


def test_edited_code_is_another_snapshot_with_its_changes_on_record(checkout: Path, tmp_path: Path) -> None:
    clean = Path(python(checkout, TAKE, str(tmp_path / "runs")))
    assert not (clean / "CHANGES.patch").exists()
    with (checkout / "pipeline" / "units.py").open("a") as handle:
        handle.write("# edited\n")
    edited = Path(python(checkout, TAKE, str(tmp_path / "runs")))
    assert edited != clean
    commit = (clean / "COMMIT").read_text().strip()
    assert (edited / "COMMIT").read_text() == f"{commit}+\n"
    assert "+# edited" in (edited / "CHANGES.patch").read_text()
    assert "# edited" not in (clean / "pipeline" / "units.py").read_text()
