import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.paths import Workspace, remove_stale, repository, write_atomically, write_text_atomically

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from pipeline.paths import write_atomically

def write(temporary):
    temporary.write_bytes(b"part")
    print("there", flush=True)
    time.sleep(60)

write_atomically(Path(sys.argv[1]), write)
"""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "run" / "a.json"
    write_text_atomically(target, "first")

    def fail(temporary: Path) -> None:
        temporary.write_text("sec")
        raise RuntimeError("disk unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        write_atomically(target, fail)
    assert target.read_text() == "first"
    assert os.listdir(target.parent) == ["a.json"]


def test_temporary_names_tell_the_host_and_differ_at_each_use(tmp_path: Path) -> None:
    names: list[str] = []
    for _ in range(2):
        write_atomically(tmp_path / "a", lambda temporary: (names.append(temporary.name), temporary.touch()))
    assert names[0] != names[1]
    assert all(name.startswith(f".a.{socket.gethostname()}.") for name in names)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("latest.pt", ".latest.pt.tmp", ".mine.tmp"):
        (tmp_path / name).touch()
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path / "latest.pt")]
    with subprocess.Popen(command, cwd=repository(), stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"there\n"
        writer.kill()
    assert len(os.listdir(tmp_path)) == 4
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".latest.pt.tmp", ".mine.tmp", "latest.pt"]


def test_the_folders_of_a_workspace_have_one_home(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert [workspace.jobs, workspace.code, workspace.doctor] == [
        tmp_path / name for name in ("jobs", "code", "doctor")
    ]
