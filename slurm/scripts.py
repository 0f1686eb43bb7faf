"""The batch scripts that are also submitted by hand: slurm/train_best.sbatch and slurm/search.sbatch.

They hold no path of a machine: what they need they find from the folder that sbatch was called in. With
PIPELINE_CODE in its environment a job runs that snapshot of the code; without it, it takes one when it first
starts. Their output lies where sbatch was called, as sbatch loses a job whose output folder is not there.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm.cluster import Cluster, Resources
from slurm.submit import JobSpec, command_line, early_signal, job_name, render

CODE_VARIABLE = "PIPELINE_CODE"
PYTHON_VARIABLE = "PIPELINE_PYTHON"
SHEBANG = "#!/bin/bash\n"
FROM_ENVIRONMENT = '${MODEL:+--model "$MODEL"} ${DATA:+--data "$DATA"}'
TAKE_CODE = '$("${PYTHON[@]}" -m slurm.snapshot --job "$SLURM_JOB_ID")'


@dataclass(frozen=True)
class ByHand:
    """A script for one purpose.

    file: its name in slurm/. module: what it runs.
    about, usage: what it does and how to call it, for its header.
    options: arguments made from the environment (MODEL, DATA), before those of the command line.
    """

    kind: str
    file: str
    module: str
    about: tuple[str, ...]
    usage: tuple[str, ...]
    options: str


FINAL = ByHand(
    kind="final",
    file="train_best.sbatch",
    module="pipeline.final",
    about=(
        "Trains the leaderboard's best row on all the data; RUNS/final gets its checkpoint and submission.",
        "Before its time limit it saves and goes back into the queue, until it is complete.",
    ),
    usage=(
        "sbatch slurm/train_best.sbatch",
        "MODEL=convnext RUNS=/scratch/me/runs DATA=packs/hand sbatch slurm/train_best.sbatch",
    ),
    options='--pin "$PIPELINE_RUNS/final/job-$SLURM_JOB_ID.yaml" ' + FROM_ENVIRONMENT,
)
SEARCH = ByHand(
    kind="search",
    file="search.sbatch",
    module="tune.search",
    about=(
        "Drives a search: a small job that submits the search's workers. Before its time limit it saves and",
        "goes back into the queue, until the study is complete.",
    ),
    usage=(
        "MODEL=convnext sbatch slurm/search.sbatch",
        "RUNS=/scratch/me/runs DATA=packs/hand sbatch slurm/search.sbatch --model resnet50 --trials 40",
    ),
    options=FROM_ENVIRONMENT,
)


def variables(code: Path, runs: Path) -> dict[str, str]:
    """What a job that is submitted for somebody finds in its environment: nothing is left to guess."""
    chosen = {CODE_VARIABLE: str(code), PYTHON_VARIABLE: sys.executable, "RUNS": str(runs.resolve())}
    return {**chosen, "MODEL": "", "DATA": ""}


def text(cluster: Cluster, script: ByHand, arguments: Sequence[str] = (), name: str | None = None) -> str:
    """The script for a site; `arguments` of the module are fixed in it."""
    spec = JobSpec(
        name=name or job_name(script.kind),
        arguments=(),
        resources=_resources(cluster, script),
        logs=Path("."),
        requeue=True,
        signal_s=cluster.jobs.signal_s,
    )
    fixed = shlex.join([script.module, *_fixed(cluster, script)])
    given = " ".join([*map(shlex.quote, arguments), '"$@"'])
    command = command_line(cluster, '"${PYTHON[@]}"', spec, " \\\n  ".join([fixed, script.options, given]))
    body = render(cluster, spec, [*early_signal(spec), *_setup(cluster)], command, "%x-%j.out")
    return SHEBANG + _header(cluster, script) + body.removeprefix(SHEBANG)


def _resources(cluster: Cluster, script: ByHand) -> Resources:
    return cluster.driver if script is SEARCH else cluster.gpu


def _fixed(cluster: Cluster, script: ByHand) -> list[str]:
    if script is FINAL:
        return ["--set", f"device={cluster.device}"]
    return ["--executor", "slurm", "--cluster", cluster.name]


def _header(cluster: Cluster, script: ByHand) -> str:
    generate = f"python -m slurm.launch {script.kind} --cluster"
    lines = [
        *script.about,
        "Source: the profile configs/cluster/NAME.yaml; another site's:",
        f"  {generate} NAME --dry-run > slurm/{script.file}",
        f"Command, from the checkout, where {job_name(script.kind)}-JOB.out comes (variables are optional):",
        *(f"  {line}" for line in script.usage),
    ]
    return "".join(f"# {line}\n" for line in lines)


def _setup(cluster: Cluster) -> list[str]:
    """Shell lines that find Python, the results and the code, from the folder that sbatch was called in."""
    return [
        'cd "${SLURM_SUBMIT_DIR:-.}" || exit 1',
        *cluster.environment.setup,
        *_python(cluster),
        'PIPELINE_RUNS=$(realpath -m "${RUNS:-${PIPELINE_RUNS:-runs}}") && export PIPELINE_RUNS',
        "# a job that comes back from the queue runs the code that it first started with",
        f"{CODE_VARIABLE}=${{{CODE_VARIABLE}:-{TAKE_CODE}}} || exit 1",
        f"export PYTHONPATH=${CODE_VARIABLE}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]


def _python(cluster: Cluster) -> list[str]:
    site = cluster.environment
    if site.python:
        return [f"PYTHON=({' '.join(filter(None, (site.container, site.python)))})"]
    own = f'[ -z "${PYTHON_VARIABLE}" ] && [ -x .venv/bin/python ]'
    return [
        f'if {own}; then {PYTHON_VARIABLE}="$PWD/.venv/bin/python"; fi',
        f'PYTHON=("${{{PYTHON_VARIABLE}:-python3}}")',
    ]
