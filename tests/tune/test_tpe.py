import math
import random
import statistics
from collections.abc import Callable, Container, Sequence

import pytest

from pipeline.config import Experiment, SearchConfig
from pipeline.paths import StudyPaths
from pipeline.records import Drawn, read_journal
from tune.curves import Curve, make_table
from tune.journal import Journal
from tune.policies import policy
from tune.simulate import Cluster, Simulation
from tune.space import Draw, Outcome, Space, canonical, make_sampler
from tune.study import Study
from tune.tpe import STARTUP, TpeSpace

SPACE = {
    "train.lr": {"log_uniform": (1e-4, 1e-2)},
    "train.batch_size": {"choice": (8, 16)},
    "train.scheduler": {"choice": ({"name": "constant"}, {"name": "cosine"})},
}


@pytest.fixture
def space(experiment: Callable[..., Experiment]) -> TpeSpace:
    made = experiment(space=SPACE, sampler="tpe")
    sampler = make_sampler(made.search, made.trial(0))
    assert isinstance(sampler, TpeSpace)
    return sampler


def outcomes(space: TpeSpace, count: int) -> list[Outcome]:
    """Trials whose error depends on the learning rate alone, best at 1e-3."""
    found = []
    for number in range(1, count + 1):
        draw = space.draw("s", number, taken=())
        assert draw is not None
        miss = abs(math.log10(draw.values["train.lr"]) + 3)
        found.append(Outcome(draw.values, 0.003 * (1 + miss)))
    return found


def test_a_draw_depends_on_what_is_known_and_on_nothing_else(space: TpeSpace) -> None:
    known = outcomes(space, 20)
    first, again = (space.draw("s", 30, (), known) for _ in range(2))
    assert first == again
    assert first is not None
    assert first.source == "tpe"
    assert space.draw("s", 31, (), known) != first
    assert space.draw("s", 30, (), known[:15]) != first


def test_draws_gather_where_trials_did_well(space: TpeSpace) -> None:
    known = outcomes(space, 40)
    drawn = [space.draw("s", number, (), known) for number in range(100, 120)]
    misses = [abs(math.log10(draw.values["train.lr"]) + 3) for draw in drawn if draw]
    assert statistics.median(misses) < 0.2  # at random: 0.5


def test_the_first_draws_are_those_of_the_random_sampler(
    space: TpeSpace, experiment: Callable[..., Experiment]
) -> None:
    made = experiment(space=SPACE)
    plain = make_sampler(made.search, made.trial(0))
    few = outcomes(space, STARTUP - 1)
    assert space.draw("s", 0, (), outcomes(space, 20)) == plain.draw("s", 0, ())
    assert space.draw("s", 30, (), few) == plain.draw("s", 30, ())
    unknown = [Outcome(outcome.values, None) for outcome in outcomes(space, 20)]
    assert space.draw("s", 30, (), unknown) == plain.draw("s", 30, ())


def test_what_failed_can_be_told_and_no_configuration_comes_twice(space: TpeSpace) -> None:
    diverged = Outcome(outcomes(space, 21)[-1].values, math.inf)
    known = [*outcomes(space, 20), diverged]
    draw = space.draw("s", 30, (), known)
    assert draw is not None
    other = space.draw("s", 30, {canonical(draw.values)}, known)
    assert other is not None
    assert other.values != draw.values


def test_a_configured_setting_outside_the_space_is_no_trouble(space: TpeSpace) -> None:
    outside = {"train.lr": 0.5, "train.batch_size": 12, "train.scheduler": {"name": "step", "every": 0.5}}
    draw = space.draw("s", 30, (), [*outcomes(space, 20), Outcome(outside, 0.001)])
    assert draw is not None
    assert draw.source == "tpe"


def test_a_study_draws_by_tpe_and_its_journal_says_so(
    open_study: Callable[..., tuple[Study, Journal]], paths: StudyPaths
) -> None:
    study, journal = open_study(trials=16, share=0, sampler="tpe")
    while (assignment := study.next_trial()) is not None:
        study.started(assignment.trial, assignment.attempt, "here", None, 1)
        study.epoch(assignment.trial, 1, 1, random.Random(assignment.trial).random(), 1.0)
        study.ended(assignment.trial, 1, "completed")
    journal.close()
    sources = [record.source for record in read_journal(paths.journal) if isinstance(record, Drawn)]
    assert sources[:2] == ["configured", "random"]
    assert sources[-1] == "tpe"


class Listening(Space):
    """A space that keeps what it was told at the last draw."""

    told: Sequence[Outcome] = ()

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        self.told = known
        return super().draw(study, number, taken)


def test_a_sampler_is_told_what_trials_reached_at_their_rungs(
    paths: StudyPaths, experiment: Callable[..., Experiment]
) -> None:
    made = experiment(sampler="tpe", trials=8)
    space = Listening(made.search.space, made.trial(0))
    with Journal(paths) as journal:
        study = Study("s", made, journal, lambda _study, _record: None, space)
        for number in range(5):
            assert study.next_trial() is not None
            study.started(number, 1, "here", None, 1)
        errors = [[0.004, 0.0035, 0.003], [0.009], [0.003, 0.0025], [], [0.002]]
        decisions = [
            study.epoch(number, 1, epoch, rmse, 1.0)
            for number, curve in enumerate(errors)
            for epoch, rmse in enumerate(curve, start=1)
        ]
        assert decisions.count("stop") == 1
        study.ended(4, 1, "failed", "DIVERGED", "the loss is nan")
        study.next_trial()
    # at rung 2; stopped at rung 1; at rung 1, whatever came after; before a rung; failed
    assert [outcome.promise for outcome in space.told] == [0.003, 0.009, 0.003, None, math.inf]


def test_a_replay_draws_the_nearest_settings_once_each() -> None:
    draw = random.Random(0)
    curves = []
    for _ in range(30):
        lr = 10 ** draw.uniform(-4, -2)
        end = 0.003 * (1 + abs(math.log10(lr) + 3))
        rmse = tuple(end * (1 + 1 / epoch) for epoch in range(1, 10))
        curves.append(Curve({"lr": f"{lr:.3g}", "warmup": draw.choice("03")}, rmse, (), (1.0,) * 9))
    table = make_table("t", curves)
    chosen = policy("asha-tpe")
    study = chosen.study(table, seed=0)
    trace = Simulation(study, table, chosen.metric, Cluster(2), seed=0).run()
    assert len({trial.values["setting"] for trial in study.trials.values()}) == 30
    assert {trial.source for trial in study.trials.values()} == {"random", "tpe"}
    assert trace.finds[-1].rmse == table.lowest


def test_random_is_the_default() -> None:
    assert SearchConfig().sampler == "random"
