import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.layout import open_raw
from pipeline.data.pack import Sample
from pipeline.errors import DataError


def load(raw: Path, number: int = 2) -> Sample:
    return open_raw(raw).splits[0].samples[number].load()


def folder(raw: Path) -> Path:
    return raw / "train" / "X" / "2"


def edit_array(path: Path, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)


def test_samples_come_in_numerical_order_with_their_own_label(
    raw: Path, sample_of: Callable[..., Sample]
) -> None:
    train, test = open_raw(raw).splits
    assert [str(sample) for sample in train.samples] == [f"train/X/{number}" for number in range(12)]
    assert (train.labelled, test.labelled) == (True, False)
    for number, raw_sample in enumerate(train.samples):
        loaded, expected = raw_sample.load(), sample_of(number)
        assert loaded.id == expected.id
        assert np.array_equal(loaded.label_m_12, expected.label_m_12)
        assert np.array_equal(loaded.rgb_9HW, expected.rgb_9HW)
        assert np.array_equal(loaded.depth_mm_3HW, expected.depth_mm_3HW)
        assert loaded.depth_mm_3HW.dtype == np.uint16
    assert test.samples[0].load().label_m_12 is None


def set_depth(value: float, dtype: type = np.float32) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        depth = np.ones((3, 6, 8), dtype)
        depth[1, 2, 3] = value
        np.save(folder(raw) / "depth.npy", depth)

    return damage


