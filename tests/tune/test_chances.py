import random

import pytest

from pipeline.config import SearchConfig
from pipeline.records import Drawn, Ended, Epoch, Record, Revived
from tune.chances import Chance, Chances, lot


def search(share: float = 1.0, chances: int = 8) -> SearchConfig:
    return SearchConfig(  # rungs at 1, 3
        trials=4, epochs=9, grace=1, reduction=3, share=share, chances=chances
    )


def epoch(trial: int, number: int, rmse: float, stop: bool = False) -> Epoch:
    decision = "stop" if stop else "continue"
    return Epoch(trial=trial, attempt=1, epoch=number, rmse=rmse, seconds=1, decision=decision, rung=None)


def completed(trial: int, errors: list[float]) -> list[Record]:
    epochs: list[Record] = [epoch(trial, number, rmse) for number, rmse in enumerate(errors, start=1)]
    return [*epochs, Ended(trial=trial, status="completed")]


def test_nobody_stopped_nobody_waits() -> None:
    assert Chances.from_journal(search(), [epoch(0, 1, 0.5)]).next() is None


def test_the_most_promising_goes_on_to_its_next_rung() -> None:
    stopped = [epoch(1, 1, 0.6, stop=True), epoch(2, 1, 0.5, stop=True), epoch(3, 1, 0.7, stop=True)]
    assert Chances.from_journal(search(), stopped).next() == Chance(trial=2, to_end=False, epochs=2)


def test_errors_at_different_rungs_are_compared_by_what_completed_trials_gained() -> None:
    late = [epoch(1, 1, 0.9), epoch(1, 2, 0.6), epoch(1, 3, 0.5, stop=True)]
    early = [epoch(2, 1, 0.7, stop=True)]
    halved_after_the_first = completed(0, [0.4, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])
    assert Chances.from_journal(search(), late + early).next() == Chance(1, to_end=False, epochs=6)
    assert Chances.from_journal(search(), halved_after_the_first + late + early).in_line(0) == [2, 1]


def test_chances_by_lot_lead_to_the_end_and_come_more_often_the_more_is_spent() -> None:
    trials = range(1, 33)
    chances = Chances(SearchConfig(trials=32, epochs=9, grace=1, share=1))
    for record in (epoch(trial, 1, 0.1 * trial, stop=True) for trial in trials):
        chances.take(record)
    given = []
    while (chance := chances.next()) is not None:
        given.append(chance)
        chances.take(Revived(trial=chance.trial, to_end=chance.to_end))
        for number in range(10 - chance.epochs if chance.to_end else 2, 10):
            chances.take(epoch(chance.trial, number, 0.05))
        chances.take(Ended(trial=chance.trial, status="completed"))
    by_lot = [chance for chance in given if chance.to_end]
    assert given[0] == Chance(1, to_end=False, epochs=2)
    assert by_lot[0] == Chance(min(set(trials) - {1}, key=lot), to_end=True, epochs=8)
    halves = [sum(chance.to_end for chance in half) for half in (given[:16], given[16:])]
    assert 0 < halves[0] < halves[1]


def test_the_configured_trial_is_the_first_by_lot() -> None:
    assert min(range(100), key=lot) == 0


@pytest.mark.parametrize(("share", "given"), [(0, False), (4 / 36, False), (5 / 36, True)])
def test_a_chance_is_given_only_if_the_share_reaches_for_it(share: float, given: bool) -> None:
    stopped = [epoch(trial, 1, 0.5, stop=True) for trial in (0, 1, 2)]  # 3 epochs; 2 to the next rung
    assert (Chances.from_journal(search(share), stopped).next() is not None) == given


@pytest.mark.parametrize(("share", "going_on"), [(0.0, 0), (0.1, 3)])
def test_gpu_hours_are_used_beyond_the_share(share: float, going_on: int) -> None:
    stopped: list[Record] = [epoch(trial, 1, 0.5, stop=True) for trial in (0, 1, 2)]
    given = search(share).model_copy(update={"gpu_hours": 10.0})
    assert Chances.from_journal(given, stopped).affordable() == going_on


def test_what_running_chances_will_cost_is_spoken_for() -> None:
    stopped: list[Record] = [epoch(trial, 1, 0.5, stop=True) for trial in (0, 1, 2)]
    chances = Chances.from_journal(search(6 / 36), [*stopped, Revived(trial=0, to_end=False)])
    assert chances.next() is None
    chances.take(Ended(trial=0, status="failed", reason="DIVERGED"))
    assert chances.next() == Chance(trial=1, to_end=False, epochs=2)


