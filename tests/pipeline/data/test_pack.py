import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.data import pack
from pipeline.data.moments import mean_and_std
from pipeline.data.pack import PackedSplit, Sample, open_pack
from pipeline.errors import DataError
from pipeline.paths import repository

SampleOf = Callable[..., Sample]
HEIGHT, WIDTH = 6, 8


def run(raw: Path, out: Path, *more: str) -> None:
    pack.main(["--raw", str(raw), "--out", str(out), "--processes", "1", *more])


def test_packed_arrays_hold_the_raw_samples_in_order(raw: Path, tmp_path: Path, sample_of: SampleOf) -> None:
    run(raw, tmp_path / "packed")
    packed = open_pack(tmp_path / "packed")
    assert packed.meta.counts == {"train": 12, "test": 3}
    assert (packed.meta.height, packed.meta.width, packed.meta.source) == (HEIGHT, WIDTH, str(raw))
    train = packed.split("train")
    assert train.labels is not None
    for number in range(12):
        expected = sample_of(number)
        assert train.ids[number] == expected.id
        assert np.array_equal(train.rgb[number], expected.rgb_9HW)
        assert np.array_equal(train.depth[number], expected.depth_mm_3HW)
        assert np.array_equal(train.labels[number], expected.label_m_12)
    assert packed.split("test").labels is None
    assert packed.split("test").ids.tolist() == [1700, 1707, 1714]
    assert not train.rgb.flags.writeable


def test_the_packed_files_are_plain_arrays_as_documented(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "packed")
    found = {
        str(path.relative_to(tmp_path / "packed")): (np.load(path).dtype.name, np.load(path).shape)
        for path in (tmp_path / "packed").glob("*/*.npy")
    }
    assert found == {
        "train/rgb.npy": ("uint8", (12, 9, 6, 8)),
        "train/depth.npy": ("uint16", (12, 3, 6, 8)),
        "train/labels.npy": ("float64", (12, 12)),
        "train/ids.npy": ("int64", (12,)),
        "train/moments.npy": ("float64", (12, 15, 3)),
        "test/rgb.npy": ("uint8", (3, 9, 6, 8)),
        "test/depth.npy": ("uint16", (3, 3, 6, 8)),
        "test/ids.npy": ("int64", (3,)),
        "test/moments.npy": ("float64", (3, 15, 3)),
    }


@pytest.mark.parametrize("rows", [range(7), [2], [0, 3, 6]])
def test_statistics_of_any_rows_are_a_reduction_of_moments(
    packed_split: PackedSplit, rows: list[int]
) -> None:
    mean, std = mean_and_std(packed_split.moments[rows])
    scaled = packed_split.rgb[rows] / 255
    metres = packed_split.depth[rows] / 1000
    valid = (packed_split.depth[rows] != 0) & (packed_split.depth[rows] != 65535)
    seen = [np.minimum(metres, 2.0)[:, view][valid[:, view]] for view in range(3)]
    direct_mean = [*scaled.mean((0, 2, 3)), *metres.mean((0, 2, 3)), *(view.mean() for view in seen)]
    direct_std = [*scaled.std((0, 2, 3)), *metres.std((0, 2, 3)), *(view.std() for view in seen)]
    np.testing.assert_allclose(mean, direct_mean, rtol=1e-12)
    np.testing.assert_allclose(std, direct_std, rtol=1e-9)
    counts = packed_split.moments[rows][:, :, 0].sum(axis=0)
    assert counts.tolist() == [48 * len(rows)] * 12 + [view.size for view in seen]


def test_the_fingerprint_knows_the_content_but_not_how_it_was_packed(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "one")
    pack.main(["--raw", str(raw), "--out", str(tmp_path / "two"), "--processes", "2"])
    one, two = open_pack(tmp_path / "one"), open_pack(tmp_path / "two")
    assert one.meta == two.meta
    assert one.split("train").rgb.tobytes() == two.split("train").rgb.tobytes()
    depth = np.load(raw / "test" / "X" / "1" / "depth.npy")
    depth[2, 5, 7] ^= 1
    np.save(raw / "test" / "X" / "1" / "depth.npy", depth)
    run(raw, tmp_path / "changed")
    assert open_pack(tmp_path / "changed").meta.fingerprint != one.meta.fingerprint


def test_a_damaged_sample_ends_packing_and_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    (raw / "train" / "X" / "3" / "depth.npy").unlink()
    with pytest.raises(
        DataError, match=r"depth\.npy: missing; .*; repair it, or pack the rest with --keep-going"
    ):
        run(raw, tmp_path / "packed")
    assert os.listdir(tmp_path) == ["raw"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_keep_going_packs_the_rest_and_lists_what_was_left_out(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], processes: str
) -> None:
    (raw / "train" / "X" / "3" / "depth.npy").unlink()
    shutil.copy(raw / "train/X/4/field_id.pkl", raw / "train/X/9/field_id.pkl")
    run(raw, tmp_path / "packed", "--keep-going", "--processes", processes)
    packed = open_pack(tmp_path / "packed")
    assert packed.meta.left_out == ("train/X/3", "train/X/9")
    assert packed.split("train").ids.tolist() == [1000 + 7 * n for n in range(12) if n not in (3, 9)]
    assert packed.split("train").rgb.shape == (10, 9, 6, 8)
    printed = capsys.readouterr().out
    assert f"left out: {raw}/train/X/3/depth.npy: missing" in printed
    assert f"left out: {raw}/train/X/9/field_id.pkl: id 1028 is also that of train/X/4; allowed is" in printed
    assert "10 train, 3 test samples of 6 x 8, 2 left out" in printed


