"""Damaged .pt files: each is refused with a message, and single samples can be left out."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data import pack
from pipeline.data.pack import open_pack
from pipeline.errors import DataError

Change = Callable[[torch.Tensor, torch.Tensor, list[str]], object]


@pytest.fixture
def root(raw_tensors: Path) -> Path:
    return raw_tensors


def edit(change: Change, name: str = "trainX.pt") -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        changed = change(*torch.load(root / name))
        torch.save(changed, root / name)

    return damage


def edit_labels(change: Callable[[torch.Tensor], object]) -> Callable[[Path], None]:
    return lambda root: torch.save(change(torch.load(root / "trainY.pt")), root / "trainY.pt")


def put(tensor: torch.Tensor, where: tuple[int, ...], value: float) -> torch.Tensor:
    changed = tensor.double()
    changed[where] = value
    return changed


def put_id(value: object) -> Callable[[Path], None]:
    return edit(lambda rgb, depth, ids: (rgb, depth, [*ids[:2], value, *ids[3:]]))


def run(root: Path, out: Path, *more: str) -> None:
    pack.main(["--raw", str(root), "--out", str(out), "--processes", "1", *more])


SAMPLE_DAMAGES = {
    "fractional depth": (
        edit(lambda rgb, depth, ids: (rgb, put(depth, (2, 1, 4, 5), 0.5), ids)),
        "trainX.pt sample 2: depth 0.5 mm at [1, 4, 5]; allowed are whole numbers from 0 to 65535 mm; is the",
    ),
    "negative depth": (
        edit(lambda rgb, depth, ids: (rgb, put(depth, (2, 1, 4, 5), -1), ids)),
        "trainX.pt sample 2: depth -1.0 mm at [1, 4, 5]; allowed",
    ),
    "depth not a number": (
        edit(lambda rgb, depth, ids: (rgb, put(depth, (2, 1, 4, 5), np.nan), ids)),
        "trainX.pt sample 2: depth nan mm at [1, 4, 5]; allowed",
    ),
    "depth too large": (
        edit(lambda rgb, depth, ids: (rgb, put(depth, (2, 1, 4, 5), 65536), ids)),
        "trainX.pt sample 2: depth 65536.0 mm at [1, 4, 5]; allowed",
    ),
    "colours from 0 to 1": (
        edit(lambda rgb, depth, ids: (put(rgb, (2, 0, 1, 4, 5), 0.25), depth, ids)),
        "trainX.pt sample 2: colour 0.25 at [0, 1, 4, 5]; allowed are whole numbers from 0 to 255; is",
    ),
    "label not a number": (
        edit_labels(lambda labels: put(labels, (2, 7), np.nan)),
        "trainY.pt sample 2: coordinate 7 is nan; allowed are metres from -1 to 1",
    ),
    "label in millimetres": (
        edit_labels(lambda labels: put(labels, (2, 7), 54.5)),
        "trainY.pt sample 2: coordinate 7 is 54.5; allowed are metres from -1 to 1; is the file in",
    ),
    "id in words": (
        put_id("first"),
        "trainX.pt sample 2: id 'first' is no whole number; allowed are up to 18",
    ),
    "id of another type": (put_id(3.0), "trainX.pt sample 2: id 3.0 is no whole number"),
    "truth for an id": (put_id(True), "trainX.pt sample 2: id True is no whole number"),
    "negative id": (put_id(-4), "trainX.pt sample 2: id -4 is no whole number"),
    "duplicate id": (
        put_id("1000"),
        "trainX.pt sample 2: id 1000 is also that of trainX.pt sample 0; allowed is an id that no other",
    ),
}


@pytest.mark.parametrize("name", SAMPLE_DAMAGES)
def test_a_damaged_sample_is_named_and_can_be_left_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, message = SAMPLE_DAMAGES[name]
    damage(root)
    with pytest.raises(DataError) as caught:
        run(root, tmp_path / "packed")
    assert f"{root}/{message}" in str(caught.value)
    assert "pack the rest with --keep-going" in str(caught.value)
    assert os.listdir(tmp_path) == ["tensors"]

    run(root, tmp_path / "packed", "--keep-going")
    packed = open_pack(tmp_path / "packed")
    assert packed.meta.left_out == ("trainX.pt sample 2",)
    assert packed.meta.counts == {"train": 11, "test": 3}
    assert f"left out: {root}/{message}" in capsys.readouterr().out


def cut(name: str) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, (root / name).stat().st_size // 2)


def overlapping(rgb: torch.Tensor, depth: torch.Tensor, ids: list[str]) -> object:
    return rgb[:1].clone().expand(len(ids), -1, -1, -1, -1), depth, ids


FILE_DAMAGES = {
    "cut images": (cut("trainX.pt"), "trainX.pt: is cut off, damaged, or was saved by torch before 1.6"),
    "cut labels": (cut("trainY.pt"), "trainY.pt: is cut off, damaged, or"),
    "empty file": (lambda root: (root / "testX.pt").write_bytes(b""), "testX.pt: is cut off, damaged, or"),
    "missing labels": (
        lambda root: (root / "trainY.pt").unlink(),
        "trainY.pt: missing; expected a tensor of floats [12, 12], a row for each sample of trainX.pt",
    ),
    "labels alone": (
        lambda root: (root / "trainX.pt").unlink(),
        "trainX.pt: missing; expected a tuple (rgb [N, 3, 3, H, W], depth [N, 3, H, W], N ids)",
    ),
    "old format": (
        lambda root: torch.save([1], root / "testX.pt", _use_new_zipfile_serialization=False),
        "testX.pt: is cut off, damaged, or was saved by torch before 1.6 (then load it and save it again)",
    ),
    "not a tuple": (
        edit(lambda rgb, depth, ids: {"rgb": rgb}),
        "trainX.pt: holds a dict; expected a tuple (rgb",
    ),
    "a tuple of two": (edit(lambda rgb, depth, ids: (rgb, depth)), "trainX.pt: holds a tuple of 2; expected"),
    "missing view": (
        edit(lambda rgb, depth, ids: (rgb[:, :2].clone(), depth, ids)),
        "trainX.pt: rgb: holds uint8 [12, 2, 3, 6, 8]; expected a tensor of numbers [12, 3, 3, 6, 8]",
    ),
    "channels in one dimension": (
        edit(lambda rgb, depth, ids: (rgb.flatten(1, 2), depth, ids)),
        "trainX.pt: rgb: holds uint8 [12, 9, 6, 8]; expected a tensor of numbers [any, 3, 3, any, any]",
    ),
    "depth of another size": (
        edit(lambda rgb, depth, ids: (rgb, depth[..., :7].clone(), ids)),
        "trainX.pt: depth: holds int32 [12, 3, 6, 7]; expected a tensor of numbers [12, 3, 6, 8]",
    ),
    "complex depth": (
        edit(lambda rgb, depth, ids: (rgb, depth.cfloat(), ids)),
        "trainX.pt: depth: holds complex64 [12, 3, 6, 8]; expected a tensor of numbers",
    ),
    "bfloat16": (
        edit(lambda rgb, depth, ids: (rgb.bfloat16(), depth, ids)),
        "trainX.pt: rgb: holds bfloat16 [12, 3, 3, 6, 8]; expected",
    ),
    "sparse": (
        edit(lambda rgb, depth, ids: (rgb, depth.to_sparse(), ids)),
        "trainX.pt: depth: holds sparse int32 [12, 3, 6, 8]; expected",
    ),
    "no samples": (
        edit(lambda rgb, depth, ids: (rgb[:0].clone(), depth[:0].clone(), [])),
        "trainX.pt: rgb: holds uint8 [0, 3, 3, 6, 8]; expected a tensor of numbers [any, 3, 3, any, any]",
    ),
    "elements that share bytes": (
        edit(overlapping),
        "trainX.pt: rgb: its strides [0, 144, 48, 8, 1] do not fit its bytes; expected",
    ),
    "too few ids": (
        edit(lambda rgb, depth, ids: (rgb, depth, ids[1:])),
        "trainX.pt: ids are a list of 11; expected 12, one for each sample",
    ),
    "fractional ids": (
        edit(lambda rgb, depth, ids: (rgb, depth, torch.rand(12))),
        "trainX.pt: ids: holds float32 [12]; expected a tensor of whole numbers [12]",
    ),
    "too few labels": (
        edit_labels(lambda labels: labels[1:].clone()),
        "trainY.pt: labels: holds float64 [11, 12]; expected a tensor of floats [12, 12]",
    ),
    "short labels": (
        edit_labels(lambda labels: labels[:, 1:].clone()),
        "trainY.pt: labels: holds float64 [12, 11]; expected a tensor of floats [12, 12]",
    ),
}


def refusal(root: Path, tmp_path: Path, *options: str) -> str:
    """The message with which packing is refused; nothing is left of it."""
    with pytest.raises(DataError) as caught:
        run(root, tmp_path / "packed", *options)
    message = str(caught.value)
    assert str(root) in message
    assert "\n" not in message
    assert os.listdir(tmp_path) == ["tensors"]
    return message


@pytest.mark.parametrize("name", FILE_DAMAGES)
def test_a_damaged_file_is_refused_and_can_be_left_out_with_its_split(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, message = FILE_DAMAGES[name]
    damage(root)
    refused = refusal(root, tmp_path)
    assert message in refused
    assert refused.endswith("; repair it, or pack the rest with --keep-going")
    damaged, kept = ("test", "train") if message.startswith("test") else ("train", "test")
    run(root, tmp_path / "packed", "--keep-going")
    packed = open_pack(tmp_path / "packed")
    assert packed.meta.counts == {kept: {"train": 12, "test": 3}[kept]}
    assert packed.meta.left_out == (f"all of {damaged}",)
    printed = capsys.readouterr().out
    assert f"left out: {root}/{message}" in printed
    assert f"; all of {damaged} is left out" in printed


def test_a_set_without_one_whole_file_is_refused(root: Path, tmp_path: Path) -> None:
    cut("trainX.pt")(root)
    cut("testX.pt")(root)
    assert "trainX.pt: is cut off" in refusal(root, tmp_path, "--keep-going")
    (root / "testX.pt").unlink()
    assert "keep-going" not in refusal(root, tmp_path), "there is no rest to pack"


def test_frames_of_two_sizes_are_refused(root: Path, tmp_path: Path) -> None:
    edit(lambda rgb, depth, ids: (rgb.mT.clone(), depth.mT.clone(), ids), "testX.pt")(root)
    expected = "frames of 6 x 8 in trainX.pt, 8 x 6 in testX.pt; expected one size for all"
    assert expected in refusal(root, tmp_path, "--keep-going")
