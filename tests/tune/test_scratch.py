import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tune.scratch import Scratch, remove_abandoned


def test_a_scratch_folder_is_private_and_gone_when_it_is_removed() -> None:
    scratch = Scratch()
    assert stat.S_IMODE(scratch.root.stat().st_mode) == 0o700
    (scratch.root / "ray").mkdir()
    scratch.remove()
    assert not scratch.root.exists()


def test_the_folder_of_a_living_driver_stays() -> None:
    scratch = Scratch()
    remove_abandoned(scratch.root)
    assert scratch.root.is_dir()
    scratch.remove()


def test_the_folder_goes_with_its_process_however_that_ends() -> None:
    code = "import os; from tune.scratch import *; print(Scratch().root, flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    folder = Path(killed.stdout.strip())
    assert folder.is_dir()
    deadline = time.monotonic() + 20
    while folder.exists():
        assert time.monotonic() < deadline, "the folder is still there"
        time.sleep(0.1)


def test_a_folder_that_nobody_could_remove_goes_when_the_next_is_made() -> None:
    parent = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short, as sockets' names must be
    old, young = parent / "ft-old", parent / "ft-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "lock").touch()
    os.utime(old, (0, 0))
    Scratch(parent).remove()
    assert [path.name for path in parent.iterdir()] == ["ft-young"]
    shutil.rmtree(parent)


def test_what_is_no_scratch_folder_stays(tmp_path: Path) -> None:
    named_alike, other = tmp_path / "ft-work", tmp_path / "precious"
    named_alike.mkdir()
    other.mkdir()
    (other / "lock").touch()
    for folder in (named_alike, other, tmp_path / "ft-absent"):
        remove_abandoned(folder)
    assert named_alike.is_dir()
    assert other.is_dir()