def test_where_a_budget_has_no_room_for_the_first_in_line_another_goes_on() -> None:
    early = [epoch(trial, 1, 0.5, stop=True) for trial in (1, 2)]
    late = [epoch(0, 1, 0.2), epoch(0, 2, 0.2), epoch(0, 3, 0.2, stop=True)]
    chances = Chances.from_journal(search(), [*early, *late])
    assert chances.next() == chances.next(lambda chance: True) == Chance(trial=0, to_end=False, epochs=6)
    assert chances.next(lambda chance: chance.epochs < 6) == Chance(trial=1, to_end=False, epochs=2)
    assert chances.next(lambda chance: False) is None


def test_few_go_on_at_a_time() -> None:
    stopped: list[Record] = [epoch(trial, 1, 0.5, stop=True) for trial in (0, 1, 2)]
    chances = Chances.from_journal(search(chances=1), [*stopped, Revived(trial=0, to_end=False)])
    assert (chances.next(), chances.affordable()) == (None, 0)
    chances.take(epoch(0, 2, 0.4))
    assert chances.next() is None
    chances.take(epoch(0, 3, 0.4, stop=True))
    assert chances.next() is not None
    assert chances.affordable() == 1


def test_who_was_overtaken_beyond_a_rung_needs_fewer_epochs_to_the_next() -> None:
    overtaken = [epoch(0, 3, 0.5), epoch(0, 4, 0.4), epoch(0, 5, 0.4, stop=True)]
    chances = Chances.from_journal(search(), overtaken)
    assert chances.next() == Chance(trial=0, to_end=False, epochs=4)
    chances.take(Revived(trial=0, to_end=False))
    assert chances.next() is None


@pytest.mark.parametrize(
    ("last", "given"), [(epoch(1, 1, 0.5), False), (epoch(1, 3, 0.5), True), (epoch(1, 1, 0.5, True), True)]
)
def test_trials_that_have_yet_to_reach_the_second_rung_count_as_well(last: Epoch, given: bool) -> None:
    drawn = [Drawn(trial=trial, values={}, seed=0, source="random") for trial in (0, 1)]
    records = [*drawn, epoch(0, 1, 0.5, stop=True), last]
    assert (Chances.from_journal(search(chances=1), records).next() is not None) == given


@pytest.mark.parametrize(("lowest", "by_lot"), [(0.1, 0.67), (0.7, 0.2)])
def test_lots_get_most_while_the_best_was_found_by_lot(lowest: float, by_lot: float) -> None:
    """Trial 0 is the first by lot, when a tenth of the study is spent."""
    many = SearchConfig(trials=100, epochs=9, grace=1, share=1, chances=100)
    chances = Chances(many)
    for trial in range(90):
        chances.take(epoch(trial, 1, 0.5, stop=True))
    chances.take(Revived(trial=0, to_end=True))
    chances.take(epoch(0, 2, lowest))
    epochs = {True: 8, False: 0}
    for _ in range(60):
        chance = chances.next()
        assert chance is not None
        chances.take(Revived(trial=chance.trial, to_end=chance.to_end))
        epochs[chance.to_end] += chance.epochs
    assert epochs[True] / sum(epochs.values()) == pytest.approx(by_lot, abs=0.05)


def test_how_many_goes_with_the_root_of_the_trials_unless_the_user_says_otherwise() -> None:
    stopped: list[Record] = [epoch(trial, 1, 0.5, stop=True) for trial in range(400)]
    for trials, chances in [(400, 5), (100, 4), (12, 4)]:
        many = SearchConfig(trials=trials, epochs=9, grace=1, share=1)
        assert Chances.from_journal(many, stopped[:trials]).affordable() == chances
    few = SearchConfig(trials=400, epochs=9, grace=1, share=1, chances=2)
    assert Chances.from_journal(few, stopped).affordable() == 2


def test_what_is_not_finite_gets_no_chance() -> None:
    assert Chances.from_journal(search(), [epoch(0, 1, float("nan"), stop=True)]).next() is None


def test_ten_thousand_stopped_trials_cost_little() -> None:
    draw = random.Random(0)
    chances = Chances(SearchConfig(trials=10_000, epochs=9, grace=1, share=1, chances=10_000))
    for trial in range(10_000):
        chances.take(epoch(trial, 1, draw.random(), stop=True))
    given = 0
    while (chance := chances.next()) is not None and given < 1_000:
        chances.take(Revived(trial=chance.trial, to_end=chance.to_end))
        given += 1
    assert given == 1_000
