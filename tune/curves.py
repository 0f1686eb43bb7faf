"""A table of recorded learning curves: what a replay trains instead of networks.

One row for each setting and epoch. The columns `epoch` (from 1), `rmse` (validation, metres) and `seconds`
(of the epoch) are needed, `rmse_ema` (of the averaged weights) may be there; all others are the setting, of
which `warmup` is known: the epochs of the learning rate's warm-up. A setting whose last error is nan has
diverged there and may end early; every other one has all epochs. Plain csv: no torch, no pandas.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import DataError

NEEDED = ("epoch", "rmse", "seconds")
MEASURED = (*NEEDED, "rmse_ema")
Metric = Literal["rmse", "rmse_ema", "best"]
METRICS: dict[str, Metric] = {"rmse": "rmse", "rmse_ema": "rmse_ema", "best": "best"}
Values = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """One setting: its values, and per epoch the errors in metres (nan: diverged) and the seconds."""

    values: Values
    rmse: tuple[float, ...]
    rmse_ema: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def warmup(self) -> int:
        """The epochs in which the learning rate still rises."""
        return int(float(self.values.get("warmup", 0)))

    def metric(self, name: Metric) -> tuple[float, ...]:
        """The errors of the weights, of their average, or the smaller of the two."""
        if name == "best" and self.rmse_ema:
            return tuple(map(min, self.rmse, self.rmse_ema))
        return self.rmse_ema if name == "rmse_ema" else self.rmse

    @property
    def lowest(self) -> float:
        """The smallest error of any epoch, which is what the setting is worth; inf if it has none."""
        return min((error for error in self.metric("best") if math.isfinite(error)), default=math.inf)


@dataclass(frozen=True)
class Table:
    """All curves of a file, `epochs` long where they did not diverge."""

    name: str
    curves: tuple[Curve, ...]
    epochs: int
    best: int = field(init=False)

    def __post_init__(self) -> None:
        lowest = [curve.lowest for curve in self.curves]
        object.__setattr__(self, "best", lowest.index(min(lowest)))

    @property
    def total_epochs(self) -> int:
        """What training every setting costs."""
        return sum(len(curve.rmse) for curve in self.curves)

    @property
    def lowest(self) -> float:
        """The best setting's error, metres."""
        return self.curves[self.best].lowest

    @property
    def has_average(self) -> bool:
        """Whether the averaged weights' errors are known."""
        return bool(self.curves[0].rmse_ema)


def read_table(path: Path) -> Table:
    """The table of a CSV file. Raises DataError saying what is wrong with which line or setting."""
    rows = _read_rows(path)
    grouped: dict[tuple[str, ...], list[dict[str, str]]] = {}
    setting = [column for column in rows[0] if column not in MEASURED]
    if not setting:
        raise DataError(f"{path}: no column describes the settings; only {', '.join(rows[0])}")
    for row in rows:
        grouped.setdefault(tuple(row[column] for column in setting), []).append(row)
    curves = [_curve(path, dict(zip(setting, key, strict=True)), own) for key, own in grouped.items()]
    return make_table(path.name, curves)


def make_table(name: str, curves: Sequence[Curve]) -> Table:
    """A table of curves of equal length; diverged ones may be shorter. Raises DataError otherwise."""
    epochs = max(len(curve.rmse) for curve in curves)
    for curve in curves:
        if len(curve.rmse) < epochs and math.isfinite(curve.metric("best")[-1]):
            raise DataError(
                f"{name}: setting {describe(curve.values)} has {len(curve.rmse)} epochs, others {epochs}; "
                "only one that diverged (its last error is nan) may be shorter"
            )
    if not any(math.isfinite(curve.lowest) for curve in curves):
        raise DataError(f"{name}: no setting has a finite error")
    return Table(name, tuple(curves), epochs)


def write_table(path: Path, curves: Iterable[Curve]) -> None:
    """Writes curves as `read_table` reads them, errors to the micrometre."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, curve in enumerate(curves):
            average = [f"{error:.6f}" for error in curve.rmse_ema]
            if number == 0:
                names = ["epoch", "rmse", *(["rmse_ema"] if average else []), "seconds"]
                writer.writerow([*curve.values, *names])
            for index, (rmse, seconds) in enumerate(zip(curve.rmse, curve.seconds, strict=True)):
                measured = [index + 1, f"{rmse:.6f}", *average[index : index + 1], f"{seconds:.2f}"]
                writer.writerow([*curve.values.values(), *measured])


def describe(values: Values) -> str:
    """A setting in one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [_whole(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from None
    columns = reader.fieldnames or ()
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise DataError(
            f"{path}: no column {', '.join(missing)}; found: {found}. A row is one epoch of one setting: "
            "epoch, rmse (metres), seconds, rmse_ema where known, and the setting's own columns"
        )
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def _whole(path: Path, line: int, row: dict[str, Any]) -> dict[str, str]:
    if None in row or None in row.values():
        raise DataError(f"{path}, line {line}: has another number of fields than the first line")
    return row


def _curve(path: Path, values: Values, rows: list[dict[str, str]]) -> Curve:
    where = f"{path}: setting {describe(values)}"
    rows = sorted(rows, key=lambda row: _number(where, row, "epoch"))
    epochs = [_number(where, row, "epoch") for row in rows]
    for expected, epoch in enumerate(epochs, start=1):
        if epoch != expected:
            what = "is there twice" if expected > 1 and epoch == expected - 1 else f"follows {expected - 1}"
            raise DataError(f"{where}: epoch {epoch:g} {what}; epochs are 1, 2, 3, ... without a gap")
    seconds = tuple(_number(where, row, "seconds") for row in rows)
    if not all(0 < second < math.inf for second in seconds):
        raise DataError(f"{where}: seconds must be above zero in every epoch")
    return Curve(
        values,
        tuple(_number(where, row, "rmse") for row in rows),
        tuple(_number(where, row, "rmse_ema") for row in rows) if "rmse_ema" in rows[0] else (),
        seconds,
    )


def _number(where: str, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise DataError(f"{where}: {column} is {row[column]!r}, not a number") from None
