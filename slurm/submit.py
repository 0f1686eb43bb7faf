"""From a command to a Slurm job: the batch script's text, and its submission.

A job runs a command, never a pickle: the text that `--dry-run` prints is the text that is submitted, with
the name and the folder of the launch filled in. A requeued job depends on nothing but its snapshot of the
code (see slurm.snapshot), its cluster profile and the environment of its Python. submitit renders the
directives.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.paths import PoolPaths, temporary_name
from slurm.cluster import Cluster, Resources
from slurm.commands import ask
from slurm.errors import SlurmError
from slurm.job import EXIT_REQUEUE

JOB_PREFIX = "fingertip"  # of every job's name: squeue shows whose it is, and only such jobs are ever stopped
FOLDER_MARK = re.compile(r"-[0-9a-f]{6}$")  # ends a worker's name: of which folder its study is
SUPERVISOR = "slurm.job"
STALE = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")  # prefixes: they describe the job that submits
STALE_NAMES = (
    "PIPELINE_SUPERVISED",
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ROCR_VISIBLE_DEVICES",
    "TMPDIR",
)
KEPT = ("SLURM_CONF",)
OUTSIDE = """\
{command} &
inside=$!
trap 'kill -USR1 "$inside"' USR1
trap 'kill -TERM "$inside"' TERM
while wait "$inside"; code=$?; kill -0 "$inside" 2>/dev/null; do :; done # a signal ends wait, not the command
if [ "$code" -eq {code} ]; then
  job=$SLURM_JOB_ID # of a task of an array it may be the array's: all tasks would be requeued
  if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; fi
  scontrol requeue "$job" && exit 0
fi
exit "$code\""""
SUBMIT_S = 90  # a busy controller takes its time
SUBMITTED = re.compile(r"job (\d+)")
UNSET_SIGNAL = "#SBATCH --signal="

REMEDIES = {  # what stands in sbatch's message -> what to do
    "account": "set `account` in the profile; `sacctmgr show assoc user=$USER` lists yours",
    "partition": "set `partition` in the profile; `sinfo -s` lists them",
    "qos": "set `qos` in the profile, or wait until fewer of your jobs are queued",
    "generic resource": "set `gres` in the profile; `sinfo -o '%P %G'` lists them",
    "feature": "set `constraint` in the profile; `sinfo -o '%P %f'` lists what there is",
    "node configuration": "no node has so much; lower cpus, memory or gres: see `sinfo -o '%P %c %m %G'`",
    "time limit": "lower `time` in the profile; `sinfo -o '%P %l'` lists the limits",
    "array": "lower `jobs.array_size` in the profile; `scontrol show config` lists MaxArraySize",
    "contact": "Slurm's controller does not answer; try again later, or look at `scontrol ping`",
    "timed out": "Slurm's controller is slow; before trying again, see in `squeue --me` if the job is there",
}


@dataclass(frozen=True)
class JobSpec:
    """One job, or an array of equal ones.

    name: without spaces, from `job_name`.
    arguments: a module of this project and its arguments; the job starts in the snapshot's folder, so paths
        among them must be absolute.
    resources: `cluster.gpu` or `cluster.driver`.
    logs: the folder of the job's output and script; submitting makes it.
    supervised: whether slurm.job starts the module, requeues it at the time limit and restarts it if killed.
    minutes: the time limit; None: the profile's.
    requeue: whether the job may go back into the queue, if the profile allows that.
    signal_s: seconds before the limit at which SIGUSR1 comes; None: no signal.
    tasks: the size of an array (SLURM_ARRAY_TASK_ID from 0), of which `parallel` run at once; None: all.
    comment: added to the profile's.
    """

    name: str
    arguments: tuple[str, ...]
    resources: Resources
    logs: Path
    supervised: bool = True
    minutes: int | None = None
    requeue: bool = False
    signal_s: int | None = None
    tasks: int | None = None
    parallel: int | None = None
    comment: str | None = None


