"""Ray Tune executes studies: it asks them for trials, tells them what workers report, and does as they say.

Nothing here decides or remembers anything: Ray's searcher, scheduler and callback are three doors to the same
Studies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.errors import PipelineError
from pipeline.records import Decision
from pipeline.signals import interruptible
from tune.place import Demand, Fate, Place, Workers
from tune.session import Task
from tune.studies import Studies
from tune.supply import Assignment
from tune.trainable import FitTrainable

MAX_LAST_WORDS = 300


class InThisProcess:
    """Stays where the studies are: Ray pickles the parts of a search for a restore that never takes place."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StudySearcher(InThisProcess, Searcher):  # type: ignore[misc]
    """Where Ray gets its next trial: running trials plus one that waits, so that no worker does."""

    def __init__(self, studies: Studies, workers: int) -> None:
        super().__init__()
        self._studies = studies
        self._workers = workers

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial as Ray's configuration; None for later; FINISHED when all have ended."""
        studies = self._studies
        if studies.complete:
            return str(Searcher.FINISHED)
        assignment = studies.next_trial() if studies.active <= self._workers else None
        if assignment is None:
            return str(Searcher.FINISHED) if studies.complete else None
        return as_ray_config(assignment)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler has told its study."""


class StudyScheduler(InThisProcess, FIFOScheduler):  # type: ignore[misc]
    """Hands every report to its study; what the study says about it is on disk before Ray hears it."""

    def __init__(self, studies: Studies, fate_of: Callable[[str | None], Fate]) -> None:
        super().__init__()
        self._studies = studies
        self._fate_of = fate_of
        self.error: PipelineError | None = None  # why the search cannot go on

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The study's decision on a report of a worker (see tune.trainable)."""
        with self.remembering_errors():
            decision = self._tell(result)
        return str(TrialScheduler.STOP if decision == "stop" else TrialScheduler.CONTINUE)

    def _tell(self, result: dict[str, Any]) -> Decision:
        study, number, attempt = self._studies[result["study"]], result["trial"], result["attempt"]
        match result["event"]:
            case "started":
                return study.started(number, attempt, result["host"], result["job"], result["process"])
            case "epoch":
                return study.epoch(number, attempt, result["epoch"], result["rmse"], result["seconds"])
            case "moved":
                self._studies.lost(study.name, number, attempt, result["message"], result["reason"], True)
                return "continue"  # the worker ends by itself
            case "disk":
                raise study.stuck(number, result["message"])
            case _:
                end = result["status"], result["reason"], result["message"]
                self._studies.ended(study.name, number, attempt, *end)
                return "stop"

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker died: the study decides whether the trial goes on elsewhere."""
        name, number, attempt = (trial.config[key] for key in ("study", "trial", "attempt"))
        fate = self._fate_of(self._studies[name].job_of(number, attempt))
        message = fate.message or last_words(trial)
        with self.remembering_errors():
            self._studies.lost(name, number, attempt, message, fate.reason, fate.counted)

    @contextmanager
    def remembering_errors(self) -> Iterator[None]:
        """Ray turns exceptions into texts; `execute` raises the original."""
        try:
            yield
        except PipelineError as error:
            self.error = error
            raise


class OverdueError(PipelineError):
    """Nothing that is wanted will run any more; trials that wait for a worker would wait in vain."""


class BetweenSteps(InThisProcess, tune.Callback):  # type: ignore[misc]
    """What is done between two steps, where the journal and Ray agree: ends the search, or calls `attend`."""

    def __init__(self, interrupted: Callable[[], bool], attend: Callable[[], None]) -> None:
        self._interrupted = interrupted
        self._attend = attend

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises KeyboardInterrupt after a signal."""
        if self._interrupted():
            raise KeyboardInterrupt
        self._attend()


def as_ray_config(assignment: Assignment) -> dict[str, Any]:
    """Flat numbers and texts, so that Ray reads nothing into a configuration's own keys."""
    return {
        "study": assignment.study,
        "trial": assignment.trial,
        "attempt": assignment.attempt,
        "run": assignment.config.model_dump_json(),
    }


def execute(studies: Studies, tasks: Mapping[str, Task], here: Place, say: Callable[[str], None]) -> None:
    """Runs studies to their end on a Ray that has been started, and tells `say` about its workers.

    Raises KeyboardInterrupt after SIGINT or SIGTERM, and what the studies raise; they can be resumed.
    """
    scheduler = StudyScheduler(studies, here.fate_of)
    with interruptible() as interrupted:
        between = BetweenSteps(interrupted, partial(_attend, studies, scheduler, here, say))
        searcher = StudySearcher(studies, here.workers.count)
        tuner = _tuner(_trainable(tasks, here.workers), searcher, scheduler, between, here.scratch / "tune")
        try:
            tuner.fit()
        except Exception:
            if isinstance(scheduler.error, OverdueError):
                studies.close()
            elif scheduler.error is not None:
                raise scheduler.error from None
            else:
                raise
        finally:
            studies.held(())


def _attend(studies: Studies, scheduler: StudyScheduler, here: Place, say: Callable[[str], None]) -> None:
    """Sees to the workers and what they cost. Raises OverdueError where none need come any more."""
    with scheduler.remembering_errors():
        here.attend(Demand(studies.left, studies.busy_jobs), say)
        studies.held(here.held())
        if studies.overdue:
            raise OverdueError


def _trainable(tasks: Mapping[str, Task], workers: Workers) -> Any:
    """The actor as Ray starts it: with every study's task, on what a worker takes of the machine."""
    resources = {"cpu": workers.threads, "gpu": workers.gpus}
    return tune.with_resources(tune.with_parameters(FitTrainable, tasks=dict(tasks)), resources)


def _tuner(
    trainable: Any, searcher: StudySearcher, scheduler: StudyScheduler, between: BetweenSteps, folder: Path
) -> tune.Tuner:
    """Ray's loop, which keeps no checkpoints and tries nothing again; its own files go to `folder`."""
    tuning = tune.TuneConfig(
        search_alg=searcher,
        scheduler=scheduler,
        num_samples=-1,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )
    running = tune.RunConfig(
        name="search",
        storage_path=str(folder),
        verbose=0,
        callbacks=[between],
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # runs keep their own
        failure_config=tune.FailureConfig(max_failures=0),  # the study counts, across restarts
    )
    return tune.Tuner(trainable, tune_config=tuning, run_config=running)


def last_words(trial: Any) -> str:
    """Ray's line about why a trial's worker is gone: the last of a traceback, the first about an actor."""
    try:
        lines = Path(trial.error_file).read_text(encoding="utf-8").split("\n")
    except (OSError, TypeError):
        lines = []
    told = [line.strip() for line in lines if line.strip() and not line.startswith("Failure #")]
    if not told:
        return "its process is gone"
    words = told[0].partition(": ")[0] if told[0].startswith("The actor") else told[-1]
    return words[:MAX_LAST_WORDS]
