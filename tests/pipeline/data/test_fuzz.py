"""Raw data sets damaged at random: refused with a DataError, or packed in the promised shapes and types.

Run by hand, it says how often each came of what:

    python -m pytest -m end_to_end -s tests/pipeline/data/test_fuzz.py
"""

import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.layout import open_raw
from pipeline.data.pack import Pack, open_pack, pack_raw
from pipeline.errors import DataError

SIZE = 32
COUNTS = {"train": 3, "test": 2}
EDGE = 1500  # bytes at both ends of a file, where headers and tables of content are; hit half of the time
ARRAYS = {
    "rgb": (np.uint8, (9, SIZE, SIZE)),
    "depth": (np.uint16, (3, SIZE, SIZE)),
    "ids": (np.int64, ()),
    "labels": (np.float64, (12,)),
    "moments": (np.float64, (15, 3)),
}

Files = dict[Path, bytes]


def write_both_layouts(folders: Path, tensors: Path) -> None:
    """The same five samples twice; depth is float32 in the folders and int32 in the tensors."""
    random = np.random.default_rng(0)
    tensors.mkdir()
    for split, count in COUNTS.items():
        rgb = random.integers(0, 256, (count, 3, 3, SIZE, SIZE), dtype=np.uint8)
        depth = random.integers(0, 3000, (count, 3, SIZE, SIZE), dtype=np.int32)
        ids = [str(1000 + number) for number in range(count)]
        label = random.uniform(-0.1, 0.1, (count, 12))
        torch.save((torch.tensor(rgb), torch.tensor(depth), ids), tensors / f"{split}X.pt")
        for number in range(count):
            folder = folders / split / "X" / str(number)
            (folder / "rgb").mkdir(parents=True)
            for view in range(3):
                Image.fromarray(rgb[number, view].transpose(1, 2, 0)).save(folder / "rgb" / f"{view}.png")
            np.save(folder / "depth.npy", depth[number].astype(np.float32))
            (folder / "field_id.pkl").write_bytes(pickle.dumps(ids[number]))
        if split == "train":
            torch.save(torch.tensor(label), tensors / "trainY.pt")
            (folders / "train" / "Y").mkdir()
            for number in range(count):
                np.save(folders / "train" / "Y" / f"{number}.npy", label[number])


