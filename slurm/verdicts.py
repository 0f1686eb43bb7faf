"""From what a probe reported from a node to findings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from slurm.checks_disk import FEW_OPEN_FILES
from slurm.checks_python import commands, complaints, last_line, python, remedy_for
from slurm.cluster import Cluster
from slurm.findings import Finding, ok, problem, warning
from slurm.probing import Probed

DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}  # the oldest for each CUDA (NVIDIA's release notes)
CLOCK_S = 5.0
SCRATCH_GB = 1.0
Report = Mapping[str, Any]


def verdicts(probed: Probed, cluster: Cluster) -> tuple[Finding, ...]:
    """All findings of a probe; the first tells what became of the job."""
    report = probed.report
    if not report:
        return (no_report(probed),)
    found = [_job(probed, report)]
    for step in JUDGES:
        found += _judged(step, report, probed, cluster)
    return tuple(found)


def no_report(probed: Probed) -> Finding:
    """Why a probe's job has told nothing."""
    if not probed.job:
        words, _, remedy = probed.trouble.rpartition(": ")
        return problem("job", words or probed.trouble, remedy or "see the script with --dry-run")
    if probed.trouble:
        return problem(
            "job",
            f"no report in {probed.waited_s:.0f} s: {probed.trouble}; cancelled",
            "try again with a longer --timeout S, or ask for what is free: `sinfo` tells",
        )
    if not probed.output:
        return problem(
            "job",
            f"{probed.job} ended ({probed.state}) and nothing that it wrote is seen here",
            "give --runs DIR on a disk that this host and every node share",
            "the same folder RUNS on all hosts",
        )
    kept = f"its output is {probed.folder}"
    return problem(
        "job",
        f"{probed.job} ended ({probed.state}) before it could report: {last_line(probed.output)}; {kept}",
        remedy_for(probed.output),
        "setup, container and python of the profile's `environment` that work on a node",
    )


def _job(probed: Probed, report: Report) -> Finding:
    node = report.get("host", {}).get("node", "a node")
    told = f"{probed.job} reported from {node} after {probed.waited_s:.0f} s"
    if report.get("complete"):
        return ok("job", told)
    last = list(report)[-2:][0]
    return problem(
        "job",
        f"{told}, and ended ({probed.state}) in the step after {last!r}: {last_line(probed.output)}",
        f"the output is in {probed.folder}; a step that ends the process is often a library for other CPUs, "
        "or too little gpu.memory",
    )


