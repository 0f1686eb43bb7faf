import io
from collections.abc import Callable

from pipeline.records import Record
from tune.journal import Journal
from tune.progress import Progress, line_for, seconds_left, short, status_line
from tune.study import Study

OpenStudy = Callable[..., tuple[Study, Journal]]


def told(open_study: OpenStudy) -> tuple[Study, list[str]]:
    """A study with one of everything, and the lines it gave."""
    lines: list[str] = []

    def listen(study: Study, record: Record) -> None:
        lines.append(line_for(study, record) or "")

    study, journal = open_study(listen=listen)
    for number in range(3):
        assert study.next_trial() is not None
        study.started(number, 1, "here", None, 1)
    study.epoch(0, 1, 1, 0.004, 60.0)
    study.epoch(1, 1, 1, 0.005, 60.0)
    study.ended(2, 1, "failed", "DIVERGED", "Traceback\nthe loss is nan\n")
    study.lost(0, 1, "killed")
    study.next_trial()
    study.started(0, 2, "there", None, 2)
    study.ended(0, 2, "completed")
    journal.close()
    return study, [line for line in lines if line]


def test_every_event_that_matters_has_a_line(open_study: OpenStudy) -> None:
    _, lines = told(open_study)
    assert lines[0] == "trial 0    starts with the configured setting: lr 0.001, batch_size 32"
    assert lines[1].startswith("trial 1    starts with lr ")
    assert lines[3:] == [
        "trial 0    rung 1, epoch 1: 4.000 mm, goes on",
        "trial 1    rung 1, epoch 1: 5.000 mm, stopped",
        "trial 2    failed, DIVERGED: the loss is nan",
        "trial 0    lost its worker, NODE_FAIL: killed",
        "trial 0    goes on after epoch 1 (attempt 2)",
        "trial 0    completed, best 4.000 mm at epoch 1",
    ]


def test_how_far_it_is_fits_in_a_line(open_study: OpenStudy) -> None:
    study, _ = told(open_study)
    line = status_line([study], workers=2)
    assert line == "3/6 trials, 1 stopped, 1 failed, best 4.000 mm (trial 0), about 0:08:00 left"


def test_a_study_whose_space_is_exhausted_needs_no_more_time(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=100, share=0, space={"train.batch_size": {"choice": (32,)}})
    assert study.next_trial() is not None
    study.started(0, 1, "here", None, 1)
    for epoch in range(1, 10):
        study.epoch(0, 1, epoch, 0.004, 60.0)
    study.ended(0, 1, "completed")
    assert study.next_trial() is None
    journal.close()
    assert (study.complete, seconds_left([study], workers=1)) == (True, 0.0)


def test_lines_stay_within_eighty_columns_without_a_terminal() -> None:
    stream = io.StringIO()
    with Progress(stream, workers=2) as progress:
        progress.say("trial 3    starts with " + ", ".join(f"key{number} 0.0001234" for number in range(12)))
    lines = stream.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) < 80
    assert all(line.startswith(" " * 11) for line in lines[1:])


def test_values_are_shown_short() -> None:
    values = {
        "train.lr": 0.00123456,
        "train.scheduler": {"name": "cosine", "floor": 0.0},
        "train.loss": "mse",
    }
    assert short(values) == "lr 0.001235, scheduler cosine, loss mse"


def test_what_a_budget_ends_says_so(open_study: OpenStudy) -> None:
    lines: list[str] = []

    def listen(study: Study, record: Record) -> None:
        lines.append(line_for(study, record) or "")

    study, journal = open_study(listen=listen, gpu_hours=1.0)
    for number in (0, 1):
        study.next_trial()
        study.started(number, 1, "here", None, 1)
    study.epoch(0, 1, 1, 0.004, 3601.0)
    study.ended(1, 1, "stopped", "BUDGET", "the budget leaves no time for it")
    journal.close()
    assert lines[-2:] == [
        "trial 0    stopped by the budget, best 4.000 mm at epoch 1",
        "trial 1    the budget leaves no time for it",
    ]
    assert "0 of 1 GPU hours" in status_line([study], workers=2)


def test_a_trial_that_was_overtaken_is_told_of_as_such(open_study: OpenStudy) -> None:
    lines: list[str] = []

    def listen(study: Study, record: Record) -> None:
        lines.append(line_for(study, record) or "")

    study, journal = open_study(listen=listen, trials=9)
    for number in range(5):
        study.next_trial()
        study.started(number, 1, "here", None, 1)
        study.epoch(number, 1, 1, 0.009 - 0.001 * number, 60.0)  # each better than those before
    study.epoch(0, 1, 2, 0.009, 60.0)
    journal.close()
    assert lines[-1] == "trial 0    rung 1, epoch 2: 9.000 mm, stopped: others have overtaken it"
