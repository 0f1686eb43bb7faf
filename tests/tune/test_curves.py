import math
from pathlib import Path

import pytest

from pipeline.errors import DataError
from tune.curves import Curve, make_table, read_table, write_table

HEAD = "lr,epoch,rmse,seconds\n"


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    curves = [
        Curve({"lr": "0.1", "warmup": "2"}, (0.5, 0.25), (0.75, 0.125), (1.0, 2.0)),
        Curve({"lr": "0.2", "warmup": "0"}, (math.nan,), (math.nan,), (1.0,)),
    ]
    write_table(tmp_path / "t.csv", curves)
    read = read_table(tmp_path / "t.csv")
    assert read.curves[0] == curves[0]
    assert (read.curves[0].warmup, read.curves[1].warmup) == (2, 0)
    assert len(read.curves[1].rmse) == 1
    assert (read.epochs, read.total_epochs, read.best, read.lowest) == (2, 3, 0, 0.125)


def test_a_setting_is_worth_the_better_of_its_weights_and_their_average() -> None:
    curve = Curve({}, (0.5, 0.2), (0.4, 0.3), (1.0, 1.0))
    assert curve.metric("best") == (0.4, 0.2)
    assert curve.metric("rmse_ema") == (0.4, 0.3)
    assert curve.lowest == 0.2


def test_without_averages_the_weights_own_error_counts(tmp_path: Path) -> None:
    read = read_table(table(tmp_path / "t.csv", HEAD + "1,1,0.5,1\n1,2,0.4,1\n"))
    assert read.curves[0].metric("best") == (0.5, 0.4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr,epoch,rmse\n1,1,0.5\n", "no column seconds; found: lr, epoch, rmse. A row is one epoch"),
        (HEAD, "has no rows"),
        ("epoch,rmse,seconds\n1,0.5,1\n", "no column describes the settings"),
        (HEAD + "1,1,0.5,1\n1,3,0.5,1\n", "setting lr 1: epoch 3 follows 1; epochs are 1, 2, 3"),
        (HEAD + "1,1,0.5,1\n1,1,0.5,1\n", "setting lr 1: epoch 1 is there twice"),
        (HEAD + "1,1,low,1\n", "setting lr 1: rmse is 'low', not a number"),
        (HEAD + "1,1,0.5,0\n", "setting lr 1: seconds must be above zero"),
        (HEAD + "1,1,0.5\n", "line 2: has another number of fields"),
        (HEAD + "1,1,0.5,1\n1,2,0.5,1\n2,1,0.5,1\n", "setting lr 2 has 1 epochs, others 2; only one that"),
        (HEAD + "1,1,nan,1\n", "no setting has a finite error"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path / "t.csv", text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv: cannot be read"):
        read_table(tmp_path / "none.csv")


def test_a_diverged_setting_may_end_early() -> None:
    whole = Curve({"lr": 1}, (0.5, 0.4), (), (1.0, 1.0))
    assert make_table("t", [whole, Curve({"lr": 2}, (math.nan,), (), (1.0,))]).total_epochs == 3
