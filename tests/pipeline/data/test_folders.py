"""Which folders of a raw data set are samples, and which sets are none."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.layout import open_raw
from pipeline.errors import DataError


@pytest.mark.parametrize("stray", ["notes", "01", "２"])
def test_a_folder_without_a_plain_number_comes_first_and_is_refused(raw: Path, stray: str) -> None:
    (raw / "train" / "X" / stray).mkdir()
    with pytest.raises(
        DataError, match=f"X/{stray}: its name is no plain number; allowed are names as in X/0"
    ):
        open_raw(raw).splits[0].samples[0].load()


def test_hidden_files_are_no_samples(raw: Path) -> None:
    (raw / "train" / "X" / ".DS_Store").touch()
    assert len(open_raw(raw).splits[0].samples) == 12


def test_one_damaged_frame_does_not_decide_the_size(raw: Path) -> None:
    Image.new("RGB", (30, 30)).save(raw / "train" / "X" / "0" / "rgb" / "0.png")
    found = open_raw(raw)
    assert (found.height, found.width) == (6, 8)


def test_what_is_no_raw_layout_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="nowhere: missing; expected a folder with numbered folders .train/X/0/"
    ):
        open_raw(tmp_path / "nowhere")
    (tmp_path / "empty" / "test" / "X").mkdir(parents=True)
    with pytest.raises(DataError, match="test/X: empty; expected folders such as"):
        open_raw(tmp_path / "empty")
    with pytest.raises(DataError, match=r"0\.png: is a file; expected a folder with"):
        open_raw(raw / "test" / "X" / "0" / "rgb" / "0.png")
    with pytest.raises(
        DataError, match=r"test: holds X/; expected numbered folders .* or tensors .trainX\.pt"
    ):
        open_raw(raw / "test")
    shutil.rmtree(raw / "test" / "X")
    (raw / "test" / "Y").mkdir()
    with pytest.raises(DataError, match="test/X: missing; expected a folder for each sample"):
        open_raw(raw)
    shutil.rmtree(raw / "test")
    shutil.rmtree(raw / "train" / "Y")
    with pytest.raises(DataError, match="train/Y: missing; training needs a label file"):
        open_raw(raw)


def test_a_set_without_readable_frames_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test" / "X" / "0").mkdir(parents=True)
    with pytest.raises(
        DataError, match="no sample has a readable rgb/0.png, which gives the size of all frames"
    ):
        open_raw(tmp_path)