def _judged(step: str, report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    """The findings of a step, or that it failed; none of a step that was not reached."""
    result = report.get(step)
    if isinstance(result, dict) and "error" in result and step in FAILED:
        about, remedy = FAILED[step]
        yield problem(about, f"{step} on the node: {result['error']}", remedy)
    elif result is not None:
        yield from JUDGES[step](report, probed, cluster)


def _python(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    yield from complaints(probed.output)
    yield from python(report["python"])


def _commands(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    yield from commands(report["slurm_commands"])


def _controller(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    said = report["controller"]
    if said:
        remedy = "a container needs Slurm's configuration and munge's socket; see slurm/README.md, Containers"
        yield problem("controller", f"Slurm does not answer a job: {said}", remedy)
    else:
        yield ok("controller", "answers a job: a driver can submit workers, a job can go back into the queue")


def _host(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    host = report["host"]
    if host["cpus"] < cluster.gpu.cpus:
        told = f"{host['cpus']} usable by the job, gpu.cpus asks for {cluster.gpu.cpus}"
        yield warning("CPUs", told, "lower gpu.cpus in the profile: training would wait for data")
    if 0 < host["open_files"] < FEW_OPEN_FILES:
        told = f"at most {host['open_files']} on the node"
        remedy = f'put "ulimit -n {FEW_OPEN_FILES}" into environment.setup, or keep --workers low'
        yield warning("open files", told, remedy, str(FEW_OPEN_FILES))
    named = cluster.environment.interface
    if named and named.count(".") != 3 and named not in host["interfaces"]:
        there = ", ".join(host["interfaces"])
        needed = "one that every node has: a driver may run on any"
        remedy = "set environment.interface in the profile, or null"
        yield problem("interface", f"no {named} on the node; it has {there}", remedy, needed)


def _runs(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    found = report["runs"]
    yield ok("RUNS", "the node sees and writes the same files as this host")
    if found["lock_excludes"]:
        yield ok("locks", "hold across hosts")
    else:
        told = "a file that this host has locked could be locked on the node: two drivers could run at once"
        yield warning("locks", told, "start a search from one host only, or give --runs DIR elsewhere")


def _head(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    found = report["head"]
    if "error" in found or found["word"] != probed.word:
        yield _unreachable(found.get("error", "somebody else answers at this address"))
        return
    yield ok("network", "the node reaches this host, as workers reach their driver")
    if probed.arrived is not None:
        ahead_s = found["time"] - probed.arrived
        if abs(ahead_s) > CLOCK_S:
            told = f"the node's differs by {ahead_s:+.0f} s from this host's"
            yield warning("clock", told, "tell the site: Slurm itself needs clocks that agree")
        else:
            yield ok("clock", f"the node's agrees to {max(abs(ahead_s), 0.1):.1f} s")


def _unreachable(why: str) -> Finding:
    told = f"the node does not reach this host: {why}"
    remedy = "set environment.interface in the profile to the network that all nodes are on (`ip addr`)"
    if "SLURM_JOB_ID" in os.environ:
        return problem("network", told, remedy)
    return warning(
        "network",
        f"{told}. This host may be a login node behind a firewall; a search's driver is itself a job",
        f"see from a node: srun --pty python -m slurm.doctor --probe; if that fails too, {remedy}",
    )


def _scratch(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    found = report["scratch"]
    told = f"{found['folder']} takes files and sockets, {found['free_gb']} GB free"
    if found["free_gb"] < SCRATCH_GB:
        remedy = "name another folder in environment.scratch: Ray writes its logs there"
        yield warning("scratch", told, remedy, f"{SCRATCH_GB:.0f} GB")
    else:
        yield ok("scratch", told)


def _gpu(report: Report, probed: Probed, cluster: Cluster) -> Iterator[Finding]:
    found = report["gpu"]
    if cluster.device == "cpu":
        said = found["computed"]
        yield (
            problem("torch", said, "install another build of torch")
            if said
            else ok(
                "torch", f"{found['torch']} computes on the CPU; GPUs are not looked at, as device is cpu"
            )
        )
        return
    yield from gpus(found, cluster)


def gpus(found: Report, cluster: Cluster) -> Iterator[Finding]:
    """Findings about torch and the GPUs of a node."""
    build = found["cuda_build"]
    if build is None:
        remedy = "install a CUDA build of torch, or set device: cpu in the profile"
        yield problem("torch", f"{found['torch']} is built without CUDA", remedy)
        return
    yield from _driver(found, int(build.partition(".")[0]))
    if found["count"] != cluster.gpu.gpus:
        told = f"{found['count']} visible, gpu.gpus is {cluster.gpu.gpus}"
        remedy = "make gpu.gres (or gpu.constraint) and gpu.gpus of the profile say the same"
        level = problem if found["count"] < cluster.gpu.gpus else warning
        yield level("GPUs", told, remedy)
    for device in found["devices"]:
        yield _known(device, found)
    if found["computed"] and found["count"]:
        yield problem("computing", found["computed"], "install a torch build for this GPU and driver")


def _driver(found: Report, major: int) -> Iterator[Finding]:
    newest = found["driver_cuda"]
    told = f"torch {found['torch']} is built for CUDA {found['cuda_build']}"
    if newest is None:
        remedy = "ask for a GPU: gpu.gres or gpu.constraint; a container needs --nv"
        yield problem("driver", f"{told}; no driver answers ({found.get('driver_error', '')})", remedy)
    elif int(newest.partition(".")[0]) < major:
        needed = (
            f"driver {DRIVERS[major]} or newer for CUDA {major}" if major in DRIVERS else "a newer driver"
        )
        yield problem(
            "driver",
            f"{told}; the driver, {found['driver']}, knows CUDA up to {newest}",
            f"install torch's build for CUDA {newest.partition('.')[0]}, or ask the site for a newer driver",
            needed,
        )
    else:
        yield ok("driver", f"{told}; the driver, {found['driver']}, knows {newest}")


def _known(device: Report, found: Report) -> Finding:
    major, minor = device["capability"]
    told = f"{device['name']}, {device['memory_gb']} GB, sm_{major}{minor}"
    if knows(found["archs"], major, minor):
        computes = "" if found["computed"] else "; it computes"
        return ok("GPU", f"{told}: this torch is built for it{computes}")
    return problem(
        "GPU",
        f"{told}: torch {found['torch']} is not built for it",
        "install a torch build that names it, or ask for another GPU in gpu.gres or gpu.constraint",
        f"one of {', '.join(found['archs'])}",
    )


def knows(archs: Sequence[str], major: int, minor: int) -> bool:
    """Whether code for these architectures runs on a GPU of capability major.minor.

    Machine code (sm_) runs on its own major and later minors, intermediate code (compute_) on all later GPUs.
    """
    for arch in archs:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", arch)
        if found is None:
            continue
        of = int(found[2]), int(found[3])
        if (of[0] == major or found[1] == "compute") and of <= (major, minor):
            return True
    return False


JUDGES: dict[str, Callable[[Report, Probed, Cluster], Iterator[Finding]]] = {
    "python": _python,
    "slurm_commands": _commands,
    "host": _host,
    "runs": _runs,
    "head": _head,
    "controller": _controller,
    "scratch": _scratch,
    "gpu": _gpu,
}
FAILED = {  # a step that raised -> what it is about, and what to do; `head` judges that itself
    "python": ("python", "mend `environment` in the profile"),
    "slurm_commands": ("in the job", "mend `environment` in the profile"),
    "host": ("node", "see the job's output"),
    "runs": ("RUNS", "give --runs DIR on a disk that nodes may write"),
    "controller": ("controller", "see slurm/README.md, Containers"),
    "scratch": ("scratch", "set environment.scratch in the profile to a short folder on the node's own disk"),
    "gpu": ("torch", "torch must import on the node: install this project there (`pip install -e .`)"),
}
