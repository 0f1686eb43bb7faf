"""Whether a site gives what a profile asks for: partition, account, qos, GPUs, time; and what sbatch says."""

from __future__ import annotations

import os
from collections.abc import Iterator

from slurm.cluster import Cluster, Resources
from slurm.commands import ask
from slurm.facts import Node, Partition, Site, clock, counted, memory_mb
from slurm.findings import Finding, note, ok, problem, warning
from slurm.submit import KEPT, STALE, explain

SHOWN = 8  # names in a message
REHEARSAL_S = 60


def resources(site: Site, cluster: Cluster, key: str, script: str) -> tuple[Finding, ...]:
    """All findings about the jobs of cluster.`key`, gpu or driver, whose batch script is `script`."""
    asked = cluster.gpu if key == "gpu" else cluster.driver
    partition = site.partition_of(asked.partition)
    found = [
        *_partition(site, key, asked),
        *_open_to(site, cluster, key, partition),
        *_qos(site, key, asked, partition),
        *_time(site, key, asked, partition),
        *_nodes(site, key, asked, partition),
        rehearsal(cluster, script),
    ]
    return tuple(found)


def _names(names: object) -> str:
    """The first few, in order."""
    ordered = sorted(map(str, names))  # type: ignore[call-overload]
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more or "none"


def _partition(site: Site, key: str, asked: Resources) -> Iterator[Finding]:
    if asked.partition is None:
        default = site.partition_of(None)
        if default is None:
            yield note(
                "partition",
                "none is named, and Slurm has no default",
                f"set {key}.partition if sbatch asks for one",
            )
        else:
            yield ok("partition", f"{default.name}, Slurm's default")
        return
    for name in asked.partition.split(","):
        found = site.partitions.get(name)
        if found is None:
            yield problem(
                "partition",
                f"{key}.partition is {name!r}: there is no such partition",
                f"set {key}.partition in the profile to one of these, or leave it out",
                f"one of {_names(site.partitions)}",
            )
        elif found.state != "UP":
            yield warning(
                "partition", f"{name} is {found.state}", "wait, or name another; `sinfo -s` lists them"
            )
        else:
            yield ok("partition", f"{name} is up")


def _open_to(site: Site, cluster: Cluster, key: str, partition: Partition | None) -> Iterator[Finding]:
    """Whether the partition takes the profile's account."""
    if not (cluster.account and partition and partition.accounts is not None):
        return
    if cluster.account not in partition.accounts:
        level = problem if _enforced(site, "associations") else warning
        remedy = f"set account or {key}.partition in the profile"
        needed = f"one of {_names(partition.accounts)}"
        yield level(
            "account", f"partition {partition.name} does not take {cluster.account!r}", remedy, needed
        )


def _enforced(site: Site, what: str) -> bool:
    """Whether Slurm refuses jobs of an account or qos that is not the user's."""
    return what in site.setting("AccountingStorageEnforce")


def account(site: Site, cluster: Cluster) -> Iterator[Finding]:
    """Whether this user may charge the profile's account."""
    if site.associations is None:
        yield note("account", f"{cluster.account or 'none named'}; who may use which is not told here")
        return
    mine = {association.account for association in site.associations}
    enforced = _enforced(site, "associations")
    if cluster.account is None:
        if not mine and enforced:
            yield problem("account", "you have no account here", "ask the site's support for one")
        else:
            yield ok("account", f"Slurm's default; yours: {_names(mine)}")
    elif cluster.account in mine:
        yield ok("account", f"{cluster.account} is yours")
    else:
        level = problem if enforced else warning
        remedy = "set `account` in the profile to one of yours, or leave it out for the default"
        what = "not one of your accounts" + ("" if enforced else "; this Slurm does not enforce that")
        yield level("account", f"{cluster.account!r} is {what}", remedy, f"one of {_names(mine)}")


def _qos(site: Site, key: str, asked: Resources, partition: Partition | None) -> Iterator[Finding]:
    if asked.qos is None:
        return
    mine = {name for association in site.associations or () for name in association.qos}
    known = mine or set(site.qos_minutes or ())
    if known and asked.qos not in known:
        enforced = _enforced(site, "qos")
        level = problem if enforced else warning
        what = "is not one you may use" + ("" if enforced else "; this Slurm does not enforce that")
        remedy = f"set {key}.qos in the profile to one of these, or leave it out"
        yield level("qos", f"{asked.qos!r} {what}", remedy, f"one of {_names(known)}")
    elif partition and partition.qos is not None and asked.qos not in partition.qos:
        remedy = f"set {key}.qos or {key}.partition in the profile"
        needed = f"one of {_names(partition.qos)}"
        yield problem("qos", f"partition {partition.name} does not take {asked.qos!r}", remedy, needed)
    else:
        yield ok("qos", f"{asked.qos}")


