import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.data.freshfolder import fresh_folder
from pipeline.paths import repository

MAKE_AND_WAIT = """
import sys, time
from pathlib import Path
from pipeline.data.freshfolder import fresh_folder

with fresh_folder(Path(sys.argv[1])) as folder:
    (folder / "part").touch()
    print("there", flush=True)
    time.sleep(60)
"""


@contextmanager
def making(target: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is in the middle of making the folder `target`."""
    command = [sys.executable, "-c", MAKE_AND_WAIT, str(target)]
    with subprocess.Popen(command, cwd=repository(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_appears_whole_without_traces(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "pack") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "pack").exists()
    assert os.listdir(tmp_path) == ["pack"]
    assert os.listdir(tmp_path / "pack") == ["a"]
    with pytest.raises(FileExistsError):
        fresh_folder(tmp_path / "pack").__enter__()


def test_a_folder_that_fails_disappears(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), fresh_folder(tmp_path / "pack") as folder:
        (folder / "a").touch()
        raise RuntimeError("broken")
    assert os.listdir(tmp_path) == []


def test_a_folder_made_by_somebody_else_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not empty"), fresh_folder(tmp_path / "pack"):
        with fresh_folder(tmp_path / "pack") as other:
            (other / "theirs").touch()
    assert os.listdir(tmp_path) == ["pack"]
    assert os.listdir(tmp_path / "pack") == ["theirs"]


def test_only_folders_of_dead_makers_are_removed(tmp_path: Path) -> None:
    with (
        making(tmp_path / "[pack]") as dead,
        making(tmp_path / "[pack]") as alive,
        making(tmp_path / "[pack].other") as other,
    ):
        dead.kill()
        dead.wait()
        other.kill()
        other.wait()
        before = set(os.listdir(tmp_path))
        with fresh_folder(tmp_path / "[pack]"):
            pass
        removed = before - set(os.listdir(tmp_path))
        assert len(before) == 3
        assert [name.startswith(".[pack].") for name in removed] == [True]
        assert not any(".other." in name for name in removed)
        (living,) = (name for name in before - removed if ".other." not in name)
        assert (tmp_path / living / "part").exists()
        alive.kill()
