import math

import pytest

from pipeline.config import Constant, Cosine, MultiStep, Step
from pipeline.schedule import label, lr_factor

TABLE = [
    # the report's six, at epochs of ten steps each
    (
        MultiStep(milestones="[30, 60, 90] of 200"),
        200,
        {0: 1, 29.9: 1, 30: 0.5, 60: 0.25, 90: 0.125, 199: 0.125},
    ),
    (Step(every="30 of 180"), 180, {0: 1, 29.9: 1, 30: 0.5, 59.9: 0.5, 60: 0.25, 179.9: 1 / 32}),
    (MultiStep(milestones="[170, 200] of 210", factor=0.1), 210, {169.9: 1, 170: 0.1, 200: 0.01}),
    (Step(every="30 of 140"), 140, {30: 0.5, 120: 1 / 16}),
    (Constant(), 30, {0: 1, 29.9: 1}),
    (Cosine(), 100, {0: 1, 50: 0.5, 25: 0.5 + math.sqrt(0.125)}),
    (Cosine(warmup="20 of 180", floor=0.1), 180, {9.9: 0.5, 19.9: 1, 100: 0.55}),
]


@pytest.mark.parametrize(("schedule", "epochs", "expected"), TABLE)
def test_lr_factor_at_known_epochs(schedule, epochs, expected):
    steps = 10 * epochs
    found = {epoch: lr_factor(schedule, round(10 * epoch), steps) for epoch in expected}
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_schedule_keeps_its_shape_when_the_run_is_shortened():
    schedule = MultiStep(milestones="[30, 60, 90] of 200")
    assert [lr_factor(schedule, step, 2000) for step in range(0, 2000, 100)] == [
        lr_factor(schedule, step, 200) for step in range(0, 200, 10)
    ]


def test_warmup_starts_above_zero_and_rises_linearly():
    factors = [lr_factor(Constant(warmup=0.1), step, 100) for step in range(12)]
    assert factors == pytest.approx([*(number / 10 for number in range(1, 11)), 1, 1])


def test_labels_are_short_and_tell_schedules_apart():
    assert [label(schedule) for schedule, _, _ in TABLE] == [
        "multistep x0.5 @ 0.15 0.3 0.45",
        "step x0.5 every 0.167",
        "multistep x0.1 @ 0.81 0.952",
        "step x0.5 every 0.214",
        "constant",
        "cosine",
        "cosine to 0.1 warmup 0.111",
    ]
