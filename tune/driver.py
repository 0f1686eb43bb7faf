"""Carries a plan out: data, study, execution, upkeep, summary."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from textwrap import fill

from pipeline.config import TwinConfig
from pipeline.data.pack import open_pack
from pipeline.errors import StudyError
from pipeline.leaderboard import refresh
from pipeline.paths import StudyPaths, Workspace
from pipeline.provenance import Purpose, commit
from pipeline.records import Ended, Epoch, Record
from tune.journal import Journal
from tune.local_ray import LocalRay
from tune.plan import Plan
from tune.progress import WIDTH, Progress, best_of, mm, short
from tune.prune import prune
from tune.quiet import chatter_to
from tune.request import Request, read_request, refuse_other
from tune.session import Fit, Task
from tune.study import Study

UPKEEP_EVERY_S = 3.0
UPKEEP_SHARE = 0.1  # at most this part of the driver's time


class Upkeep:
    """Keeps the leaderboard current and the disk bounded while a study runs."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._due = 0.0
        self._behind = False

    def after(self, study: Study, record: Record) -> None:
        """Does what is due after a record that may change a rank."""
        judged = isinstance(record, Epoch) and record.rung is not None
        if judged or isinstance(record, Ended):
            self._behind = True
            if time.monotonic() >= self._due:
                self.run(study)

    def catch_up(self, study: Study) -> None:
        """Does what was put off, if anything was."""
        if self._behind:
            self.run(study)

    def run(self, study: Study) -> None:
        """Removes checkpoints that nobody needs, rebuilds the leaderboard."""
        start = time.monotonic()
        prune(study.paths, study.trials.values(), study.experiment.search.keep)
        refresh(self._workspace)
        end = time.monotonic()
        self._behind = False
        self._due = end + max(UPKEEP_EVERY_S, (end - start) / UPKEEP_SHARE)


def carry_out(plan: Plan, fit: Fit, here: LocalRay) -> None:
    """Runs a planned study to its end, from wherever it is; `fit` trains one trial.

    Raises StudyError if the study is being run, was started with another request, or had no result at all;
    DataError for unusable data; KeyboardInterrupt if the user stops it.
    """
    request = make_request(plan)
    with Journal(plan.workspace.study(plan.study), str(here.scratch)) as journal:
        settle(journal.paths, request)
        upkeep = Upkeep(plan.workspace)
        with chatter_to(journal.paths.log) as terminal, Progress(terminal, here.workers.count) as progress:

            def listen(study: Study, record: Record) -> None:
                progress.show(study, record)
                upkeep.after(study, record)

            study = Study(plan.study, plan.experiment, journal, listen)
            try:
                go_on(study, plan, fit, here, progress)
            except KeyboardInterrupt:
                upkeep.catch_up(study)
                progress.say(f"stopped; the same command resumes study {study.name} where it is now")
                raise
            upkeep.run(study)
        print(summary(study, plan.workspace))


def make_request(plan: Plan) -> Request:
    """What the study is asked for, after its data has been made ready."""
    if plan.render is not None:
        render(plan.data, plan.render)
    fingerprint = open_pack(plan.data).meta.fingerprint
    return Request(plan.study, plan.profile, fingerprint, commit(), plan.experiment)


def render(root: Path, twin: TwinConfig) -> None:
    """Renders the stand-in data set, showing how far it is."""
    from pipeline.data.progress import progress
    from pipeline.data.twin.make import render_pack

    with progress("rendering", twin.train + twin.test) as advance:
        render_pack(root, twin, step=advance)


def settle(paths: StudyPaths, request: Request) -> None:
    """Writes the request of a new study, or of more trials; raises StudyError for another request."""
    found = read_request(paths)
    if found is not None:
        refuse_other(found, request)
    if found is None or found.experiment != request.experiment:
        request.write(paths)


def go_on(study: Study, plan: Plan, fit: Fit, here: LocalRay, progress: Progress) -> None:
    """Lets Ray, started for it, execute what is left of the study."""
    if study.complete:
        progress.say(f"study {study.name} is complete already; nothing to run")
        return
    progress.say(f"starting {here.workers.count} workers; their output goes to {study.paths.log}")
    here.start()
    from tune.ray_adapter import execute  # imports Ray, which LocalRay has to start first

    purpose = Purpose("search", plan.profile, plan.experiment.final.epochs)
    execute(study, Task(fit, plan.data, study.paths, purpose), here)
    if study.exhausted:
        progress.say(f"every configuration of the space was tried: {len(study.trials)} trials are all")


def summary(study: Study, workspace: Workspace) -> str:
    """What came out of a study and where it is. Raises StudyError if no trial had a result."""
    trials = study.trials.values()
    counts = Counter(trial.status for trial in trials)
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    best = best_of(trials)
    if best is None:
        why = next((trial.message for trial in trials if trial.message), "no message")
        raise StudyError(f"study {study.name}: no trial had a result ({told}); the first message:\n{why}")
    values = fill(short(best.values), WIDTH, initial_indent="values       ", subsequent_indent=" " * 13)
    return (
        f"study {study.name}: {told}\n"
        f"best         {mm(best.best_rmse)}: trial {best.number}, epoch {best.best_epoch}\n"
        f"{values}\n"
        f"checkpoint   {study.paths.trial(best.number).best}\n"
        f"leaderboard  {workspace.leaderboard}\n"
        f"winner       {workspace.best}\n"
        f"next         python -m pipeline.final --runs {workspace.root}"
    )
