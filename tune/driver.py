"""Carries plans out: data, studies, execution, upkeep, summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.data.pack import open_pack
from pipeline.data.source import data_set
from pipeline.leaderboard import refresh
from pipeline.paths import StudyPaths, Workspace
from pipeline.provenance import Purpose, commit
from pipeline.records import Ended, Epoch, Record
from tune.budget import Budget, spend_together
from tune.check import Facts, check_data
from tune.failures import FalseStarts
from tune.journal import Journal
from tune.place import Place
from tune.plan import Plan
from tune.plan_lines import plural
from tune.progress import Progress
from tune.prune import prune
from tune.quiet import chatter_to
from tune.request import Request, read_request, refuse_other
from tune.session import Fit, Task
from tune.studies import Studies
from tune.study import Listener, Study
from tune.summary import summary
from tune.warm import begin

UPKEEP_EVERY_S = 3.0
UPKEEP_SHARE = 0.1  # at most this part of the driver's time


class Upkeep:
    """Keeps the leaderboard current and the disk bounded while studies run.

    What keeps it from that it tells `say`, each kind of error once: no other run's damage ends a search.
    """

    def __init__(
        self, workspace: Workspace, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workspace = workspace
        self._say = say
        self._clock = clock
        self._due = 0.0
        self._told: set[type[Exception]] = set()
        self._changed: dict[str, Study] = {}  # since the last time

    def after(self, study: Study, record: Record) -> None:
        """Does what is due after a record that may change a rank."""
        judged = isinstance(record, Epoch) and record.rung is not None
        if judged or isinstance(record, Ended):
            self._changed[study.name] = study
            if self._clock() >= self._due:
                self.run(self._changed.values())

    def run(self, studies: Iterable[Study]) -> None:
        """Removes checkpoints that nobody needs, rebuilds the leaderboard."""
        start = self._clock()
        for study in studies:
            with self._telling():
                in_line = () if study.complete else study.in_line()
                prune(study.paths, study.trials.values(), study.experiment.search.keep, in_line)
        self._changed.clear()
        with self._telling():
            refresh(self._workspace)
        end = self._clock()
        self._due = end + max(UPKEEP_EVERY_S, (end - start) / UPKEEP_SHARE)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns an error into a line."""
        try:
            yield
        except Exception as error:
            if type(error) not in self._told:
                self._told.add(type(error))
                what = f"{type(error).__name__}: {error}"
                self._say(f"upkeep (leaderboard, old checkpoints) failed; the search goes on: {what}")


def carry_out(plans: Sequence[Plan], fit: Fit, here: Place) -> None:
    """Runs planned studies, at the same time, to their end, from wherever they are; `fit` trains one trial.

    Raises StudyError if a study is being run, was started with another request or is given up, or if none had
    a result; DataError for unusable data; KeyboardInterrupt if the user stops it.
    """
    workspace = plans[0].workspace
    with ExitStack() as stack:
        opened = [open_search(plan, fit, here, stack) for plan in plans]
        log = opened[0].journal.paths.log
        with chatter_to(log) as terminal, progress_on(terminal, plans, here) as progress:
            upkeep = Upkeep(workspace, progress.say)

            def listen(study: Study, record: Record) -> None:
                progress.show(study, record)
                upkeep.after(study, record)

            studies = Studies(resume(opened, listen, log), progress.say)
            for study in studies:
                progress.follow(study)
            try:
                go_on(studies, {search.plan.study: search.task for search in opened}, here, progress, log)
            except KeyboardInterrupt:
                progress.say(f"stopped; the same command resumes {_names(studies)} where it is now")
                raise
            finally:
                upkeep.run(studies)
        print(summary(studies, workspace))
    if studies.error is not None:
        raise studies.error


@dataclass(frozen=True)
class OpenSearch:
    """A planned study whose journal is open."""

    plan: Plan
    journal: Journal
    task: Task


def open_search(plan: Plan, fit: Fit, here: Place, stack: ExitStack) -> OpenSearch:
    """Sees to a study's data, request and journal, which stays open as long as the stack."""
    data = data_set(plan.data, plan.workspace, plan.experiment.twin)
    request = make_request(plan, data)
    journal = stack.enter_context(Journal(plan.workspace.study(plan.study), str(here.scratch)))
    settle(journal.paths, request)
    begin(journal, plan.study, plan.warm)
    return OpenSearch(plan, journal, Task(fit, data, journal.paths, purpose(plan)))


def progress_on(terminal: TextIO, plans: Sequence[Plan], here: Place) -> Progress:
    """The progress of the planned studies."""
    return Progress(terminal, here.workers.count, [plan.study for plan in plans])


def resume(opened: Sequence[OpenSearch], listen: Listener, log: Path) -> list[Study]:
    """The studies as their journals left them, with one budget and one patience with workers."""
    budgets = [Budget.from_journal(search.plan.experiment.search, search.journal.read()) for search in opened]
    spend_together(budgets)
    false_starts = FalseStarts(log)
    studies = [
        Study(
            search.plan.study,
            search.plan.experiment,
            search.journal,
            listen,
            budget=budget,
            false_starts=false_starts,
        )
        for search, budget in zip(opened, budgets, strict=True)
    ]
    for study in studies:
        study.begin()
    return studies


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


def go_on(studies: Studies, tasks: Mapping[str, Task], here: Place, progress: Progress, log: Path) -> None:
    """Lets Ray, started for it, execute what is left of the studies; its output goes to `log`."""
    for study in studies:
        if study.complete:
            progress.say(f"study {study.name} is complete already; nothing to run{by_budget(study)}")
    if studies.complete:
        return
    progress.say(f"starting workers; their output goes to {log}")
    here.start()
    from tune.ray_adapter import execute  # imports Ray, which the place has to start first

    execute(studies, tasks, here, progress.say)
    for study in studies:
        if by_budget(study):
            progress.say(f"study {study.name} has ended{by_budget(study)}")
        if study.exhausted:
            count = len(study.trials)
            progress.say(f"every configuration of {study.name}'s space was tried: {count} trials are all")


def by_budget(study: Study) -> str:
    """What a budget kept a study from, and how to go on; empty if nothing."""
    search = study.experiment.search
    stopped = sum(trial.reason == "BUDGET" for trial in study.trials.values())
    undrawn = 0 if study.exhausted else search.trials - sum(t.confirms is None for t in study.trials.values())
    if not study.budget.limited or not (stopped or undrawn):
        return ""
    more = "a larger --gpu-hours" if search.gpu_hours is not None else "a later --deadline"
    told = f"the budget stopped {plural(stopped, 'trial')}, and {undrawn} never began"
    return f" within {study.budget.text()}: {told}; {more} goes on with them"


def _names(studies: Studies) -> str:
    names = [study.name for study in studies]
    return f"study {names[0]}" if len(names) == 1 else f"the studies {', '.join(names)}"
