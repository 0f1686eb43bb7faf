"""The raw layout of .pt files: the same samples as the folders, and the same care with damaged ones."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data import pack, tensors
from pipeline.data.layout import open_raw
from pipeline.data.pack import Sample, open_pack
from pipeline.errors import DataError
from pipeline.paths import repository

SampleOf = Callable[..., Sample]
Change = Callable[[torch.Tensor, torch.Tensor, list[str]], object]
COUNTS = {"train": 12, "test": 3}


@pytest.fixture
def root(raw_tensors: Path) -> Path:
    return raw_tensors


def run(root: Path, out: Path, *more: str) -> None:
    pack.main(["--raw", str(root), "--out", str(out), "--processes", "1", *more])


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.end_to_end)])
def test_both_layouts_give_the_same_packed_arrays(
    raw: Path, root: Path, tmp_path: Path, processes: str
) -> None:
    run(raw, tmp_path / "from folders")
    run(root, tmp_path / "from tensors", "--processes", processes)
    folders, tensors_ = open_pack(tmp_path / "from folders"), open_pack(tmp_path / "from tensors")
    assert tensors_.meta.fingerprint == folders.meta.fingerprint
    assert tensors_.meta.counts == COUNTS
    for name in ("rgb", "depth", "labels", "ids", "moments"):
        found, expected = (getattr(packed.split("train"), name) for packed in (tensors_, folders))
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda rgb, depth, ids: [rgb.float(), depth.float(), ids],
        lambda rgb, depth, ids: (rgb.double(), depth.to(torch.uint16), tuple(ids)),
        lambda rgb, depth, ids: (rgb.long(), depth.double(), [int(id_) for id_ in ids]),
        lambda rgb, depth, ids: (rgb, depth, torch.tensor([int(id_) for id_ in ids])),
        lambda rgb, depth, ids: (rgb.mT.contiguous().mT, depth, ids),
        lambda rgb, depth, ids: (torch.nn.Parameter(rgb.float()), depth, ids),
    ],
)
def test_types_of_numbers_and_ids_do_not_matter(root: Path, sample_of: SampleOf, change: Change) -> None:
    torch.save(change(*torch.load(root / "trainX.pt")), root / "trainX.pt")
    for number, raw_sample in enumerate(open_raw(root).splits[0].samples):
        loaded, expected = raw_sample.load(), sample_of(number)
        assert (loaded.rgb_9HW.dtype, loaded.depth_mm_3HW.dtype) == (np.uint8, np.uint16)
        assert np.array_equal(loaded.rgb_9HW, expected.rgb_9HW)
        assert np.array_equal(loaded.depth_mm_3HW, expected.depth_mm_3HW)
        assert loaded.id == expected.id
        assert np.array_equal(loaded.label_m_12, expected.label_m_12)


def test_labels_may_be_float32(root: Path) -> None:
    torch.save(torch.load(root / "trainY.pt").float(), root / "trainY.pt")
    label = open_raw(root).splits[0].samples[3].load().label_m_12
    assert label is not None
    assert label.dtype == np.float64
    assert np.array_equal(label, torch.load(root / "trainY.pt")[3].double().numpy())


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


class Script(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_code_in_a_file_is_never_run(root: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    rgb, depth, _ = torch.load(root / "trainX.pt")
    torch.save((rgb, depth, Bomb(mark)), root / "trainX.pt")
    with pytest.raises(
        DataError, match=r"trainX\.pt: is damaged or holds more than tensors, .*nothing was exec"
    ):
        open_raw(root)
    (root / "trainX.pt").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DataError, match=r"trainX\.pt: is cut off, damaged, or"):
        open_raw(root)
    torch.jit.script(Script()).save(root / "trainX.pt")
    with pytest.raises(DataError, match=r"trainX\.pt: cannot be read"):
        open_raw(root)
    assert not mark.exists()


def test_a_file_that_changes_while_it_is_packed_is_refused(root: Path) -> None:
    samples = open_raw(root).splits[0].samples
    os.truncate(root / "trainX.pt", 5000)
    with pytest.raises(DataError, match=r"trainX\.pt: has changed while it was being packed; pack again"):
        samples[0].load()


def mapped_bytes() -> int:
    """Of files, in the memory of this process now."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssFile:")[2].split()[0])


def test_memory_of_samples_already_read_is_given_back(tmp_path: Path) -> None:
    count, size = 4 * tensors.BLOCK, 128
    images = torch.zeros(count, 3, 3, size, size), torch.zeros(count, 3, size, size), list(range(count))
    torch.save(images, tmp_path / "testX.pt")
    samples = open_raw(tmp_path).splits[0].samples
    before, block = mapped_bytes(), (tmp_path / "testX.pt").stat().st_size / 4
    assert max((sample.load(), mapped_bytes() - before)[1] for sample in samples) < 1.5 * block


def test_a_sample_can_be_sent_to_another_process(root: Path) -> None:
    sample = open_raw(root).splits[0].samples[5]
    sent = pickle.loads(pickle.dumps(sample))
    assert str(sent) == "trainX.pt sample 5"
    assert np.array_equal(sent.load().rgb_9HW, sample.load().rgb_9HW)


def test_labels_of_the_test_split_are_read_if_they_are_there(root: Path) -> None:
    torch.save(torch.zeros(3, 12), root / "testY.pt")
    test = open_raw(root).splits[1]
    assert test.labelled
    assert np.array_equal(test.samples[0].load().label_m_12, np.zeros(12))


def test_a_folder_of_both_layouts_or_neither_is_refused(raw: Path, root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "testX.pt", raw)
    with pytest.raises(
        DataError, match=r"holds both train/, test/ and testX\.pt; allowed are .* not both: move"
    ):
        open_raw(raw)
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match=r"notes: holds nothing; expected numbered folders .* or tensors"):
        open_raw(tmp_path / "notes")
    for number in range(9):
        (tmp_path / "notes" / f"{number}.txt").touch()
    with pytest.raises(DataError, match=r"holds 0\.txt, 1\.txt, .*, 5\.txt and 3 more; expected"):
        open_raw(tmp_path / "notes")


def test_torch_is_not_imported_for_folders(raw: Path, tmp_path: Path) -> None:
    command = (
        "import sys; from pipeline.data.pack import main;"
        f"main(['--raw', {str(raw)!r}, '--out', {str(tmp_path / 'out')!r}, '--processes', '1']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], cwd=repository(), check=False).returncode == 0
