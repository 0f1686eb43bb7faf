"""A search on a cluster: the driver is a small job of its own, the workers are jobs that it submits.

On a login node the command submits the driver; inside a job it is the driver.
"""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import ConfigError, StudyError
from pipeline.paths import Workspace
from pipeline.records import Record, read_journal
from slurm.cluster import Cluster, choose_cluster
from slurm.errors import SlurmError
from slurm.glance import SEVERAL, jobs_names
from slurm.head import SlurmRay, worker_spec
from slurm.job import SUPERVISED
from slurm.launching import how_it_goes_on, launch_by_hand, launches, remember_driver
from slurm.logs import show
from slurm.queue import Job, Queue, ask
from slurm.scripts import SEARCH, text
from slurm.snapshot import place, take
from slurm.submit import job_name, kind_and_what, script
from tune.budget import Budget, spend_together
from tune.driver import carry_out
from tune.journal import MemoryJournal, is_driven
from tune.place import Workers
from tune.plan import Because, Machine, Plan, make_plans, plans_text
from tune.session import Fit
from tune.study import Study

FOLLOWED_LINES = 40


def search(args: Namespace, executor: Because) -> None:
    """What `python -m tune.search` does where trials run on a cluster."""
    cluster = choose_cluster(args.cluster)
    plans = make_plans(args, machine_of(cluster, executor))
    if args.dry_run:
        print(plans_text(plans))
        print("\n".join(_scripts(cluster, plans, args)))
    elif "SLURM_JOB_ID" in os.environ:
        from pipeline.train import fit

        drive(cluster, plans, fit)
    else:
        submit_driver(cluster, plans, args)


def machine_of(cluster: Cluster, executor: Because) -> Machine:
    """A cluster as a plan sees it."""
    on_gpus = cluster.device == "cuda"
    smoke = Because("smoke", f"{cluster.name} trains on CPUs: small networks; or give --profile full")
    asked = cluster.gpu.gres or cluster.gpu.constraint or "no GPU named"

    def choose_workers(count: int | None, gpus: int) -> tuple[Workers, str]:
        why = f"at most, each a Slurm job with {asked}; " + ("--workers" if count else "pool.workers")
        return Workers(count or cluster.pool.workers, cluster.gpu.cpus, 1 if gpus else 0), why

    return Machine(
        gpus=cluster.pool.workers if on_gpus else 0,
        executor=executor,
        profile=Because("full", f"the GPUs of {cluster.name}") if on_gpus else smoke,
        choose_workers=choose_workers,
        overrides=() if on_gpus else ("device=cpu",),
        lines=(("cluster", f"{cluster.name}; driver and workers are Slurm jobs"),),
        stop="python -m slurm.launch stop {name} --runs {runs}",
    )


def name_of(plans: Sequence[Plan]) -> str:
    """What the jobs of these studies are called: the study, or `all`."""
    return plans[0].study if len(plans) == 1 else SEVERAL


def drive(cluster: Cluster, plans: Sequence[Plan], fit: Fit) -> None:
    """Runs the studies from here, at the same time, on one pool of workers."""
    workspace, name = plans[0].workspace, name_of(plans)
    code = take(workspace.root)
    introduce(name, workspace, cluster, code)
    os.chdir(code)  # Ray has workers import from where the driver stands: this must not be a checkout
    with SlurmRay(cluster, plans[0].workers, name, workspace.pool(name), code) as here:
        print(plans_text(plans), flush=True)
        carry_out(plans, fit, here)


def introduce(name: str, workspace: Workspace, cluster: Cluster, code: Path) -> None:
    """Lets `slurm.launch` find a driver that was submitted by hand: by a record and, if it may, a name."""
    job, title = os.environ.get("SLURM_JOB_ID"), job_name(SEARCH.kind, name)
    if not job or SUPERVISED not in os.environ:
        return
    remember_driver(job, name, workspace.root, cluster, code)
    if os.environ.get("SLURM_JOB_NAME") != title:
        with suppress(SlurmError):
            ask(["scontrol", "update", f"JobId={job}", f"JobName={title}"])


def submit_search(cluster: Cluster, args: Namespace) -> None:
    """What `python -m slurm.launch search` does, inside a job too: submits the driver."""
    submit_driver(cluster, make_plans(args, machine_of(cluster, Because("slurm", "slurm.launch"))), args)


def submit_driver(cluster: Cluster, plans: Sequence[Plan], args: Namespace) -> None:
    """Submits the driver, unless there is nothing to run; prints how to follow, stop and resume it.

    Raises StudyError or SlurmError if one of its studies has a driver already.
    """
    workspace, name = plans[0].workspace, name_of(plans)
    if args.fresh and len(plans) > 1:
        raise ConfigError("--fresh on a cluster starts one study at a time: give --model NAME instead of all")
    refuse_running(workspace, plans)
    refuse_queued(workspace, plans)
    if are_complete(plans):
        print("\n".join(map(completed, plans)))
        return
    print(plans_text(plans))
    launched, _ = launch_by_hand(cluster, SEARCH, driver_arguments(args, plans), workspace.root, name)
    runs = shlex.quote(str(workspace.root))
    print(
        f"submitted the search as Slurm job {launched.jobs[0]}; {how_it_goes_on(cluster)}\n"
        f"  output     python -m slurm.launch logs {name} -f --runs {runs}\n"
        f"  stop       python -m slurm.launch stop {name} --runs {runs}\n"
        "  resume     the same command again"
    )
    if args.follow:
        show(workspace.root, launched.jobs[0], FOLLOWED_LINES, follow=True)
        refuse_failed(launched.jobs[0])


