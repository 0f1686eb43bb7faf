"""What the doctor looks at in a site's Slurm: that it answers, and how jobs end and come back there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from slurm.checks_resources import account
from slurm.cluster import PROFILE_VARIABLE, Cluster
from slurm.facts import Site
from slurm.findings import Finding, note, ok, problem, warning

NEEDED_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
SAVE_S = 30  # a checkpoint of the largest network on a slow shared disk
NO_ACCOUNTING = "accounting_storage/none"


def commands() -> Iterator[Finding]:
    """Slurm's commands on PATH."""
    missing = [name for name in NEEDED_COMMANDS if shutil.which(name) is None]
    if missing:
        yield problem(
            "commands",
            f"not on PATH: {', '.join(missing)}",
            "run this on a login node; where Slurm comes as a module, `module load slurm`; in a container, "
            "bind Slurm's commands into it (slurm/README.md)",
        )
    else:
        yield ok("commands", f"{', '.join(NEEDED_COMMANDS)} are on PATH")


def controller(site: Site | str) -> Iterator[Finding]:
    """Whether slurmctld answers."""
    if isinstance(site, str):
        yield problem(
            "controller",
            f"Slurm does not answer: {site}",
            "try again in some minutes; `scontrol ping` tells whether the controller is up, SLURM_CONF where "
            "its configuration is",
        )
        return
    version, name = site.setting("SLURM_VERSION"), site.setting("ClusterName")
    states = {node.name: node.state for node in site.nodes}
    usable = sum(node.usable for node in {node.name: node for node in site.nodes}.values())
    yield ok("controller", f"Slurm {version} answers, cluster {name}; {usable} of {len(states)} nodes up")


def chosen(cluster: Cluster, asked: str | None, site: Site | str) -> Iterator[Finding]:
    """Which profile, and why that one."""
    name = "" if isinstance(site, str) else site.setting("ClusterName")
    if asked:
        why = "as --cluster says"
    elif os.environ.get(PROFILE_VARIABLE):
        why = f"as {PROFILE_VARIABLE} says"
    else:
        why = f"as it knows the cluster name {name}"
    yield ok("profile", f"{cluster.name}, {why}; trains on {cluster.device}")
    if name and cluster.cluster_names and name not in cluster.cluster_names:
        yield note(
            "profile",
            f"it is written for {', '.join(cluster.cluster_names)}; this Slurm calls itself {name}",
            "if that is meant, add the name to cluster_names; else give --cluster for this site's own",
        )


def accounting(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """Whether there is a memory of jobs that ended."""
    kept_s = site.number("MinJobAge") or 0
    if site.setting("AccountingStorageType") not in ("", NO_ACCOUNTING):
        yield ok("accounting", "on: how a job ended can be asked for days")
        return
    yield note(
        "accounting",
        f"off: there is no sacct. How a job ended is known for {kept_s} s (MinJobAge), from the controller; "
        "after that it counts as unknown, never as failed. Nothing else is lost: results are on disk",
    )
    if 0 < kept_s < 2 * cluster.pool.poll_s:
        yield warning(
            "accounting",
            f"jobs are forgotten after {kept_s} s, and the pool asks every {cluster.pool.poll_s:g} s: how a "
            "worker ended may go unseen",
            f"lower pool.poll_s in the profile to {max(1, kept_s // 3)}",
        )


def requeue(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """Whether a driver or a run may go back into the queue."""
    if not cluster.jobs.requeue:
        yield note(
            "requeue",
            "jobs.requeue is false: a job that reaches its time limit ends",
            "give the same command again; it goes on where it was",
        )
    elif site.setting("JobRequeue") == "0":
        yield note(
            "requeue",
            "off by default here (JobRequeue=0); drivers and runs ask for it with --requeue. If the site "
            "refuses even that, set jobs.requeue: false in the profile",
        )
    else:
        yield ok("requeue", "allowed; drivers and runs go back before their time limit, workers are replaced")


def preemption(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """What happens to a job that somebody more important displaces, and how long it may save."""
    partition = site.partition_of(cluster.gpu.partition)
    own = partition.preempt_mode if partition else ""
    mode = own or site.setting("PreemptMode") or "OFF"
    if site.setting("PreemptType") in ("", "preempt/none") or mode == "OFF":
        yield ok("preemption", "off: a job that runs is not displaced")
        return
    grace_s = max(partition.grace_s if partition else 0, site.number("KillWait") or 0)
    told = f"{mode.lower()}; a displaced job has {grace_s} s between SIGTERM and its end"
    if "send_user_signal" in site.setting("PreemptParameters") + site.setting("SlurmctldParameters"):
        told += ", and SIGUSR1 before"
    if "CANCEL" in mode:
        yield note("preemption", f"{told}, and is not put back", "give the command again: it goes on")
    elif "SUSPEND" in mode:
        yield warning(
            "preemption",
            f"{told.partition(';')[0]}: a displaced job is stopped in place, and its trial with it",
            "nothing is lost; ask for a partition that is not preempted if searches stall",
        )
    else:
        yield ok("preemption", f"{told}, then goes back into the queue")
    if grace_s < SAVE_S:
        yield note(
            "preemption",
            f"{grace_s} s (KillWait, GraceTime) may be too short to save: then the last checkpoint "
            "counts, and what came after it is repeated",
        )


def arrays(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """Whether the profile's array size is allowed."""
    most, wanted = site.number("MaxArraySize"), cluster.jobs.array_size
    if not cluster.jobs.arrays or most is None:
        return
    if most <= 1:
        yield warning("arrays", "not allowed here (MaxArraySize)", "set jobs.arrays: false in the profile")
    elif wanted > most:
        yield warning(
            "arrays",
            f"jobs.array_size is {wanted}, MaxArraySize here {most}: slurm.launch train would be refused",
            f"set jobs.array_size: {most} in the profile, or less",
        )
    else:
        yield ok("arrays", f"of {wanted} tasks, {most} are allowed")


def everything(site: Site, cluster: Cluster) -> tuple[Finding, ...]:
    """All of this about a site."""
    parts = (account, accounting, requeue, preemption, arrays)
    return tuple(finding for part in parts for finding in part(site, cluster))
