import threading
import time

import pytest

from pipeline.errors import DivergedError
from tune.session import Report, Session


def test_training_waits_after_every_report_until_it_is_told_to_go_on() -> None:
    trained: list[int] = []

    def train(report: Report) -> None:
        for epoch in (1, 2):
            trained.append(epoch)
            report(epoch=epoch, rmse=0.004, seconds=1.0)

    session = Session(train)
    assert session.next_result() == {"event": "epoch", "epoch": 1, "rmse": 0.004, "seconds": 1.0}
    time.sleep(0.05)
    assert trained == [1]
    assert session.next_result()["epoch"] == 2
    assert session.next_result() == {"event": "ended", "status": "completed", "reason": "", "message": ""}


def test_a_stopped_training_function_may_clean_up_and_its_thread_ends() -> None:
    events: list[str] = []

    def train(report: Report) -> None:
        try:
            report(epoch=1, rmse=0.004, seconds=1.0)
            events.append("went on")
        finally:
            time.sleep(0.05)
            events.append("flushed")

    before = threading.active_count()
    session = Session(train)
    session.next_result()
    assert session.stop(timeout_s=5.0)
    assert events == ["flushed"]
    assert threading.active_count() <= before


def test_one_that_hangs_is_noticed() -> None:
    release = threading.Event()

    def train(report: Report) -> None:
        try:
            report(epoch=1, rmse=0.004, seconds=1.0)
        finally:
            release.wait()

    session = Session(train)
    session.next_result()
    assert not session.stop(timeout_s=0.05)
    release.set()


def test_stopping_before_the_start_is_no_matter() -> None:
    assert Session(lambda report: None).stop(timeout_s=1.0)


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (DivergedError("the loss is nan"), "DIVERGED", "the loss is nan"),
        (MemoryError("no room"), "HOST_OOM", "Traceback"),
        (ZeroDivisionError("oops"), "USER_ERROR", "oops"),
    ],
)
def test_an_exception_becomes_a_result(error: Exception, reason: str, message: str) -> None:
    def train(report: Report) -> None:
        raise error

    result = Session(train).next_result()
    assert (result["event"], result["status"], result["reason"]) == ("ended", "failed", reason)
    assert message in result["message"]
    assert ("Traceback" in result["message"]) == (reason != "DIVERGED")