def job_name(kind: str, what: str = "") -> str:
    """The name of a job: project, kind (train, search, worker, final) and which model or study."""
    return "-".join(filter(None, (JOB_PREFIX, kind, what)))


def workers_name(name: str, pool: PoolPaths) -> str:
    """What the worker jobs of a search are called: studies of the same name may lie in several folders."""
    digest = hashlib.sha256(str(pool.root.resolve()).encode()).hexdigest()
    return job_name("worker", f"{name}-{digest[:6]}")


def kind_and_what(name: str) -> tuple[str, str]:
    """What `job_name` was given, out of a job's name; of a worker the study alone. Empty: no job of ours."""
    prefix, _, rest = name.partition("-")
    if prefix != JOB_PREFIX:
        return "", ""
    kind, _, what = rest.partition("-")
    return kind, FOLDER_MARK.sub("", what) if kind == "worker" else what


def script(cluster: Cluster, spec: JobSpec, code: Path) -> str:
    """The batch script of a job that runs the snapshot `code`."""
    setup = [
        *early_signal(spec),
        *cluster.environment.setup,
        f"cd {shlex.quote(str(code))} || exit 1",
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]
    pattern = f"{spec.name}-%j.out" if spec.tasks is None else f"{spec.name}-%A_%a.out"
    command = command_line(cluster, _python(cluster), spec, shlex.join(spec.arguments))
    return render(cluster, spec, setup, command, str(spec.logs.resolve() / pattern))


def early_signal(spec: JobSpec) -> list[str]:
    """A shell line that keeps the signal before the time limit from ending a job that is still starting."""
    return [] if spec.signal_s is None else ["trap '' USR1 # slurm.job asks for the time limit itself"]


def _python(cluster: Cluster) -> str:
    site = cluster.environment
    return " ".join(filter(None, (site.container, site.python or shlex.quote(sys.executable))))


def command_line(cluster: Cluster, python: str, spec: JobSpec, arguments: str) -> str:
    """The script's last lines: the command replaces the shell, so that Slurm's signals reach it.

    Where it runs in a container, Slurm's commands are outside: the shell stays, passes signals on, requeues.
    """
    if not spec.supervised:
        return f"exec {python} -P -m {arguments}"
    warned = f" --signal-s {spec.signal_s}" if spec.signal_s else ""
    comes_back = may_requeue(cluster, spec)
    if not cluster.environment.container or not comes_back:
        told = "" if comes_back else " --no-requeue"
        return f"exec {python} -P -m {SUPERVISOR}{warned}{told} -- {arguments}"
    supervised = f"{python} -P -m {SUPERVISOR}{warned} --requeue-outside -- {arguments}"
    return OUTSIDE.format(command=supervised, code=EXIT_REQUEUE)


def may_requeue(cluster: Cluster, spec: JobSpec) -> bool:
    """Whether the job wants to go back into the queue and the site lets it."""
    return spec.requeue and cluster.jobs.requeue


def render(cluster: Cluster, spec: JobSpec, setup: Sequence[str], command: str, output: str) -> str:
    """A batch script: the job's directives, shell lines, the command."""
    from submitit.slurm.slurm import _make_sbatch_string

    asked = spec.resources
    _refuse_no_time(spec)
    text: str = _make_sbatch_string(
        command=command,
        folder=Path(output).parent,
        job_name=spec.name,
        partition=asked.partition,
        time=spec.minutes or asked.time,
        cpus_per_task=asked.cpus,
        mem=asked.memory,
        qos=asked.qos,
        account=cluster.account,
        gres=asked.gres,
        constraint=asked.constraint,
        comment=";".join(filter(None, (asked.comment, spec.comment))) or None,
        setup=list(setup),
        map_count=spec.tasks,
        array_parallelism=spec.parallel or spec.tasks or 1,
        wckey=None,  # some sites refuse submitit's
        stderr_to_stdout=True,
        use_srun=False,
        additional_parameters=_additional(cluster, spec, output),
    )
    lines = text.rstrip("\n").splitlines()
    if spec.signal_s is None:  # submitit always asks for one
        lines = [line for line in lines if not line.startswith(UNSET_SIGNAL)]
    return "\n".join(lines) + "\n"


