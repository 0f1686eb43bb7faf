"""Carries a plan out: data, study, execution, upkeep, summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import fill

from pipeline.data.pack import open_pack
from pipeline.data.source import data_set
from pipeline.errors import StudyError
from pipeline.leaderboard import refresh
from pipeline.paths import StudyPaths, Workspace
from pipeline.provenance import Purpose, commit
from pipeline.records import Ended, Epoch, Record
from pipeline.spread import spreads
from pipeline.trials import TrialState
from pipeline.units import to_mm
from tune.check import Facts, check_data
from tune.journal import Journal
from tune.place import Place
from tune.plan import Plan
from tune.progress import WIDTH, Progress, mm, short
from tune.prune import prune
from tune.quiet import chatter_to
from tune.ranking import most_trusted
from tune.request import Request, read_request, refuse_other
from tune.session import Fit, Task
from tune.study import Study
from tune.warm import begin

TO_CONFIRM = 3  # settings, where none were
UPKEEP_EVERY_S = 3.0
UPKEEP_SHARE = 0.1  # at most this part of the driver's time


class Upkeep:
    """Keeps the leaderboard current and the disk bounded while a study runs.

    What keeps it from that it tells `say`, each kind of error once: no other run's damage ends a search.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._say = say
        self._due = 0.0
        self._told: set[type[Exception]] = set()

    def after(self, study: Study, record: Record) -> None:
        """Does what is due after a record that may change a rank."""
        judged = isinstance(record, Epoch) and record.rung is not None
        if (judged or isinstance(record, Ended)) and time.monotonic() >= self._due:
            self.run(study)

    def run(self, study: Study) -> None:
        """Removes checkpoints that nobody needs, rebuilds the leaderboard."""
        start = time.monotonic()
        try:
            in_line = () if study.complete else study.in_line()
            prune(study.paths, study.trials.values(), study.experiment.search.keep, in_line)
            refresh(self._workspace)
        except Exception as error:
            self._tell(error)
        end = time.monotonic()
        self._due = end + max(UPKEEP_EVERY_S, (end - start) / UPKEEP_SHARE)

    def _tell(self, error: Exception) -> None:
        if type(error) not in self._told:
            self._told.add(type(error))
            what = f"{type(error).__name__}: {error}"
            self._say(f"upkeep (leaderboard, old checkpoints) failed; the search goes on: {what}")


def carry_out(plan: Plan, fit: Fit, here: Place) -> None:
    """Runs a planned study to its end, from wherever it is; `fit` trains one trial.

    Raises StudyError if the study is being run, was started with another request, or had no result at all;
    DataError for unusable data; KeyboardInterrupt if the user stops it.
    """
    data = data_set(plan.data, plan.workspace, plan.experiment.twin)
    request = make_request(plan, data)
    with Journal(plan.workspace.study(plan.study), str(here.scratch)) as journal:
        settle(journal.paths, request)
        begin(journal, plan.study, plan.warm)
        with chatter_to(journal.paths.log) as terminal, Progress(terminal, here.workers.count) as progress:
            upkeep = Upkeep(plan.workspace, progress.say)

            def listen(study: Study, record: Record) -> None:
                progress.show(study, record)
                upkeep.after(study, record)

            study = Study(plan.study, plan.experiment, journal, listen)
            try:
                go_on(study, Task(fit, data, study.paths, purpose(plan)), here, progress)
            except KeyboardInterrupt:
                progress.say(f"stopped; the same command resumes study {study.name} where it is now")
                raise
            finally:
                upkeep.run(study)
        print(summary(study, plan.workspace))


def make_request(plan: Plan, data: Path) -> Request:
    """What the study is asked for on the packed data set `data`.

    Raises ConfigError or DataError if no trial could be trained on it.
    """
    pack = open_pack(data)
    check_data(plan.experiment, Facts.of_pack(pack))
    return Request(plan.study, plan.profile, pack.meta.fingerprint, commit(), plan.experiment)


def purpose(plan: Plan) -> Purpose:
    """What the runs of a study are recorded as."""
    return Purpose("search", plan.profile, plan.experiment.final.epochs)


def settle(paths: StudyPaths, request: Request) -> None:
    """Writes the request of a new study, or of more trials; raises StudyError for another request."""
    found = read_request(paths)
    if found is not None:
        refuse_other(found, request)
    if found is None or found.experiment != request.experiment:
        request.write(paths)


def go_on(study: Study, task: Task, here: Place, progress: Progress) -> None:
    """Lets Ray, started for it, execute what is left of the study."""
    if study.complete:
        progress.say(f"study {study.name} is complete already; nothing to run")
        return
    progress.say(f"starting workers; their output goes to {study.paths.log}")
    here.start()
    from tune.ray_adapter import execute  # imports Ray, which the place has to start first

    execute(study, task, here, progress.say)
    if study.exhausted:
        progress.say(f"every configuration of the space was tried: {len(study.trials)} trials are all")


def summary(study: Study, workspace: Workspace) -> str:
    """What came out of a study and where it is. Raises StudyError if no trial had a result."""
    trials = study.trials.values()
    counts = Counter(trial.status for trial in trials)
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    best = most_trusted(study.trials)
    if best is None:
        why = next((trial.message for trial in trials if trial.message), "no message")
        raise StudyError(f"study {study.name}: no trial had a result ({told}); the first message:\n{why}")
    values = fill(short(best.values), WIDTH, initial_indent="values       ", subsequent_indent=" " * 13)
    return (
        f"study {study.name}: {told}\n"
        f"best         {mm(best.best_rmse)}: trial {best.number}, epoch {best.best_epoch}\n"
        f"{values}\n"
        f"{worth(study.trials, best)}\n"
        f"checkpoint   {study.paths.trial(best.number).best}\n"
        f"leaderboard  {workspace.leaderboard}\n"
        f"winner       {workspace.best} (of all studies)\n"
        f"next         python -m pipeline.final --runs {workspace.root}"
    )


def worth(trials: Mapping[int, TrialState], best: TrialState) -> str:
    """How far the best trial's error can be trusted."""
    spread = spreads(trials).get(best.number)
    if spread is None:
        return f"confirmed    no: one run with one seed, its spread is unknown; --confirm {TO_CONFIRM} tells"
    mean, std = mm(spread.mean), to_mm(spread.std)
    return f"confirmed    {mean} is the mean of {spread.seeds} seeds, which spread by {std:.3f} mm"
