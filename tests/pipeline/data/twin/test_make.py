import hashlib
import pickle

import numpy as np
import pytest
from PIL import Image

from pipeline.config import TwinConfig
from pipeline.data.packed import open_pack
from pipeline.data.twin.__main__ import main
from pipeline.data.twin.make import places, render_pack, write_raw
from pipeline.errors import ConfigError, DataError

TINY = TwinConfig(size=32, train=6, test=3, seed=4)


def digest(folder):
    """One hash over every file's name and bytes."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return content.hexdigest()


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path):
    render_pack(tmp_path / "one", TINY, processes=1)
    render_pack(tmp_path / "two", TINY, processes=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_a_pack_is_labelled_in_both_splits_and_says_that_it_is_rendered(tmp_path):
    seen = []
    render_pack(tmp_path / "twin", TINY, processes=1, step=lambda: seen.append(len(seen) + 1))
    pack = open_pack(tmp_path / "twin")
    assert pack.meta.counts == {"train": 6, "test": 3}
    assert pack.meta.labelled == ("train", "test")
    assert "rendered" in pack.meta.source
    assert "seed 4, size 32" in pack.meta.source
    ids = np.concatenate([pack.split("train").ids, pack.split("test").ids])
    assert sorted(ids.tolist()) == list(range(9))
    assert seen == list(range(1, 10))


def test_raw_and_packed_hold_the_same_samples(tmp_path):
    render_pack(tmp_path / "packed", TINY, processes=1)
    write_raw(tmp_path / "raw", TINY, processes=1)
    packed, raw = open_pack(tmp_path / "packed").split("train"), tmp_path / "raw" / "train"
    for index in range(TINY.train):
        sample = raw / "X" / str(index)
        views = [np.asarray(Image.open(sample / "rgb" / f"{k}.png")).transpose(2, 0, 1) for k in range(3)]
        np.testing.assert_array_equal(np.concatenate(views), packed.rgb[index])
        depth = np.load(sample / "depth.npy")
        assert depth.dtype == np.uint16
        np.testing.assert_array_equal(depth, packed.depth[index])
        assert pickle.loads((sample / "field_id.pkl").read_bytes()) == str(packed.ids[index])
        label = np.load(raw / "Y" / f"{index}.npy")
        assert (label.dtype, label.shape) == (np.float64, (12,))
        np.testing.assert_array_equal(label, packed.labels[index])
    assert not (tmp_path / "raw" / "test" / "Y").exists()
    assert "not recorded data" in (tmp_path / "raw" / "RENDERED.txt").read_text()


def test_order_is_shuffled_and_test_frames_lie_between_training_frames():
    found = places(TwinConfig(train=300, test=100))
    ids = {split: [place.position for place in found if place.split == split] for split in ("train", "test")}
    assert sorted(ids["train"] + ids["test"]) == list(range(400))
    assert np.abs(np.corrcoef(ids["train"], np.arange(300))[0, 1]) < 0.2
    assert np.percentile(ids["test"], [10, 90]) == pytest.approx([40, 360], abs=40)


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    for make in (render_pack, write_raw):
        with pytest.raises(DataError, match=r"exists and is not empty; choose another folder or remove"):
            make(tmp_path, TINY, processes=1)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "empty").mkdir()
    write_raw(tmp_path / "empty", TINY, processes=1)
    assert (tmp_path / "empty" / "train" / "X" / "5").is_dir()


def test_the_command_renders_and_says_what_it_made(tmp_path, capsys):
    main(["--out", str(tmp_path / "twin"), "--train", "4", "--test", "1", "--size", "32", "--seed", "2"])
    written = capsys.readouterr()
    assert "4 training and 1 test samples, 32 x 32 pixels, seed 2" in written.out
    assert "rendering: 5/5, " in written.err
    assert open_pack(tmp_path / "twin").meta.height == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "8"], "size: Input should be greater than or equal to 32"),
        (["--train", "0"], "train: Input should be greater than or equal to 2"),
        (["--processes", "0"], "--processes 0: at least one process is needed"),
    ],
)
def test_bad_numbers_are_refused_by_name(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["--out", str(tmp_path / "twin"), *arguments])