class Canary:
    """A pickle of it makes a folder when it is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


class Fuzzer:
    """Damages one of the two data sets, packs it, checks what comes out and repairs the damage."""

    def __init__(self, home: Path) -> None:
        self.home, self.mark, self.out = home, home / "executed", home / "packed"
        roots = {"folders": home / "folders", "tensors": home / "tensors"}
        write_both_layouts(*roots.values())
        self.files: dict[Path, Files] = {
            root: {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
            for root in roots.values()
        }
        self.whole: dict[Path, Pack] = {}
        for name, root in roots.items():
            self.whole[root] = self.pack(root, home / f"whole {name}", keep_going=False)
        self.canaries = self.make_canaries()

    def make_canaries(self) -> list[bytes]:
        """A pickle, an array of objects, and .pt files of the new and the old format."""
        canary, made = Canary(self.mark), self.home / "canary"
        found = [pickle.dumps(canary)]
        np.save(made.with_suffix(".npy"), np.array([canary], object), allow_pickle=True)
        found.append(made.with_suffix(".npy").read_bytes())
        for as_archive in (True, False):
            images = torch.zeros(1, 3, 3, SIZE, SIZE), torch.zeros(1, 3, SIZE, SIZE), canary
            torch.save(images, made, _use_new_zipfile_serialization=as_archive)
            found.append(made.read_bytes())
        return found

    def pack(self, root: Path, out: Path, keep_going: bool) -> Pack:
        pack_raw(open_raw(root, keep_going), out, "", keep_going, 1, lambda: None)
        return open_pack(out)

    def round(self, seed: int) -> str:
        """One corruption; the seed decides all about it. Returns what came of it."""
        random = np.random.default_rng(seed)
        root = list(self.files)[seed % 2]
        kind = random.choice(list(DAMAGES), p=[0.5, 0.2, 0.2, 0.1])
        damaged = DAMAGES[kind](self, self.files[root], random)
        for path, content in damaged.items():
            path.write_bytes(content)
        try:
            outcome = self.outcome(root, list(damaged), keep_going=bool(random.integers(2)))
        finally:
            for path in damaged:
                path.write_bytes(self.files[root][path])
        assert not self.mark.exists(), "code in a file was executed"
        return f"{root.name}, {kind}: {outcome}"

    def outcome(self, root: Path, damaged: list[Path], keep_going: bool) -> str:
        refusal = ""
        try:
            packed = self.pack(root, self.out, keep_going)
        except DataError as error:
            refusal = str(error)
        if not refusal:
            found = self.compare(packed, self.whole[root])
            if not packed.meta.left_out:
                self.assert_declared_as_before(damaged)
            shutil.rmtree(self.out)
            return found
        assert str(self.home) in refusal, "the message names no file"
        assert "\n" not in refusal
        assert not list(self.home.glob("*packed*")), "a refused pack left something"
        return "refused"

    def assert_declared_as_before(self, damaged: list[Path]) -> None:
        """The arrays in damaged files that were packed have the shapes and types they had when whole."""
        for path in damaged:
            found = declared(path)
            content = path.read_bytes()
            path.write_bytes(self.files[self.root_of(path)][path])
            assert found == declared(path), f"{path} was accepted with another shape or type"
            path.write_bytes(content)

    def root_of(self, path: Path) -> Path:
        return next(root for root in self.files if root in path.parents)

    def compare(self, packed: Pack, whole: Pack) -> str:
        """Checks shapes and types of all arrays, and says what has changed."""
        assert (packed.meta.height, packed.meta.width) == (SIZE, SIZE)
        counts, left_out = packed.meta.counts, packed.meta.left_out
        whole_splits = [name for name in COUNTS if f"all of {name}" in left_out]
        assert {*whole_splits, *counts} == set(COUNTS)
        if not whole_splits:  # else the images of train and test may have been swapped
            assert sum(counts.values()) + len(left_out) == sum(COUNTS.values())
        for split, count in packed.meta.counts.items():
            for name, (dtype, shape) in ARRAYS.items():
                array = getattr(packed.split(split), name)
                if name != "labels" or split == "train":
                    assert (array.dtype, array.shape) == (dtype, (count, *shape)), f"{split}/{name}"
        if whole_splits:
            return "packed the other split"
        if left_out:
            return "packed the rest"
        return "accepted, " + changed_arrays(packed, whole)


def changed_arrays(packed: Pack, whole: Pack) -> str:
    if packed.meta.fingerprint == whole.meta.fingerprint:
        return "nothing changed"
    changed = {
        "pixels changed" if name in ("rgb", "depth") else f"{name} changed"
        for split in COUNTS
        for name in ("rgb", "depth", "ids", "labels")
        if not np.array_equal(getattr(packed.split(split), name), getattr(whole.split(split), name))
    }
    return " and ".join(sorted(changed))


def declared(path: Path) -> object:
    """The shapes and types of the arrays in a file, as the file names them."""
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r")
        return array.shape, array.dtype.str
    if path.suffix == ".pt":
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return [(each.dtype, each.shape) for each in stored if isinstance(each, torch.Tensor)]
    if path.suffix == ".png":
        with Image.open(path) as image:
            return image.size, image.mode
    return None  # an id is no array


def any_path(files: Files, random: np.random.Generator) -> Path:
    return list(files)[random.integers(len(files))]


def flip(_: Fuzzer, files: Files, random: np.random.Generator) -> Files:
    """One to eight bytes of a file, changed."""
    path = any_path(files, random)
    content = bytearray(files[path])
    edge = min(EDGE, len(content))
    for _ in range(random.integers(1, 9)):
        inside, near_end = random.integers(len(content)), random.integers(-edge, edge)
        content[random.choice([inside, near_end])] ^= int(random.integers(1, 256))
    return {path: bytes(content)}


def cut(_: Fuzzer, files: Files, random: np.random.Generator) -> Files:
    path = any_path(files, random)
    return {path: files[path][: random.integers(len(files[path]))]}


def swap(_: Fuzzer, files: Files, random: np.random.Generator) -> Files:
    one, two = random.choice(len(files), 2, replace=False)
    one_path, two_path = list(files)[one], list(files)[two]
    return {one_path: files[two_path], two_path: files[one_path]}


def plant(fuzzer: Fuzzer, files: Files, random: np.random.Generator) -> Files:
    """A file that would show that it was executed."""
    return {any_path(files, random): fuzzer.canaries[random.integers(len(fuzzer.canaries))]}


DAMAGES: dict[str, Callable[[Fuzzer, Files, np.random.Generator], Files]] = {
    "flipped": flip,
    "cut": cut,
    "swapped": swap,
    "canary": plant,
}


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seeds", [range(100), pytest.param(range(100, 2400), marks=pytest.mark.end_to_end)], ids=len
)
def test_no_corruption_crashes_runs_code_or_changes_a_shape(fuzzer: Fuzzer, seeds: range) -> None:
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        try:
            outcomes[fuzzer.round(seed)] += 1
        except Exception as error:
            raise AssertionError(f"corruption with seed {seed}: {error!r}") from error
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:5}  {outcome}")
    assert any("refused" in outcome for outcome in outcomes)
    assert any("accepted" in outcome for outcome in outcomes)


def test_the_canaries_do_sing(fuzzer: Fuzzer) -> None:
    pickle.loads(fuzzer.canaries[0])
    assert fuzzer.mark.exists()
    fuzzer.mark.rmdir()
    with (fuzzer.home / "canary").open("wb") as handle:
        handle.write(fuzzer.canaries[2])
    torch.load(fuzzer.home / "canary", weights_only=False)
    assert fuzzer.mark.exists()
    fuzzer.mark.rmdir()
