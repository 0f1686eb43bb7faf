import errno
import resource
import threading
import time
from pathlib import Path

import pytest

from pipeline.checkpoint import write_checkpoint
from pipeline.errors import DataError, DivergedError
from pipeline.train import Report
from tune.session import Result, Session


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


def result_of(error: Exception) -> Result:
    def train(report: Report) -> None:
        raise error

    return Session(train).next_result()


def test_a_trial_without_memory_goes_on_in_another_process() -> None:
    result = result_of(MemoryError("no room"))
    assert (result["event"], result["reason"]) == ("moved", "HOST_OOM")
    assert result["message"].endswith("MemoryError: no room\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_not_the_trials_end(number: int) -> None:
    result = result_of(OSError(number, "the disk says no"))
    assert result == {"event": "disk", "message": f"OSError: [Errno {number}] the disk says no"}


def test_a_full_disk_is_seen_behind_an_error_of_ours() -> None:
    def train(report: Report) -> None:
        try:
            raise OSError(errno.ENOSPC, "no space")
        except OSError as error:
            raise DataError("cannot be read") from error

    assert Session(train).next_result()["event"] == "disk"


def test_a_checkpoint_that_torch_cannot_write_is_a_full_disk(tmp_path: Path) -> None:
    import torch

    def train(report: Report) -> None:
        write_checkpoint(tmp_path / "latest.pt", {"weights": torch.zeros(10_000)})

    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, unlimited[1]))
    try:
        result = Session(train).next_result()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert result["event"] == "disk"


def test_a_file_that_is_missing_is_the_trials_own_error() -> None:
    assert result_of(FileNotFoundError(errno.ENOENT, "no such file"))["status"] == "failed"


class AcceleratorError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (AcceleratorError("CUDA error: an illegal memory access was encountered\nmore"), "broken"),
        (RuntimeError("CUDA error: device-side assert triggered"), "broken"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "broken"),
        (AcceleratorError("CUDA error: out of memory"), "ended"),
        (RuntimeError("shapes do not match"), "ended"),
    ],
)
def test_an_error_after_which_cuda_is_useless_is_told_from_the_trials_own(
    error: Exception, event: str
) -> None:
    result = result_of(error)
    assert result["event"] == event
    assert "more" not in result["message"] or event == "ended"