def are_complete(plans: Sequence[Plan]) -> bool:
    """Whether a driver would find nothing to run: asked of the studies, on copies of their journals."""
    journals = [MemoryJournal(read_journal(plan.workspace.study(plan.study).journal)) for plan in plans]
    if not all(journals):
        return False
    searches = [plan.experiment.search for plan in plans]
    budgets = [
        Budget.from_journal(search, journal) for search, journal in zip(searches, journals, strict=True)
    ]
    spend_together(budgets)
    studies = [
        Study(plan.study, plan.experiment, journal, _pass_over, budget=budget)
        for plan, journal, budget in zip(plans, journals, budgets, strict=True)
    ]
    for study in studies:
        study.begin()
    return all(study.complete for study in studies)


def _pass_over(study: Study, record: Record) -> None:
    """Listens to nothing."""


def completed(plan: Plan) -> str:
    """What a person is told of a study that is complete."""
    runs = shlex.quote(str(plan.workspace.root))
    return (
        f"study {plan.study} is complete already; nothing was submitted\n"
        f"  results    {plan.workspace.leaderboard} and best.yaml\n"
        f"  trials     python -m tune.status --study {plan.study} --runs {runs}\n"
        "  go on      with more --trials, --gpu-hours or --confirm; --fresh starts a new study"
    )


def refuse_failed(job_id: str) -> None:
    """Raises SlurmError if a job has ended otherwise than completed."""
    job = Queue().fate(job_id)
    if job is not None and job.finished and job.state != "COMPLETED":
        raise SlurmError(f"Slurm job {job_id} ended as {job.state}; its output says why")


def refuse_running(workspace: Workspace, plans: Sequence[Plan]) -> None:
    """Raises StudyError for a study that is being run."""
    for plan in plans:
        if is_driven(workspace.study(plan.study)):
            raise StudyError(
                f"study {plan.study} is being run. Follow it with: python -m tune.status "
                f"--runs {shlex.quote(str(workspace.root))} --study {plan.study} --watch"
            )


def refuse_queued(workspace: Workspace, plans: Sequence[Plan]) -> None:
    """Raises SlurmError for studies whose drivers are in the queue: the later driver of a study fails."""
    found = list(_queued_drivers(workspace, [plan.study for plan in plans]))
    if not found:
        return
    told = "; ".join(_what_it_is(driver, studies, name_of(plans)) for driver, studies in found)
    numbers = [driver.id for driver, _ in found]
    runs = shlex.quote(str(workspace.root))
    raise SlurmError(
        f"{told}. Follow it with: python -m slurm.launch logs {numbers[0]} -f --runs {runs}; "
        f"stop it with: python -m slurm.launch stop {' '.join(numbers)} --runs {runs}"
    )


def _queued_drivers(workspace: Workspace, studies: Sequence[str]) -> Iterator[tuple[Job, list[str]]]:
    """The drivers of these runs that wait or run, each with those of the studies that are its own."""
    ours = {number for launched, _ in launches(workspace.root) for number in launched.jobs}
    for job in Queue().jobs().values():
        kind, name = kind_and_what(job.name)
        covered = [study for study in studies if name in jobs_names(study)]
        if covered and kind == SEARCH.kind and job.id in ours and not job.finished:
            yield job, covered


def _what_it_is(driver: Job, studies: Sequence[str], asked: str) -> str:
    """A queued driver for a person who has asked for the search called `asked`."""
    job = f"Slurm job {driver.id} ({driver.state})"
    _, name = kind_and_what(driver.name)
    if name == asked:
        return f"{job} is this search already"
    of_several = ", a search of all models," if name == SEVERAL else ""
    return f"{job}{of_several} is the driver of study {', '.join(studies)} already"


def driver_arguments(args: Namespace, plans: Sequence[Plan]) -> list[str]:
    """The same request, as it reads from any folder; a fresh study by the name it was given here."""
    study = plans[0].study if len(plans) == 1 else None
    data = plans[0].data
    given = {
        "--model": args.model,
        "--study": study,
        "--trials": args.trials,
        "--epochs": args.epochs,
        "--data": data,
        "--runs": plans[0].workspace.root,
        "--profile": args.profile,
        "--workers": args.workers,
        "--gpu-hours": args.gpu_hours,
        "--deadline": args.deadline and args.deadline.isoformat(),
        "--confirm": args.confirm,
        "--sampler": args.sampler,
        "--warm-start": args.warm_start,
        "--seed": args.seed,
    }
    flags = [part for key, value in given.items() if value is not None for part in (key, str(value))]
    return flags + [part for value in args.overrides for part in ("--set", value)]


def _scripts(cluster: Cluster, plans: Sequence[Plan], args: Namespace) -> list[str]:
    """The batch scripts of the driver and of a worker."""
    workspace, name = plans[0].workspace, name_of(plans)
    driver = text(cluster, SEARCH, driver_arguments(args, plans), job_name(SEARCH.kind, name))
    worker = script(cluster, worker_spec(cluster, name, workspace.pool(name)), place(workspace.root))
    return [f"\n# the driver's job\n{driver}", f"# a worker's job\n{worker}"]
