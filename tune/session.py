"""A training function in a thread that waits after every report until it is told to go on.

Ray pulls results, a training function pushes them; this turns the one into the other. A trial that is
stopped ends with SystemExit out of `report`, and has time to write what it still holds. Its exception is a
result like any other. No Ray here.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.config import RunConfig
from pipeline.errors import InterruptedRunError, PipelineError, is_disk_trouble, reason_of
from pipeline.gpumemory import free_gpu_memory
from pipeline.paths import RunPaths, StudyPaths
from pipeline.provenance import Purpose
from pipeline.train import Report

MAX_MESSAGE = 8000  # characters of a traceback that are kept
DRAIN_VARIABLE = "PIPELINE_DRAIN_FILE"  # names a file that appears when this worker is about to leave: why
DEVICE_ERRORS = ("CUDA error", "cuDNN error")
Result = dict[str, Any]


class Fit(Protocol):
    """A training function: `pipeline.train.fit`, or a stand-in."""

    def __call__(
        self,
        config: RunConfig,
        data: Path,
        paths: RunPaths,
        report: Report,
        attempt: int,
        purpose: Purpose,
        asked_to_stop: Callable[[], bool],
    ) -> object:
        """Trains one run; raises PipelineError for what a user can mend."""
        ...


@dataclass(frozen=True)
class Task:
    """What a worker gets of the study, once: the training function, the packed data, where runs go, why."""

    fit: Fit
    data: Path
    study: StudyPaths
    purpose: Purpose


class Session:
    """One call of a training function, in a thread, one report at a time."""

    def __init__(self, train: Callable[[Report], object]) -> None:
        self._train = train
        self._reports: queue.Queue[Result] = queue.Queue()
        self._go_on = threading.Semaphore(0)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fit", daemon=True)

    def next_result(self) -> Result:
        """Lets the function go on to its next report, or its end, and returns that."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go_on.release()
        return self._reports.get()

    def stop(self, timeout_s: float) -> bool:
        """Ends the function at its next report; whether it did so in time."""
        self._stopping = True
        self._go_on.release()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _report(self, *, epoch: int, rmse: float, seconds: float) -> None:
        self._reports.put({"event": "epoch", "epoch": epoch, "rmse": rmse, "seconds": seconds})
        self._go_on.acquire()
        if self._stopping:
            raise SystemExit(0)

    def _run(self) -> None:
        try:
            self._train(self._report)
            self._reports.put({"event": "ended", "status": "completed", "reason": "", "message": ""})
        except BaseException as error:
            if not self._stopping:
                self._reports.put(_failure(error))
        finally:
            free_gpu_memory()


def breaks_the_process(error: BaseException) -> bool:
    """Whether CUDA is of no use any more in a process that met this error; want of memory passes."""
    text = str(error)
    fatal = type(error).__name__ == "AcceleratorError" or text.startswith(DEVICE_ERRORS)  # torch's
    return fatal and "out of memory" not in text


def _failure(error: BaseException) -> Result:
    """The end of the trial, unless the fault is the disk's or it may go on in another process."""
    if isinstance(error, InterruptedRunError):
        return {"event": "moved", "message": str(error)}
    if isinstance(error, MemoryError):  # what trials before it left behind goes with the process
        message = traceback.format_exc()[-MAX_MESSAGE:]
        return {"event": "moved", "reason": reason_of(error), "message": message}
    if is_disk_trouble(error):
        return {"event": "disk", "message": _headline(error)}
    if breaks_the_process(error):
        return {"event": "broken", "message": _headline(error)}
    expected = isinstance(error, PipelineError)
    message = str(error) if expected else traceback.format_exc()[-MAX_MESSAGE:]
    return {"event": "ended", "status": "failed", "reason": reason_of(error), "message": message}


def _headline(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
