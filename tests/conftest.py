"""A packed data set that costs nothing to make: four bright squares whose places are the labels."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: its threads would only wait for one another here

for name in list(os.environ):  # a cluster that this shell happens to be on is not the tests'
    if name.startswith(("SLURM", "SBATCH")):
        del os.environ[name]

import numpy as np
import pytest

from pipeline.data.pack import PackWriter, Sample

pytest_plugins = ["tests.cluster.fixtures"]
SIZE = 64


def blob_sample(number, size=SIZE):
    """Finger f is a square of its own brightness in every view; its centre and depth are its label."""
    generator = np.random.default_rng([7, number])
    places = generator.uniform(0.2, 0.8, size=(4, 3))
    rgb = generator.integers(0, 40, size=(9, size, size), dtype=np.uint8)
    depth = np.full((3, size, size), 900, np.uint16)
    for finger, (x, y, z) in enumerate(places):
        rows = slice(int(y * size) - 4, int(y * size) + 4)
        columns = slice(int(x * size) - 4, int(x * size) + 4)
        rgb[finger % 3 :: 3, rows, columns] = 120 + 40 * finger
        depth[:, rows, columns] = int(300 + 300 * z)
    return Sample(rgb, depth, id=number, label_m_12=0.1 * places.ravel())


def make_pack(root, train=40, test=8, size=SIZE):
    counts = {"train": train, "test": test}
    with PackWriter(root, counts, size, size, labelled=("train", "test"), source="made for a test") as writer:
        for split, offset in (("train", 0), ("test", train)):
            for index in range(counts[split]):
                writer.write(split, index, blob_sample(offset + index, size))
    return root


@pytest.fixture(scope="session")
def pack_maker():
    return make_pack


@pytest.fixture(scope="session")
def blobs(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("data") / "blobs")