def test_keep_going_leaves_a_split_out_whose_samples_cannot_be_listed(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(raw / "train" / "Y")
    with pytest.raises(DataError, match="train/Y: missing; .*; repair it, or pack the rest with --keep"):
        run(raw, tmp_path / "packed")
    run(raw, tmp_path / "packed", "--keep-going")
    meta = open_pack(tmp_path / "packed").meta
    assert (meta.counts, meta.left_out) == ({"test": 3}, ("all of train",))
    assert f"left out: {raw}/train/Y: missing; " in capsys.readouterr().out


def test_a_split_of_damaged_samples_only_is_refused(raw: Path, tmp_path: Path) -> None:
    for number in range(3):
        (raw / "test" / "X" / str(number) / "field_id.pkl").unlink()
    with pytest.raises(
        DataError, match=r"no usable sample in test; the first error: .*X/0/field_id\.pkl: missing"
    ):
        run(raw, tmp_path / "packed", "--keep-going")
    assert os.listdir(tmp_path) == ["raw"]


def test_progress_is_printed_without_a_terminal(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(raw, tmp_path / "packed")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("packing: 15/15, ")


def start_and_wait(raw: Path, tmp_path: Path, processes: int) -> subprocess.Popen[str]:
    """A packing process that has written some samples and waits for one for ever."""
    stuck = raw / "train" / "X" / "7" / "depth.npy"
    stuck.unlink()
    os.mkfifo(stuck)
    command = [sys.executable, "-m", "pipeline.data.pack", "--raw", str(raw), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--processes", str(processes)],
        cwd=repository(),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("packing: 2/15")
    assert any(tmp_path.glob(".out.*"))
    return process


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_an_interrupt_leaves_nothing(
    raw: Path, tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    process = start_and_wait(raw, tmp_path, processes)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert os.listdir(tmp_path) == ["raw"]


def test_what_a_killed_pack_left_is_no_data_set_and_is_removed_by_the_next(
    raw: Path, raw_template: Path, tmp_path: Path
) -> None:
    process = start_and_wait(raw, tmp_path, processes=1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    left = [path.name for path in tmp_path.iterdir() if path.name != "raw"]
    assert [name.startswith(".out.") for name in left] == [True]
    with pytest.raises(DataError, match=r"not a packed data set .no meta\.yaml"):
        open_pack(tmp_path / left[0])
    run(raw_template, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "raw"]


def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    command = f"ulimit -f 2; {sys.executable} -m pipeline.data.pack --raw {raw} --out {tmp_path / 'out'}"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=repository(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "out: File too large: 0.00 GB are needed" in ended.stderr
    assert "free some space or choose a folder on another disk" in ended.stderr
    assert os.listdir(tmp_path) == ["raw"]


def test_an_existing_folder_is_never_touched(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "mine").touch()
    with pytest.raises(DataError, match="packed: exists already; choose another folder or remove this one"):
        run(raw, tmp_path / "packed")
    assert os.listdir(tmp_path / "packed") == ["mine"]


@pytest.fixture
def packed(raw: Path, tmp_path: Path) -> Path:
    run(raw, tmp_path / "packed")
    return tmp_path / "packed"


def edit_meta(packed: Path, **changes: object) -> None:
    tree = yaml.safe_load((packed / "meta.yaml").read_text())
    (packed / "meta.yaml").write_text(yaml.safe_dump({**tree, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: shutil.rmtree(packed), "not a packed data set .no meta.yaml.; make one with"),
        (lambda packed: (packed / "meta.yaml").unlink(), "not a packed data set"),
        (lambda packed: (packed / "meta.yaml").write_text("a: ["), r"meta\.yaml: cannot be used: .*pack"),
        (
            lambda packed: edit_meta(packed, version=2),
            r"meta\.yaml: cannot be used: version: Input should be 1 .found 2.; pack the data again",
        ),
        (
            lambda packed: (packed / "train" / "rgb.npy").unlink(),
            r"train/rgb\.npy: missing from the packed data set; pack the data again",
        ),
        (
            lambda packed: os.truncate(packed / "train" / "depth.npy", 999),
            r"train/depth\.npy: damaged .*; pack the data again",
        ),
        (
            lambda packed: np.save(packed / "test" / "ids.npy", np.arange(4)),
            r"ids\.npy: holds int64 \[4\], but meta\.yaml says int64 \[3\]; pack the data again",
        ),
    ],
)
def test_a_damaged_pack_is_refused_with_a_remedy(
    packed: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(packed)
    with pytest.raises(DataError, match=message):
        open_pack(packed)


def test_raw_data_given_as_packed_are_recognised(raw: Path) -> None:
    with pytest.raises(DataError, match=r"it is the raw layout: python -m pipeline\.data\.pack --raw"):
        open_pack(raw)


def test_a_split_that_is_not_there_is_named(packed: Path) -> None:
    with pytest.raises(DataError, match="has no split 'val'; it has train, test"):
        open_pack(packed).split("val")


def test_a_number_of_processes_below_one_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--processes 0: at least 1 is needed"):
        run(raw, tmp_path / "packed", "--processes", "0")
