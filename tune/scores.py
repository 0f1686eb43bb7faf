"""What simulated searches cost and found, over the seeds of a policy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tune.asha import quantile
from tune.curves import Table
from tune.simulate import Find, Trace

CLOSE = 0.02  # within 2% of the best is as good as found
BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the table's epochs
QUARTILES = (0.25, 0.5, 0.75)
ROUNDING = 1e-9


@dataclass(frozen=True)
class Score:
    """A policy over its seeds. Quartiles are inf where too few seeds got there; regret is relative.

    `missed`: in how many seeds nothing within 2% of the table's best error was found; `lost`: in how many
    the best network of the table was not; at half of the table's epochs, and when the search had ended.
    `busy`: the part of the time that workers were there in which they trained.
    """

    policy: str
    seeds: int
    epochs_to_close: tuple[float, ...]
    worker_seconds_to_close: tuple[float, ...]
    seconds_to_close: tuple[float, ...]
    regret: dict[float, float]
    missed_at_half: int
    missed: int
    lost_at_half: int
    lost: int
    epochs: float
    seconds: float
    busy: float

    def as_tree(self) -> dict[str, Any]:
        """Plain values for JSON, where what is infinite becomes null."""
        tree = asdict(self)
        tree["regret"] = {f"{budget:g}": value for budget, value in self.regret.items()}
        found: dict[str, Any] = _finite(tree)
        return found


def score(policy: str, traces: Sequence[Trace], table: Table) -> Score:
    """The summary of a policy's traces, one a seed."""
    close = [_first(trace, table.lowest * (1 + CLOSE)) for trace in traces]
    exact = [_first(trace, table.lowest * (1 + ROUNDING)) for trace in traces]
    half = table.total_epochs / 2
    return Score(
        policy=policy,
        seeds=len(traces),
        epochs_to_close=_quartiles(close, lambda find: find.epochs),
        worker_seconds_to_close=_quartiles(close, lambda find: find.worker_seconds),
        seconds_to_close=_quartiles(close, lambda find: find.clock),
        regret={budget: _median(_regrets(traces, table, budget)) for budget in BUDGETS},
        missed_at_half=_missing(close, half),
        missed=_missing(close),
        lost_at_half=_missing(exact, half),
        lost=_missing(exact),
        epochs=_median([trace.epochs for trace in traces]),
        seconds=_median([trace.clock for trace in traces]),
        busy=_median([trace.worker_seconds / (trace.present_seconds or math.inf) for trace in traces]),
    )


def _first(trace: Trace, rmse: float) -> Find | None:
    """The first find that is at least as good."""
    return next((find for find in trace.finds if find.rmse <= rmse), None)


def _missing(finds: Sequence[Find | None], epochs: float = math.inf) -> int:
    return sum(find is None or find.epochs > epochs for find in finds)


def _regrets(traces: Sequence[Trace], table: Table, budget: float) -> Iterator[float]:
    """How far above the table's best error each trace was after that part of its epochs."""
    epochs = budget * table.total_epochs if budget < 1 else math.inf  # repeated epochs may need more
    for trace in traces:
        found = min((find.rmse for find in trace.finds if find.epochs <= epochs), default=math.inf)
        yield found / table.lowest - 1


def _quartiles(finds: Sequence[Find | None], measure: Callable[[Find], float]) -> tuple[float, ...]:
    values = sorted(math.inf if find is None else measure(find) for find in finds)
    return tuple(_quantile(values, fraction) for fraction in QUARTILES)


def _median(values: Sequence[float] | Iterator[float]) -> float:
    return _quantile(sorted(values), 0.5)


def _quantile(ascending: list[float], fraction: float) -> float:
    """Interpolated where both neighbours are finite; inf where either is not."""
    neighbour = ascending[math.ceil((len(ascending) - 1) * fraction)]
    return quantile(ascending, fraction) if math.isfinite(neighbour) else math.inf


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