def _refuse_no_time(spec: JobSpec) -> None:
    limit_s = 60 * (spec.minutes or spec.resources.time)
    if spec.signal_s is not None and spec.signal_s >= limit_s:
        raise ConfigError(
            f"a time limit of {limit_s} s, and jobs.signal_s is {spec.signal_s} s: the job would save and "
            "leave as soon as it starts; give it more time, or lower jobs.signal_s in the profile"
        )


def _additional(cluster: Cluster, spec: JobSpec, output: str) -> dict[str, Any]:
    """Directives that submitit has no argument for, or another idea of."""
    given: dict[str, Any] = {"output": output}
    given["requeue" if may_requeue(cluster, spec) else "no-requeue"] = True
    if spec.signal_s is not None:
        given["signal"] = f"B:USR1@{spec.signal_s}"  # B: to the batch script's process, which is ours
    given.update({key: value for key, value in spec.resources.extra.items() if value is not False})
    return given


def submit(cluster: Cluster, spec: JobSpec, code: Path) -> str:
    """Submits a job that runs the snapshot `code`; its number.

    Raises SlurmError with Slurm's own words and what to do.
    """
    return submit_text(cluster, script(cluster, spec, code), spec.logs)


def submit_text(
    cluster: Cluster,
    text: str,
    logs: Path,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    timeout_s: float = SUBMIT_S,
) -> str:
    """Submits a batch script; a copy stays in `logs`. `options` of sbatch win over the script's own.

    `variables` are added to the job's environment, which is otherwise that of this process without what
    describes the job it may itself run in. Raises SlurmError, for a disk that is full, too.
    """
    if shutil.which("sbatch") is None:
        raise SlurmError("there is no sbatch on PATH; run this on a login node of the cluster")
    path = temporary_name(logs / "submission.sh")
    try:
        logs.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        job = _sbatch(cluster, [*options, str(path)], _environment(cluster, variables or {}), timeout_s)
        with contextlib.suppress(OSError):  # Slurm has the job and a script of its own
            path.rename(logs / f"{job}_submission.sh")
        return job
    except OSError as error:  # the disk is full, or the folder may not be written
        raise SlurmError(
            f"{path.parent}: the job's script cannot be written: {error.strerror or error}; nothing was "
            "submitted: make room, or give another --runs"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _sbatch(cluster: Cluster, arguments: Sequence[str], env: Mapping[str, str], timeout_s: float) -> str:
    """Calls sbatch; the number of the job. Raises SlurmError."""
    answer = ask("sbatch", *arguments, timeout_s=timeout_s, env=env)
    if not answer.ended:
        raise SlurmError(f"{answer.failed}; {REMEDIES['timed out']}")
    if answer.failed:
        raise SlurmError(explain(answer.failed, cluster))
    number = SUBMITTED.search(answer.output)
    if number is None:
        raise SlurmError(f"sbatch says what is not understood: {answer.said!r}; see `squeue --me`")
    return number[1]


def _environment(cluster: Cluster, variables: Mapping[str, str]) -> dict[str, str]:
    """An environment for sbatch that keeps what describes the submitting job out of the submitted one."""
    stale = {name for name in os.environ if name.startswith(STALE) and name not in KEPT}
    if not cluster.account:  # the user's own default
        stale.discard("SBATCH_ACCOUNT")
    if "SLURM_JOB_ID" in os.environ:
        stale.update(STALE_NAMES)
    return {name: value for name, value in os.environ.items() if name not in stale} | dict(variables)


def explain(message: str, cluster: Cluster) -> str:
    """sbatch's refusal in its own words, with what to change."""
    words = " ".join(message.removeprefix("sbatch: error: ").split())
    remedy = next((advice for part, advice in REMEDIES.items() if part in words.lower()), None)
    general = "`--dry-run` prints the script; change the profile to what the site accepts"
    return f"sbatch refused the job: {words}; cluster profile {cluster.name}: {remedy or general}"
