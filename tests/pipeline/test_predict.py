import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.checkpoint import read_checkpoint, write_checkpoint
from pipeline.config import RunConfig
from pipeline.configfile import validated
from pipeline.data.pack import PackWriter, Sample, open_pack
from pipeline.data.split import split_indices
from pipeline.errors import CheckpointError, DataError
from pipeline.paths import RunPaths
from pipeline.predict import COLUMNS, predict, rmse_m, submit
from pipeline.train import fit

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["clip", "report"])
def trained(request, blobs, tmp_path_factory):
    """Depth as in the defaults and not: prediction must take it from the checkpoint."""
    tree = {
        "model": {"name": "resnet50", "small": True},
        "data": {"depth": request.param},
        "train": {"epochs": 2, "batch_size": 8},
        "device": "cpu",
    }
    return fit(validated(RunConfig, tree), blobs, RunPaths(tmp_path_factory.mktemp("run")))


def test_a_checkpoint_predicts_what_validation_measured(trained, blobs):
    split = open_pack(blobs).split("train")
    _, rows = split_indices("head:0.7", split.ids)
    predicted_m = predict([trained.checkpoint], split, CPU)
    assert rmse_m(predicted_m[rows], split.labels[rows]) == pytest.approx(trained.rmse, rel=1e-6)


def test_the_submission_has_the_ids_of_its_samples_and_finite_metres(trained, blobs, tmp_path):
    out = tmp_path / "submission.csv"
    line = submit([trained.checkpoint], blobs, "test", out)
    table = pd.read_csv(out)
    assert list(table.columns) == COLUMNS == ["ID", *(f"FINGER_POS_{number}" for number in range(1, 13))]
    split = open_pack(blobs).split("test")
    assert table["ID"].tolist() == split.ids.tolist()
    assert table.iloc[:, 1:].std().min() > 0, "constant predictions"
    rmse = rmse_m(table.iloc[:, 1:].to_numpy(), split.labels)
    assert line == f"{out}: 8 rows, RMSE against the split's labels {1000 * rmse:.3f} mm"


def test_predictions_go_with_their_ids_in_whatever_order_samples_lie(trained, blobs, tmp_path):
    split = open_pack(blobs).split("test")
    with PackWriter(tmp_path / "turned", {"test": len(split.ids)}, *split.rgb.shape[2:]) as writer:
        for index, row in enumerate(reversed(range(len(split.ids)))):
            writer.write("test", index, Sample(split.rgb[row], split.depth[row], int(split.ids[row])))
    tables = []
    for name, data in (("as it is", blobs), ("turned", tmp_path / "turned")):
        submit([trained.checkpoint], data, "test", tmp_path / f"{name}.csv")
        tables.append(pd.read_csv(tmp_path / f"{name}.csv").set_index("ID"))
    assert tables[1].index.tolist() == tables[0].index.tolist()[::-1]
    np.testing.assert_allclose(tables[1].loc[tables[0].index], tables[0], rtol=1e-5)


def test_several_checkpoints_are_averaged(trained, blobs, tmp_path):
    content = read_checkpoint(trained.checkpoint)
    content["model"] = {name: 0.9 * tensor for name, tensor in content["model"].items()}
    other = tmp_path / "other.pt"
    write_checkpoint(other, content)
    split = open_pack(blobs).split("test")
    one, two, both = (
        predict(paths, split, CPU) for paths in ([trained.checkpoint], [other], [trained.checkpoint, other])
    )
    np.testing.assert_allclose(both, (one + two) / 2, rtol=1e-12)


def test_images_of_another_size_are_refused(trained, tmp_path, pack_maker):
    other = open_pack(pack_maker(tmp_path / "larger", train=2, test=2, size=96)).split("test")
    with pytest.raises(DataError, match=r"trained on .* pack the data at 64 x 64 pixels"):
        predict([trained.checkpoint], other, CPU)


def test_a_training_state_is_refused(trained, blobs, tmp_path):
    path = tmp_path / "latest.pt"
    write_checkpoint(path, {"model": {}})
    with pytest.raises(CheckpointError, match="a training state, not weights to predict with; take best.pt"):
        predict([path], open_pack(blobs).split("test"), CPU)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(trained, blobs, tmp_path, damage):
    path = tmp_path / "best.pt"
    path.write_bytes(trained.checkpoint.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(CheckpointError, match="not a checkpoint, or a damaged one"):
        predict([path], open_pack(blobs).split("test"), CPU)


def test_weights_that_do_not_fit_are_named(trained, blobs, tmp_path):
    content = read_checkpoint(trained.checkpoint)
    name = next(iter(content["model"]))
    content["model"][name] = content["model"][name][:1]
    path = tmp_path / "best.pt"
    write_checkpoint(path, content)
    with pytest.raises(CheckpointError, match=rf"does not fit the model in 1 weights: {name} is \[1"):
        predict([path], open_pack(blobs).split("test"), CPU)
