from typing import Any

import pytest

from pipeline.config import ModelConfig, RunConfig, SearchConfig, TrainConfig
from pipeline.errors import ConfigError
from tune.space import Space, canonical

BASE = RunConfig(model=ModelConfig(name="resnet50"), train=TrainConfig(lr=2e-3, batch_size=24), seed=5)
CONTINUOUS = {
    "train.lr": {"log_uniform": (1e-4, 1e-2)},
    "train.batch_size": {"log_uniform": (8, 64)},
    "train.momentum": {"uniform": (0.5, 0.9)},
}
FINITE = {
    "train.batch_size": {"choice": (8, 16)},
    "train.scheduler": {"choice": ({"name": "constant"}, {"name": "cosine"})},
}


def space(tree: dict[str, Any], base: RunConfig = BASE) -> Space:
    return Space(SearchConfig.model_validate({"space": tree}).space, base)


def draws(of: Space, count: int, study: str = "s") -> list[dict[str, Any]]:
    taken: set[str] = set()
    found = []
    for number in range(count):
        draw = of.draw(study, number, taken)
        if draw is not None:
            taken.add(canonical(draw.values))
            found.append(draw.values)
    return found


def test_the_reports_setting_comes_first() -> None:
    draw = space(CONTINUOUS).draw("s", 0, set())
    assert draw is not None
    assert draw.source == "configured"
    assert draw.values == {"train.lr": 2e-3, "train.batch_size": 24, "train.momentum": 0.9}


def test_a_draw_depends_on_seed_name_and_number_only() -> None:
    first = space(CONTINUOUS).draw("s", 3, set())
    assert first == space(CONTINUOUS).draw("s", 3, set())
    others = [
        space(CONTINUOUS).draw("s", 4, set()),
        space(CONTINUOUS).draw("other", 3, set()),
        space(CONTINUOUS, BASE.model_copy(update={"seed": 6})).draw("s", 3, set()),
    ]
    for other in others:
        assert other is not None
        assert first is not None
        assert other.values != first.values
        assert other.seed != first.seed


def test_two_studies_draw_different_trials() -> None:
    mine, theirs = draws(space(CONTINUOUS), 20), draws(space(CONTINUOUS), 20, study="other")
    assert not {canonical(v) for v in mine[1:]} & {canonical(v) for v in theirs[1:]}


def test_draws_stay_in_their_ranges_and_whole_numbers_stay_whole() -> None:
    for values in draws(space(CONTINUOUS), 200)[1:]:
        assert 1e-4 <= values["train.lr"] <= 1e-2
        assert 8 <= values["train.batch_size"] <= 64
        assert isinstance(values["train.batch_size"], int)
        assert 0.5 <= values["train.momentum"] <= 0.9


def test_log_uniform_spreads_over_the_decades() -> None:
    values = [v["train.lr"] for v in draws(space(CONTINUOUS), 400)[1:]]
    assert 0.4 < sum(value < 1e-3 for value in values) / len(values) < 0.6


def test_no_configuration_is_drawn_twice_and_a_finite_space_ends() -> None:
    found = draws(space(FINITE), 8)
    assert len(found) == 5  # the report's batch of 24, which the space does not contain, and two times two
    assert len({canonical(values) for values in found}) == 5


def test_equal_settings_are_equal_however_they_are_written() -> None:
    twice = {"choice": ({"name": "constant"}, {"name": "constant", "warmup": 0.0})}
    assert len(draws(space({"train.scheduler": twice}), 3)) == 1


def test_an_empty_space_has_the_reports_setting_only() -> None:
    assert draws(space({}), 3) == [{}]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"train.rate": {"choice": (1,)}},
            r"search\.space\.train\.rate: no configuration key 'rate'.*epochs, ",
        ),
        (
            {"train.lr": {"uniform": (-1.0, 1.0)}},
            r"search\.space\.train\.lr: -1\.0 is not allowed there: train\.lr",
        ),
        ({"train.optimizer": {"choice": ("adam", "lamb")}}, r"'lamb' is not allowed there"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space(tree)
