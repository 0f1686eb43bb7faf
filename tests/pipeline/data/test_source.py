import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import TwinConfig
from pipeline.data.packed import open_pack
from pipeline.data.source import data_set, twin_paths
from pipeline.errors import DataError
from pipeline.paths import Workspace, repository

TINY = TwinConfig(size=32, train=6, test=3, seed=4)

RENDER = """
import sys
from pathlib import Path
from pipeline.config import TwinConfig
from pipeline.data.source import data_set
from pipeline.paths import Workspace

twin = TwinConfig(size=32, train=6, test=3, seed=4)
sys.stdin.readline()
print(data_set(None, Workspace(Path(sys.argv[1])), twin))
"""


def test_a_given_pack_is_taken_as_it_is(tmp_path: Path) -> None:
    assert data_set(tmp_path / "mine", Workspace(tmp_path / "runs"), TINY) == tmp_path / "mine"
    assert not (tmp_path / "runs").exists()


def test_the_twin_is_rendered_once_and_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    root = data_set(None, workspace, TINY)
    assert open_pack(root).meta.counts == {"train": 6, "test": 3}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("rendering: 9/9, ")
    assert data_set(None, workspace, TINY) == root
    assert capsys.readouterr().err == ""


def test_renderers_of_the_same_twin_at_once_all_succeed(tmp_path: Path) -> None:
    renderers = [
        subprocess.Popen(
            [sys.executable, "-c", RENDER, str(tmp_path)],
            cwd=repository(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for renderer in renderers:
        assert renderer.stdin is not None
        renderer.stdin.write("go\n")
        renderer.stdin.flush()
    root = twin_paths(Workspace(tmp_path), TINY).root
    for renderer in renderers:
        out, errors = renderer.communicate(timeout=60)
        assert (out, renderer.returncode) == (f"{root}\n", 0), errors
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    assert open_pack(root).meta.counts == {"train": 6, "test": 3}


def test_a_twin_that_somebody_finishes_meanwhile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = data_set(None, Workspace(tmp_path / "other"), TINY)
    mine = twin_paths(Workspace(tmp_path / "mine"), TINY).root

    class SlowTerminal:
        """Where progress is shown: while it is, somebody else's twin appears."""

        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            if not mine.exists():
                shutil.copytree(ready, mine)
            return len(text)

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stderr", SlowTerminal())
    assert data_set(None, Workspace(tmp_path / "mine"), TINY) == mine
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert open_pack(mine).meta == open_pack(ready).meta


def test_something_else_in_the_twins_place_is_an_error(tmp_path: Path) -> None:
    root = twin_paths(Workspace(tmp_path), TINY).root
    root.mkdir(parents=True)
    (root / "mine").touch()
    with pytest.raises(DataError, match=r"seed4: exists and is not empty; choose another folder or remove"):
        data_set(None, Workspace(tmp_path), TINY)
