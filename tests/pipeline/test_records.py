import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.jsonl import read_jsonl
from pipeline.records import (
    Begun,
    Drawn,
    Ended,
    Epoch,
    Lost,
    Record,
    Revived,
    Started,
    Warm,
    read_journal,
    record_of,
)
from pipeline.trials import fold, in_line


def epoch(number: int, rmse: float, decision: str = "continue", rung: int | None = None) -> Record:
    return record_of(
        {
            "event": "epoch",
            "time": 100.0 + number,
            "trial": 0,
            "attempt": 1,
            "epoch": number,
            "rmse": rmse,
            "seconds": 2.0,
            "decision": decision,
            "rung": rung,
        },
        "here",
    )


DRAWN = Drawn(time=1.0, trial=0, values={"train.lr": 0.1}, seed=7, source="random")
WARM = Warm(
    study="old",
    best=[{"train.lr": 0.2}],
    told=[{"values": {"train.lr": 0.3}, "promise": None}],
    differs=["train.epochs"],
)
STARTED = Started(time=2.0, trial=0, attempt=1, node="gr1", slurm_job="17", pid=3)


def test_every_record_survives_being_written_and_read(tmp_path: Path) -> None:
    records = [
        Begun(study="s"),
        WARM,
        DRAWN,
        STARTED,
        epoch(1, 0.004),
        Lost(trial=0, attempt=1, message="gone"),
        Lost(trial=0, attempt=1, message="too large", reason="HOST_OOM"),
        Ended(trial=0, status="completed"),
    ]
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(record.line() for record in records))
    assert read_journal(path) == records


def test_what_was_taken_over_is_no_trial() -> None:
    assert fold([WARM, DRAWN]) == fold([DRAWN])


def test_a_trial_through_its_life() -> None:
    state = fold([DRAWN])[0]
    assert (state.status, state.best_rmse, state.last, state.rung) == ("waiting", None, None, None)
    state = fold([DRAWN, STARTED, epoch(1, 0.004, rung=1), epoch(2, 0.003), epoch(3, 0.005)])[0]
    assert (state.status, state.best_rmse, state.best_epoch, state.last) == ("running", 0.003, 2, 0.005)
    assert (state.rung, state.seconds, state.started) == (1, 6.0, 2.0)


def test_a_stop_decision_ends_the_trial_in_itself() -> None:
    state = fold([DRAWN, STARTED, epoch(1, 0.004, "stop", rung=1)])[0]
    assert (state.status, state.rung, state.finished) == ("stopped", 1, 101.0)


def test_the_first_record_of_an_epoch_counts() -> None:
    state = fold([DRAWN, STARTED, epoch(1, 0.004), epoch(1, 0.001)])[0]
    assert state.epochs == {1: 0.004}
    assert state.seconds == 2.0


def test_an_rmse_that_is_not_finite_is_null_on_disk_and_never_the_best() -> None:
    line = epoch(1, math.inf).line()
    assert json.loads(line)["rmse"] is None
    state = fold([DRAWN, STARTED, record_of(json.loads(line), "here"), epoch(2, 0.5)])[0]
    assert math.isnan(state.epochs[1])
    assert state.best_rmse == 0.5


def test_a_lost_worker_sends_the_trial_back() -> None:
    state = fold([DRAWN, STARTED, Lost(trial=0, attempt=1, message="gone")])[0]
    assert (state.status, state.losses, state.unfinished) == ("waiting", 1, True)


def test_a_loss_of_an_older_journal_has_the_name_that_it_had_then() -> None:
    tree = {"event": "lost", "time": 3.0, "trial": 0, "attempt": 1, "message": "gone", "counted": True}
    record = record_of(tree, "here")
    assert isinstance(record, Lost)
    assert record.reason == "NODE_FAIL"


def test_the_first_end_counts() -> None:
    ends = [
        Ended(trial=0, status="failed", reason="DIVERGED", message="nan"),
        Ended(trial=0, status="completed"),
    ]
    state = fold([DRAWN, STARTED, *ends])[0]
    assert (state.status, state.reason, state.message) == ("failed", "DIVERGED", "nan")


def test_no_file_means_no_records(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl") == []


def test_a_torn_last_line_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    lines = [DRAWN.line(), STARTED.line()]
    content, path = "".join(lines).encode(), tmp_path / "journal.jsonl"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        assert read_jsonl(path) == [json.loads(line) for line in lines[:whole]]


def test_a_damaged_line_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(DRAWN.line() + "{oops\n" + STARTED.line())
    with pytest.raises(
        StudyError, match=r"journal\.jsonl, line 2: '\{oops' is not a JSON object.*Restore it"
    ):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"event": "dreamt"},
            "event 'dreamt' is not one of study, warm, drawn, started, epoch, lost, revived, resumed, held, "
            "ended",
        ),
        ({"event": "lost", "trial": 1}, "not a 'lost' record: .*missing"),
        ({"event": "study", "study": "s", "format": 9}, "format 9; this version reads format 1"),
    ],
)
def test_a_line_of_another_version_is_refused(tree: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=f"line 4: {message}"):
        record_of(tree, "line 4")


def test_a_record_of_an_unknown_trial_is_refused() -> None:
    with pytest.raises(StudyError, match="trial 0, which was never drawn"):
        fold([STARTED])


def test_epoch_is_constructed_with_all_its_fields() -> None:
    assert isinstance(epoch(1, 0.1), Epoch)


def test_trials_stand_in_line_by_when_they_last_began_to_wait() -> None:
    first, second, third = (replace(DRAWN, trial=number) for number in (0, 1, 2))
    begun = [first, second, replace(STARTED, trial=0), third]
    assert in_line(begun) == [0, 1, 2]
    assert in_line([*begun, Lost(trial=0, attempt=1, message="gone")]) == [1, 2, 0]
    assert in_line([*begun, epoch(1, 0.004, "stop"), Revived(trial=0, to_end=True)]) == [1, 2, 0]
