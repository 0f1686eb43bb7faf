"""Equal requests give equal numbers, which are on disk at once and say where they come from."""

import json
import re

import pytest

from pipeline.config import RunConfig
from pipeline.configfile import validated
from pipeline.data.pack import open_pack
from pipeline.paths import RunPaths
from pipeline.runrecord import read_epochs, read_run
from pipeline.train import fit

SEED = 4


def config(seed=SEED, epochs=2):
    tree = {
        "model": {"name": "resnet50", "small": True},
        "train": {"epochs": epochs, "batch_size": 14},
        "seed": seed,
        "device": "cpu",
    }
    return validated(RunConfig, tree)


@pytest.fixture(scope="module")
def trained(blobs, tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("run") / "one")
    fit(config(), blobs, paths)
    return paths


def scores(paths):
    return [record.rmse for record in read_epochs(paths)]


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(trained, blobs, tmp_path):
    fit(config(), blobs, RunPaths(tmp_path / "same"))
    fit(config(seed=SEED + 1), blobs, RunPaths(tmp_path / "other"))
    assert scores(RunPaths(tmp_path / "same")) == scores(trained)
    assert not set(scores(RunPaths(tmp_path / "other"))) & set(scores(trained))


def test_a_run_names_its_code_seed_and_data(trained, blobs):
    record = read_run(trained)
    assert record["commit"] is None or re.fullmatch(r"[0-9a-f]{12}\+?", record["commit"])
    assert (record["config"]["seed"], record["config_hash"]) == (SEED, config().hash())
    assert record["data_fingerprint"] == open_pack(blobs).meta.fingerprint
    assert record["libraries"].keys() == {"torch", "torchvision", "timm", "ray", "numpy"}


def test_an_epoch_is_on_disk_when_it_is_reported_and_stays_there(blobs, tmp_path):
    paths, on_disk = RunPaths(tmp_path / "run"), []

    def look(*, epoch, rmse, seconds):
        lines = [json.loads(line) for line in paths.epochs.read_text().splitlines()]
        on_disk.append([line["epoch"] for line in lines])
        assert (lines[-1]["epoch"], lines[-1]["rmse"]) == (epoch, rmse)
        if len(on_disk) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config(), blobs, paths, look)
    before = paths.epochs.read_text()
    fit(config(), blobs, paths, look)
    assert on_disk == [[1], [1], [1, 2]]
    assert paths.epochs.read_text().startswith(before)