def set_id(value: object) -> Callable[[Path], None]:
    def damage(raw: Path) -> None:
        (folder(raw) / "field_id.pkl").write_bytes(pickle.dumps(value))

    return damage


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def truncate(name: str) -> Callable[[Path], None]:
    return lambda raw: os.truncate(folder(raw) / name, (folder(raw) / name).stat().st_size // 2)


def save_view(image: Image.Image, file_format: str = "PNG") -> Callable[[Path], None]:
    return lambda raw: image.save(folder(raw) / "rgb" / "1.png", file_format)


def deep_png(width: int, height: int) -> bytes:
    """A black RGB PNG of 16 bits, which Pillow reads but cannot write."""
    rows = zlib.compress((b"\0" + bytes(6 * width)) * height)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def set_label(label: np.ndarray) -> Callable[[Path], None]:
    return lambda raw: np.save(raw / "train" / "Y" / "2.npy", label)


DAMAGES = {
    "missing view": (
        lambda raw: (folder(raw) / "rgb" / "1.png").unlink(),
        "rgb/1.png: missing; expected an 8-bit RGB PNG of 6 x 8 pixels",
    ),
    "truncated view": (
        truncate("rgb/1.png"),
        "rgb/1.png: cannot be read (image file is truncated); expected an 8-bit RGB PNG of 6 x 8",
    ),
    "JPEG": (
        save_view(Image.new("RGB", (8, 6)), "JPEG"),
        "rgb/1.png: no PNG, or its beginning is damaged; expected an 8-bit RGB",
    ),
    "grey view": (
        save_view(Image.new("L", (8, 6))),
        "rgb/1.png: is a PNG in mode L of 8 bits; expected an 8-bit RGB",
    ),
    "turned view": (
        save_view(Image.new("RGB", (6, 8))),
        "rgb/1.png: has 8 x 6 pixels; expected an 8-bit RGB PNG of 6 x 8 pixels (height x width), as the",
    ),
    "missing depth": (
        lambda raw: (folder(raw) / "depth.npy").unlink(),
        "depth.npy: missing; expected a .npy array of numbers [3, 6, 8]",
    ),
    "truncated depth": (
        truncate("depth.npy"),
        "depth.npy: cannot be read (mmap length is greater than file size); expected",
    ),
    "empty depth": (
        lambda raw: (folder(raw) / "depth.npy").write_bytes(b""),
        "depth.npy: cannot be read (EOF: reading magic string",
    ),
    "depth in metres": (
        set_depth(0.656),
        "depth.npy: depth 0.656 mm at [1, 2, 3]; allowed are whole numbers from 0 to 65535 mm; is the",
    ),
    "negative depth": (
        set_depth(-1, np.int32),
        "depth -1 mm at [1, 2, 3]; allowed are whole numbers from 0 to 65535 mm",
    ),
    "depth too large": (
        set_depth(65536),
        "depth 65536.0 mm at [1, 2, 3]; allowed are whole numbers from 0 to 65535 mm",
    ),
    "depth not a number": (
        set_depth(np.nan),
        "depth nan mm at [1, 2, 3]; allowed are whole numbers from 0 to 65535 mm",
    ),
    "two depth views": (
        lambda raw: edit_array(folder(raw) / "depth.npy", lambda depth: depth[:2]),
        "holds float32 [2, 6, 8]; expected a .npy array of numbers [3, 6, 8]",
    ),
    "complex depth": (
        set_depth(1, np.complex64),
        "holds complex64 [3, 6, 8]; expected a .npy array of numbers",
    ),
    "objects as depth": (
        lambda raw: np.save(folder(raw) / "depth.npy", np.array([{}] * 3, object)),
        "depth.npy: cannot be read (Array can't be memory-mapped: Python objects in dtype.); expected",
    ),
    "depth whose header names a smaller type": (
        lambda raw: replace_in(folder(raw) / "depth.npy", b"<f4", b"<f2"),
        "depth.npy: has 288 bytes after its float16 [3, 6, 8]; expected a .npy array of numbers [3, 6, 8]",
    ),
    "missing id": (
        lambda raw: (folder(raw) / "field_id.pkl").unlink(),
        "field_id.pkl: missing; expected one pickled text of digits, such as '3320'",
    ),
    "truncated id": (truncate("field_id.pkl"), "field_id.pkl: cannot be read ("),
    "id in words": (
        set_id("first"),
        "field_id.pkl: id 'first' is no whole number; allowed are up to 18 digits, as in '3320'",
    ),
    "negative id": (set_id(-3), "id -3 is no whole number"),
    "list of ids": (set_id(["3320"]), "a pickle with the step EMPTY_LIST; expected one pickled text"),
    "huge id": (set_id("1" * 2000), "more than 1024 bytes; expected one pickled text of digits"),
    "missing label": (
        lambda raw: (raw / "train" / "Y" / "2.npy").unlink(),
        "Y/2.npy: missing; expected a .npy array of floats [12]",
    ),
    "label not a number": (
        set_label(np.array([0.0] * 11 + [np.nan])),
        "Y/2.npy: coordinate 11 is nan; allowed are metres from -1 to 1",
    ),
    "label in millimetres": (
        set_label(np.array([54.5] * 12)),
        "Y/2.npy: coordinate 0 is 54.5; allowed are metres from -1 to 1; is the file in millimetres?",
    ),
    "short label": (
        set_label(np.zeros(11)),
        "Y/2.npy: holds float64 [11]; expected a .npy array of floats [12]",
    ),
    "whole-number label": (
        set_label(np.zeros(12, int)),
        "Y/2.npy: holds int64 [12]; expected a .npy array of floats [12]",
    ),
    "16-bit view": (
        lambda raw: (folder(raw) / "rgb" / "1.png").write_bytes(deep_png(8, 6)),
        "rgb/1.png: is a PNG in mode RGB of 16 bits; expected an 8-bit RGB PNG",
    ),
    "empty folder": (
        lambda raw: (shutil.rmtree(folder(raw)), folder(raw).mkdir()),
        "X/2: empty; expected a folder with rgb/0.png, 1.png, 2.png, depth.npy and field_id.pkl",
    ),
    "file for a folder": (
        lambda raw: (shutil.rmtree(folder(raw)), folder(raw).touch()),
        "X/2: is a file; expected a folder with rgb/0.png",
    ),
    "folder for a file": (
        lambda raw: ((folder(raw) / "depth.npy").unlink(), (folder(raw) / "depth.npy").mkdir()),
        "depth.npy: cannot be read (Is a directory); expected a .npy array",
    ),
    "label without images": (lambda raw: shutil.rmtree(folder(raw)), "train/Y has a label of this number"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_with_the_file_and_what_is_allowed(raw: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(raw)
    with pytest.raises(DataError) as caught:
        load(raw)
    assert message in str(caught.value)
    assert str(raw) in str(caught.value)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_code_in_a_pickled_id_is_refused_and_never_run(raw: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    set_id(Bomb(mark))(raw)
    with pytest.raises(DataError, match=r"step STACK_GLOBAL; .*nothing was executed"):
        load(raw)
    assert not mark.exists()


def test_code_in_a_depth_array_is_never_run(raw: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    np.save(folder(raw) / "depth.npy", np.array([Bomb(mark)], object))
    with pytest.raises(DataError, match=r"depth\.npy: cannot be read"):
        load(raw)
    assert not mark.exists()


@pytest.mark.parametrize("value", ["3320", 3320, "0012"])
def test_an_id_may_be_text_or_number(raw: Path, value: object) -> None:
    set_id(value)(raw)
    assert load(raw).id == int(value)  # type: ignore[call-overload]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_id_may_be_pickled_with_any_protocol(raw: Path, protocol: int) -> None:
    (folder(raw) / "field_id.pkl").write_bytes(pickle.dumps("3320", protocol))
    assert load(raw).id == 3320
