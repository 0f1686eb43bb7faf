"""A study whose driver is killed goes on as if nothing had been; training and workers are played."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from pipeline.config import Experiment
from pipeline.paths import StudyPaths
from pipeline.records import Drawn, Ended, Lost, Record, Revived
from pipeline.trials import fold
from tests.tune.soundness import assert_reproduced, assert_sound, decided
from tests.tune.standin import Crew
from tune.journal import Journal, MemoryJournal
from tune.ranking import most_trusted
from tune.study import Study

MakeExperiment = Callable[..., Experiment]
SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"trials": 12, "share": 1},
    "part": {"trials": 14, "share": 0.6},
    "tpe": {"trials": 14, "share": 1, "sampler": "tpe"},
    "confirm": {"trials": 9, "share": 1, "confirm": 2},
}
SEEDS = 10


class KilledError(Exception):
    """The driver dies right after a record reached the disk."""


def killed_after(records: float) -> Callable[[Study, Record], None]:
    """A listener that kills the driver once so many records more were written."""
    written = count(1)

    def listen(study: Study, record: Record) -> None:
        if next(written) >= records and not study.complete:
            raise KilledError

    return listen


def opened(experiment: Experiment, journal: Journal | MemoryJournal, kill_after: float = math.inf) -> Study:
    clock = count(len(journal.read()))
    return Study("s", experiment, journal, killed_after(kill_after), clock=lambda: float(next(clock)))


def best(records: Sequence[Record]) -> tuple[int, float | None]:
    found = most_trusted(fold(records))
    assert found is not None
    return found.number, found.best_rmse


def undisturbed(experiment: Experiment) -> MemoryJournal:
    journal = MemoryJournal()
    Crew(opened(experiment, journal), workers=1).work()
    assert_sound(journal, experiment.search)
    return journal


def killed_again_and_again(experiment: Experiment, workers: int, seed: int) -> tuple[MemoryJournal, int]:
    """A study whose driver dies after one to thirty records, as often as it takes; and how often it died."""
    journal, draw, kills = MemoryJournal(), random.Random(seed), 0
    while True:
        try:
            Crew(opened(experiment, journal, draw.randint(1, 30)), workers, draw).work()
        except KilledError:
            kills += 1
            assert_reproduced(journal, experiment.search)
        else:
            return journal, kills


@pytest.mark.parametrize("name", SEARCHES)
def test_with_one_worker_a_restart_after_any_record_changes_nothing(
    experiment: MakeExperiment, name: str
) -> None:
    settings = experiment(**SEARCHES[name])
    whole = undisturbed(settings)
    assert sum(isinstance(record, Revived) for record in whole) > 2
    for cut in range(len(whole)):
        journal = MemoryJournal(whole[:cut])
        Crew(opened(settings, journal), workers=1).work()
        assert decided(journal) == decided(whole), f"cut after {cut} of {len(whole)} records"
        assert best(journal) == best(whole)
    print(f"{name}: {len(whole)} records, a restart after each")


def test_the_searches_have_all_that_a_restart_could_get_wrong(experiment: MakeExperiment) -> None:
    records = [record for search in SEARCHES.values() for record in undisturbed(experiment(**search))]
    sources = {record.source for record in records if isinstance(record, Drawn)}
    assert sources == {"configured", "random", "tpe", "confirm"}
    assert {record.to_end for record in records if isinstance(record, Revived)} == {True, False}
    assert {record.status for record in records if isinstance(record, Ended)} == {"completed", "failed"}
    assert any(isinstance(record, Lost) for record in records)


def test_a_torn_last_line_changes_nothing_either(experiment: MakeExperiment, paths: StudyPaths) -> None:
    settings = experiment(trials=3, share=1)
    whole = undisturbed(settings)
    for cut, torn in enumerate(whole):
        line = torn.line()
        paths.root.mkdir(parents=True, exist_ok=True)
        paths.journal.write_text(
            "".join(r.line() for r in whole[:cut]) + line[: len(line) * cut // len(whole)]
        )
        with Journal(paths) as journal:
            Crew(opened(settings, journal), workers=1).work()
        assert decided(journal.read()) == decided(whole), f"torn in record {cut} of {len(whole)}"


@pytest.mark.parametrize("name", SEARCHES)
def test_with_one_worker_any_number_of_kills_changes_nothing(experiment: MakeExperiment, name: str) -> None:
    settings = experiment(**SEARCHES[name])
    whole = undisturbed(settings)
    for seed in range(SEEDS):
        journal, kills = killed_again_and_again(settings, 1, seed)
        assert kills > 2
        assert decided(journal) == decided(whole), f"seed {seed}, {kills} kills"
        assert best(journal) == best(whole)


@pytest.mark.parametrize("name", SEARCHES)
def test_with_four_workers_the_journal_tells_every_decision_after_any_number_of_kills(
    experiment: MakeExperiment, name: str
) -> None:
    settings = experiment(**SEARCHES[name])
    for seed in range(SEEDS):
        journal, kills = killed_again_and_again(settings, 4, seed)
        assert kills > 2
        assert_sound(journal, settings.search)
