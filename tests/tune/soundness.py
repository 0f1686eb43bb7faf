"""What must hold of every journal, however often its driver was killed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.config import SearchConfig
from pipeline.records import Ended, Epoch, Held, Record, Revived, Started
from pipeline.trials import fold
from tune.asha import Rungs
from tune.chances import Chances


def assert_sound(records: Sequence[Record], search: SearchConfig) -> None:
    """The study is over, nothing of it is lost or doubled, and a replay makes every decision again."""
    assert_reproduced(records, search)
    trials = fold(records)
    assert sorted(trials) == list(range(len(trials)))
    assert sum(trial.confirms is None for trial in trials.values()) == search.trials
    assert not any(trial.unfinished for trial in trials.values())
    for trial in trials.values():
        assert sorted(trial.epochs) == list(range(1, len(trial.epochs) + 1))
        assert trial.status != "completed" or len(trial.epochs) == search.epochs


def assert_reproduced(records: Sequence[Record], search: SearchConfig) -> None:
    """No epoch and no end twice; rungs and chances decide as it stands in the journal."""
    epochs = [(record.trial, record.epoch) for record in records if isinstance(record, Epoch)]
    assert len(set(epochs)) == len(epochs)
    ends = [record.trial for record in records if isinstance(record, Ended) and record.reason != "BUDGET"]
    assert len(set(ends)) == len(ends)
    rungs, chances = Rungs.of(search), Chances(search)
    for record in records:
        if isinstance(record, Epoch):
            verdict = rungs.decide(record.trial, record.epoch, record.rmse)
            assert (verdict.decision, verdict.rung) == (record.decision, record.rung)
        if isinstance(record, Revived):
            chance = chances.next()
            assert chance is not None
            assert (chance.trial, chance.to_end) == (record.trial, record.to_end)
        rungs.take(record)
        chances.take(record)


def decided(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What was decided and what came out, in order; not when, nor by which attempt or worker."""
    hidden = {"time", "attempt", "seconds"}
    return [
        {"event": record.event} | {key: value for key, value in asdict(record).items() if key not in hidden}
        for record in records
        if not isinstance(record, Started | Held)
    ]
