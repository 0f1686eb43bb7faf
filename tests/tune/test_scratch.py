import stat
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


def test_what_is_no_scratch_folder_stays(tmp_path: Path) -> None:
    named_alike, other = tmp_path / "ft-work", tmp_path / "precious"
    named_alike.mkdir()
    other.mkdir()
    (other / "lock").touch()
    for folder in (named_alike, other, tmp_path / "ft-absent"):
        remove_abandoned(folder)
    assert named_alike.is_dir()
    assert other.is_dir()
