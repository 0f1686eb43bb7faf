"""Predictions of one or several checkpoints, averaged, as the competition's submission file.

Preprocessing comes from each checkpoint, never from today's defaults; ids travel with the samples.

    python -m pipeline.predict --checkpoint runs/final/x/final.pt --data packed --out submission.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cli
from pipeline.data.channels import COORDINATES
from pipeline.errors import CheckpointError, DataError
from pipeline.units import to_metres, to_mm

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from pipeline.config import ModelConfig
    from pipeline.data.pack import PackedSplit

BATCH_SIZE = 32
COLUMNS = ["ID", *(f"FINGER_POS_{number}" for number in range(1, COORDINATES + 1))]


def predict(checkpoints: Sequence[Path], split: PackedSplit, device: torch.device) -> NDArray[np.float64]:
    """Fingertips in metres, float64 [N, 12], in the order of `split`: the mean over the checkpoints.

    Raises CheckpointError for a file that cannot be used, DataError if the images have another size than
    the checkpoint was trained on.
    """
    import numpy as np

    predictions = [_predict_one(checkpoint, split, device) for checkpoint in checkpoints]
    mean_m: NDArray[np.float64] = np.mean(predictions, axis=0)
    return mean_m


def _predict_one(path: Path, split: PackedSplit, device: torch.device) -> NDArray[np.float64]:
    import numpy as np
    import torch

    from pipeline.config import RunConfig
    from pipeline.configfile import validated
    from pipeline.data.dataset import Samples, eval_batches
    from pipeline.data.transforms import Preprocess
    from pipeline.device import autocast

    content = _read(path)
    preprocess = Preprocess.from_dict(content["preprocess"])
    config = validated(RunConfig, content["config"])
    model = _model(config.model, preprocess.height, content["model"], path).to(device)
    samples = Samples(split, np.arange(len(split.ids)), device)
    parts = []
    with torch.inference_mode():
        for rows in eval_batches(len(samples), BATCH_SIZE):
            batch = samples.batch(rows)
            with autocast(device, config.train.precision):
                predicted_mm_B12 = model(preprocess(batch.rgb_B9HW, batch.depth_mm_B3HW))
            parts.append(predicted_mm_B12.double().cpu())
    predicted_m: NDArray[np.float64] = to_metres(torch.cat(parts)).numpy()
    return predicted_m


def _read(path: Path) -> dict[str, Any]:
    from pipeline.checkpoint import read_checkpoint

    content = read_checkpoint(path)
    if "preprocess" not in content:
        raise CheckpointError(
            f"{path}: a training state, not weights to predict with; take best.pt or final.pt"
        )
    return content


def _model(config: ModelConfig, size: int, weights: dict[str, Any], path: Path) -> torch.nn.Module:
    from pipeline.checkpoint import load_weights
    from pipeline.models import build

    model = build(config.name, small=config.small, size=size)
    load_weights(model, weights, path)
    return model.eval()


def rmse_m(predicted_m_N12: NDArray[np.float64], labels_m_N12: NDArray[np.float64]) -> float:
    """Root mean square error over all numbers, in metres."""
    import numpy as np

    return float(np.sqrt(np.mean((predicted_m_N12 - labels_m_N12) ** 2)))


def write_submission(path: Path, ids_N: NDArray[np.int64], predicted_m_N12: NDArray[np.float64]) -> None:
    """Writes `ID, FINGER_POS_1..12` in metres, one row a sample, atomically.

    Raises CheckpointError if a prediction is not finite.
    """
    import numpy as np
    import pandas as pd

    from pipeline.paths import write_text_atomically

    if not np.isfinite(predicted_m_N12).all():
        raise CheckpointError(f"{path}: not written: predictions are not finite; the checkpoint has diverged")
    table = pd.DataFrame(predicted_m_N12, columns=COLUMNS[1:])
    table.insert(0, COLUMNS[0], ids_N)
    write_text_atomically(path, table.to_csv(index=False))


def submit(checkpoints: Sequence[Path], data: Path, split_name: str, out: Path) -> str:
    """Predicts a split, writes the file and returns a line about it, with the RMSE if there are labels."""
    import torch

    from pipeline.data.pack import open_pack

    split = open_pack(data).split(split_name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predicted_m = predict(checkpoints, split, device)
    write_submission(out, split.ids, predicted_m)
    if split.labels is None:
        return f"{out}: {len(split.ids)} rows"
    rmse = rmse_m(predicted_m, split.labels)
    return f"{out}: {len(split.ids)} rows, RMSE against the split's labels {to_mm(rmse):.3f} mm"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipeline.predict`."""
    parser = cli.parser(
        "python -m pipeline.predict",
        "Predicts fingertips with one or several checkpoints (averaged) and writes a\nsubmission file.",
        "  python -m pipeline.predict --checkpoint a/final.pt --data packed --out a.csv\n"
        "  python -m pipeline.predict --checkpoint a.pt b.pt --data packed --out mean.csv",
    )
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", required=True, metavar="F", help="best.pt or final.pt"
    )
    cli.add_data(parser, "required")
    parser.add_argument("--split", default="test", help="test (default) or train")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the file to write")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.data is None:
        raise DataError("no data set: give --data DIR or set PIPELINE_DATA")
    print(submit(arguments.checkpoint, arguments.data, arguments.split, arguments.out))


if __name__ == "__main__":
    cli.run(main)
