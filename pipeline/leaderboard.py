"""The leaderboard: one row a run, as a pure function of the records on disk, and the winner in best.yaml.

Rank: within the same data, split and profile, by rmse_mean where a setting was confirmed, else by rmse;
ties by fewer GPU hours. Failed rows have no rank, nor have final ones: trained on all the data, they have no
honest RMSE.

    python -m pipeline.leaderboard --runs runs
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cli

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.paths import Workspace

COLUMNS = [
    "rank",
    "study",
    "model",
    "arch",
    "trial",
    "kind",
    "profile",
    "data",
    "split",
    "status",
    "reason",
    "rmse",
    "rmse_last",
    "rmse_mean",
    "rmse_std",
    "n_seeds",
    "best_epoch",
    "epochs",
    "rung",
    "lr",
    "batch_size",
    "weight_decay",
    "scheduler",
    "optimizer",
    "loss",
    "pretrained",
    "seed",
    "micro_batch",
    "precision",
    "params",
    "images_per_s",
    "gpu_hours",
    "gpu_util",
    "data_wait",
    "peak_memory_gb",
    "slurm_job",
    "node",
    "started",
    "finished",
    "commit",
    "config_hash",
    "checkpoint",
]
WHOLE_NUMBERS = [
    "rank",
    "trial",
    "n_seeds",
    "best_epoch",
    "epochs",
    "rung",
    "batch_size",
    "micro_batch",
    "params",
]
COMPARABLE = ["data", "split", "profile"]  # ranks are within these
UNRANKED_KINDS = {"final"}


def table(workspace: Workspace) -> pd.DataFrame:
    """Every run on disk with its rank, best first; cells are empty where nothing is known."""
    import pandas as pd

    from pipeline.leaderboard_rows import rows

    frame = pd.DataFrame(rows(workspace), columns=COLUMNS)
    frame[WHOLE_NUMBERS] = frame[WHOLE_NUMBERS].astype("Int64")
    return ranked(frame)


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `rank` filled and rows in order: the groups by profile and best score, then by rank."""
    import pandas as pd

    score = frame["rmse_mean"].astype(float).fillna(frame["rmse"].astype(float))
    honest = score.notna() & (frame["status"] != "failed") & ~frame["kind"].isin(UNRANKED_KINDS)
    order = frame.assign(_score=score.where(honest))
    order["_best"] = order.groupby(COMPARABLE, dropna=False)["_score"].transform("min")
    keys = ["profile", "_best", *COMPARABLE, "_score", "gpu_hours", "study", "trial", "config_hash"]
    order = order.sort_values(keys, na_position="last", kind="stable")
    position = order[order["_score"].notna()].groupby(COMPARABLE, dropna=False).cumcount() + 1
    order["rank"] = pd.Series(position, index=order.index, dtype="Int64")
    return order[list(COLUMNS)].reset_index(drop=True)


def winner(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The best-ranked row whose checkpoint is on disk; None before there is one."""
    usable = frame[frame["rank"].notna() & frame["checkpoint"].notna()]
    if usable.empty:
        return None
    row = usable.iloc[0]
    return {key: _plain(row[key]) for key in COLUMNS}


def _plain(value: Any) -> Any:
    import pandas as pd

    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def refresh(workspace: Workspace, out: Path | None = None) -> pd.DataFrame:
    """Rebuilds leaderboard.csv (or `out`) and best.yaml, each in one step; returns the table."""
    import yaml

    from pipeline.leaderboard_rows import best_document
    from pipeline.paths import write_text_atomically

    frame = table(workspace)
    write_text_atomically(out or workspace.leaderboard, frame.to_csv(index=False))
    best = winner(frame)
    if best is not None:
        write_text_atomically(workspace.best, yaml.safe_dump(best_document(best), sort_keys=False))
    return frame


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipeline.leaderboard`."""
    parser = cli.parser(
        "python -m pipeline.leaderboard",
        "Rebuilds RUNS/leaderboard.csv and RUNS/best.yaml from the records on disk.",
        "  python -m pipeline.leaderboard\n  python -m pipeline.leaderboard --runs runs --out table.csv",
    )
    cli.add_runs(parser)
    parser.add_argument("--out", type=Path, metavar="CSV", help="the table (default: RUNS/leaderboard.csv)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    from pipeline.paths import Workspace

    workspace = Workspace(arguments.runs)
    frame = refresh(workspace, arguments.out)
    print(f"{arguments.out or workspace.leaderboard}: {len(frame)} runs")


if __name__ == "__main__":
    cli.run(main)