def _time(site: Site, key: str, asked: Resources, partition: Partition | None) -> Iterator[Finding]:
    limits = {f"partition {partition.name}": partition.max_minutes} if partition else {}
    if asked.qos and site.qos_minutes:
        limits[f"qos {asked.qos}"] = site.qos_minutes.get(asked.qos)
    shortest = min(((most, what) for what, most in limits.items() if most is not None), default=None)
    wanted = clock(asked.time)
    if shortest is None:
        yield ok("time", f"{wanted}; no limit is told")
    elif asked.time > shortest[0]:
        level = warning if _picked(site, asked) else problem
        yield level(
            "time",
            f"{key}.time is {wanted}",
            f"lower {key}.time in the profile: whatever is not done by then goes back into the queue",
            f"at most {clock(shortest[0])}, the limit of {shortest[1]}",
        )
    else:
        yield ok("time", f"{wanted} of at most {clock(shortest[0])}")


def _nodes(site: Site, key: str, asked: Resources, partition: Partition | None) -> Iterator[Finding]:
    """Whether some node has everything at once; if not, what is too much."""
    if asked.partition and partition is None:
        return
    names = asked.partition.split(",") if asked.partition else None
    inside = [node for node in site.nodes if names is None or node.partition in names]
    fits = [node for node in inside if not _lacks(node, asked)]
    where = f"partition {', '.join(names)}" if names else "any partition"
    if not fits:
        yield _too_much(key, asked, inside, where)
        return
    usable = {node.name for node in fits if node.usable}
    count = len({node.name for node in fits})
    inside_of = f" of {where}" if names else ""
    told = f"{count} node{'' if count == 1 else 's'}{inside_of} fit {_wanted(asked)}"
    if usable:
        yield ok("nodes", f"{told}; {len(usable)} up now")
    else:
        states = counted([node.state for node in fits])
        yield warning("nodes", f"{told}, none is up ({states})", "wait, or ask the site")
    if names is None and partition is not None:
        yield from _elsewhere(site, key, asked, partition, {node.partition for node in fits})


def _elsewhere(
    site: Site, key: str, asked: Resources, default: Partition, there: set[str]
) -> Iterator[Finding]:
    """Whether only partitions other than the default one have such nodes."""
    if default.name in there:
        return
    told = f"none of them is in the default partition {default.name}, but in {_names(there)}"
    if _picked(site, asked):
        yield note("nodes", f"{told}; this site's Slurm may pick that by itself")
    else:
        yield problem("nodes", told, f"set {key}.partition in the profile", f"one of {_names(there)}")


def _picked(site: Site, asked: Resources) -> bool:
    """Whether the site may choose another partition than the default one."""
    return asked.partition is None and bool(site.setting("JobSubmitPlugins"))


def _wanted(asked: Resources) -> str:
    parts = [asked.gres, asked.constraint, f"{asked.cpus} CPU{'' if asked.cpus == 1 else 's'}", asked.memory]
    return ", ".join(filter(None, parts))


def _lacks(node: Node, asked: Resources) -> list[str]:
    """Which of the profile's keys ask for more than a node has."""
    few = {
        "gres": asked.gres is not None and not node.has_gres(asked.gres),
        "constraint": asked.constraint is not None and not node.has_features(asked.constraint),
        "cpus": asked.cpus > node.cpus,
        "memory": asked.memory is not None and memory_mb(asked.memory) > node.memory_mb,
    }
    return [key for key, lacks in few.items() if lacks]


def _too_much(key: str, asked: Resources, inside: list[Node], where: str) -> Finding:
    """The finding that no node of `inside` has what is asked for; names the nearest one's shortage."""
    if not inside:
        return problem("nodes", f"{where} has no nodes", f"name another {key}.partition; see `sinfo -s`")
    nearest = min(inside, key=lambda node: len(_lacks(node, asked)))
    kinds = {":".join(filter(None, (name, kind, str(n)))) for node in inside for name, kind, n in node.gres}
    features = {feature for node in inside for feature in node.features}
    there = {
        "gres": f"gres {_names(kinds)}",
        "constraint": f"constraint of {_names(features)}",
        "cpus": f"at most {max(node.cpus for node in inside)} CPUs",
        "memory": f"at most {max(node.memory_mb for node in inside)}M of memory",
    }
    lacking = _lacks(nearest, asked)
    values = ", ".join(f"{key}.{name} {getattr(asked, name)}" for name in lacking)
    needed = "; ".join(there[name] for name in lacking)
    remedy = f"change {' and '.join(f'{key}.{name}' for name in lacking)} in the profile"
    return problem("nodes", f"no node of {where} has {values}", remedy, needed)


def rehearsal(cluster: Cluster, script: str) -> Finding:
    """What sbatch itself says to the job's script; nothing is submitted."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(STALE) or key in KEPT}
    answer = ask("sbatch", "--test-only", stdin=script, timeout_s=REHEARSAL_S, env=clean)
    if answer.failed:
        words, _, remedy = explain(answer.failed, cluster).rpartition(f"; cluster profile {cluster.name}: ")
        return problem("sbatch", words.removeprefix("sbatch refused the job: "), remedy, "a job it accepts")
    said = next((line for line in answer.said.splitlines() if " to start at " in line), "accepts the job")
    return ok("sbatch", "--test-only: " + said.removeprefix("sbatch: "))
