"""The leaderboard: one row a run, as a pure function of the records on disk, and the winner in best.yaml.

Rank: within the same data, split and profile, by rmse_mean where a setting was confirmed, else by rmse;
ties by fewer GPU hours. Failed rows have no rank, nor have final ones: trained on all the data, they have no
honest RMSE.

Groups that cannot be compared stand one below the other: smoke runs last, else the group with the newest run
first, as that is what somebody works on. The winner comes from the first group, and in a study of which some
were confirmed from these. The runs of a confirmed setting share its mean; of these the best one wins.

    python -m pipeline.leaderboard --runs runs
"""

from __future__ import annotations

import argparse
import sys
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
COMPARABLE = ["_data", "split", "profile"]  # ranks are within these
IDENTITY = [
    "study",
    "trial",
    "config_hash",
]  # settle ties, so that the same records give the same table
SMOKE = "smoke"
SHOWN = 10  # rows that the command prints
UNRANKED_KINDS = {"final"}


def ranked(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with `rank` filled and its rows in order."""
    import pandas as pd

    score = frame["rmse_mean"].astype(float).fillna(frame["rmse"].astype(float))
    honest = score.notna() & (frame["status"] != "failed") & ~frame["kind"].isin(UNRANKED_KINDS)
    order = _with_fingerprints(frame).assign(_score=score.where(honest), _smoke=frame["profile"] == SMOKE)
    order["_newest"] = order.groupby(COMPARABLE, dropna=False)["started"].transform("max")
    keys = ["_smoke", "_newest", *COMPARABLE, "_score", "gpu_hours", *IDENTITY]
    order = order.sort_values(keys, ascending=[key != "_newest" for key in keys], na_position="last")
    position = order[order["_score"].notna()].groupby(COMPARABLE, dropna=False).cumcount() + 1
    order["rank"] = pd.Series(position, index=order.index, dtype="Int64")
    return order[COLUMNS].reset_index(drop=True)


def winner(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The row that stands first of those whose checkpoint is on disk; None before there is one.

    In a study of which some were confirmed, the others do not win: theirs may have been luck. Of the runs of
    a confirmed setting, it is the one that reached its end with the lowest error.
    """
    usable = _with_fingerprints(frame[frame["rank"].notna() & frame["checkpoint"].notna()])
    if usable.empty:
        return None
    compared = usable[usable.groupby(COMPARABLE, dropna=False, sort=False).ngroup() == 0]
    confirmed = compared["rmse_mean"].notna()
    lucky = compared["study"].isin(compared.loc[confirmed, "study"]) & ~confirmed
    row = _runs_of_the_first(compared[~lucky]).iloc[0]
    return {key: _plain(row[key]) for key in COLUMNS}


def _runs_of_the_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The first row; if it was confirmed, all runs of its setting, the best one first."""
    setting = rows[rows["rmse_mean"] == rows["rmse_mean"].iloc[0]]
    runs: pd.DataFrame = setting.assign(_cut_off=setting["status"] != "completed")
    return rows[:1] if runs.empty else runs.sort_values(["_cut_off", "rmse"])


def origin(row: dict[str, Any]) -> str:
    """Which run a row is of."""
    return f"trial {row['trial']} of study {row['study']}" if row["study"] else f"run {row['config_hash']}"


def _with_fingerprints(frame: pd.DataFrame) -> pd.DataFrame:
    """With `_data`: what is left of `data` where a folder was renamed."""
    return frame.assign(_data=[str(name).rpartition("@")[2] for name in frame["data"]])


def _plain(value: Any) -> Any:
    import pandas as pd

    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def table(workspace: Workspace) -> pd.DataFrame:
    """The leaderboard; what cannot be read is left out, with a line on stderr that names it."""
    import pandas as pd

    from pipeline.leaderboard_rows import rows

    readable, problems = rows(workspace)
    for problem in problems:
        print(f"left out of the leaderboard: {problem}", file=sys.stderr)
    frame = pd.DataFrame(readable, columns=COLUMNS)
    return ranked(frame.astype(dict.fromkeys(WHOLE_NUMBERS, "Int64")))


def write(frame: pd.DataFrame, workspace: Workspace, out: Path | None = None) -> None:
    """Writes leaderboard.csv (or `out`) and best.yaml, each in one step."""
    from pipeline.leaderboard_rows import best_of_row, write_best
    from pipeline.paths import write_text_atomically

    write_text_atomically(out or workspace.leaderboard, frame.to_csv(index=False))
    row = winner(frame)
    if row is None:
        workspace.best.unlink(missing_ok=True)
    else:
        write_best(workspace.best, best_of_row(row))


def refresh(workspace: Workspace, out: Path | None = None) -> pd.DataFrame:
    """Rebuilds leaderboard.csv (or `out`) and best.yaml; returns the table."""
    frame = table(workspace)
    write(frame, workspace, out)
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


def best_rows(frame: pd.DataFrame) -> str:
    """The first ranked rows for a person; errors are the means of confirmed settings, else of the one run."""
    from pipeline.units import to_mm

    rows = frame[frame["rank"].notna()].head(SHOWN)
    rmse = rows["rmse_mean"].astype(float).fillna(rows["rmse"].astype(float))
    told = rows[["rank", "study", "trial", "kind", "status", "epochs", "n_seeds"]]
    table = told.assign(**{"rmse, mm": [f"{to_mm(error):.3f}" for error in rmse]})
    return str(table.to_string(index=False, na_rep="-"))


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    from pipeline.errors import StudyError
    from pipeline.paths import Workspace

    workspace = Workspace(arguments.runs.resolve())
    if not workspace.root.is_dir():
        raise StudyError(f"{workspace.root}: no such folder; give the one that --runs named in the search")
    frame = refresh(workspace, arguments.out)
    print(f"{arguments.out or workspace.leaderboard}: {len(frame)} runs")
    if frame["rank"].notna().any():
        print(best_rows(frame))
    if (row := winner(frame)) is not None:
        print(f"winner: {workspace.best}, {origin(row)}")


if __name__ == "__main__":
    cli.run(main)
