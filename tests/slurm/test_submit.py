import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.paths import repository
from slurm.cluster import Cluster, load_cluster
from slurm.errors import SlurmError
from slurm.submit import JobSpec, explain, job_name, script, submit, submit_text

GOLDEN = """\
#!/bin/bash

# Parameters
#SBATCH --account=pr_1
#SBATCH --array=0-5%2
#SBATCH --comment='preemption=yes;requeue=true'
#SBATCH --constraint='a100|h100'
#SBATCH --cpus-per-task=8
#SBATCH --exclude=gr101
#SBATCH --gres=gpu:1
#SBATCH --job-name=fingertip-train-convnext
#SBATCH --mem=64G
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=/runs/jobs/a/fingertip-train-convnext-%A_%a.out
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=90

# setup
trap '' USR1 # slurm.job asks for the time limit itself
module load cuda
cd /runs/code/0123 || exit 1
export PYTHONPATH=/runs/code/0123${PYTHONPATH:+:$PYTHONPATH}

# command
export SUBMITIT_EXECUTOR=slurm
exec python -P -m slurm.job --signal-s 120 -- pipeline.train --config 'my file.yaml'
"""


def site(**changes: object) -> Cluster:
    tree = {
        "name": "site",
        "account": "pr_1",
        "gpu": {
            "gres": "gpu:1",
            "constraint": "a100|h100",
            "comment": "preemption=yes;requeue=true",
            "cpus": 8,
            "memory": "64G",
            "extra": {"exclude": "gr101", "exclusive": False},
        },
        "environment": {
            "setup": ["module load cuda"],
            "python": "python",
        },
        **changes,
    }
    return Cluster.model_validate(tree)


def spec(cluster: Cluster, **changes: object) -> JobSpec:
    given = {
        "name": job_name("train", "convnext"),
        "arguments": ("pipeline.train", "--config", "my file.yaml"),
        "resources": cluster.gpu,
        "logs": Path("/runs/jobs/a"),
        **changes,
    }
    return JobSpec(**given)  # type: ignore[arg-type]


def test_the_script_of_an_array_is_as_it_was() -> None:
    cluster = site()
    text = script(
        cluster,
        spec(cluster, requeue=True, signal_s=120, minutes=90, tasks=6, parallel=2),
        Path("/runs/code/0123"),
    )
    assert text == GOLDEN, (
        "the script of a job has changed, or submitit renders it in another way; if that is meant, copy the "
        "new text into GOLDEN"
    )


def test_a_worker_is_not_requeued_not_signalled_and_not_supervised() -> None:
    cluster = load_cluster("test")
    worker = spec(cluster, arguments=("slurm.worker", "x"), supervised=False)
    text = script(cluster, worker, Path("/code"))
    assert "#SBATCH --no-requeue\n" in text
    assert "--signal" not in text
    assert text.endswith(" -P -m slurm.worker x\n")


def test_a_site_without_requeue_never_asks_for_it() -> None:
    cluster = site(jobs={"requeue": False})
    text = script(cluster, spec(cluster, requeue=True), Path("/code"))
    assert "#SBATCH --no-requeue\n" in text
    assert "#SBATCH --requeue\n" not in text
    assert " -m slurm.job --no-requeue -- pipeline.train" in text
    inside = site(
        jobs={"requeue": False}, environment={"container": "apptainer exec x.sif", "python": "python"}
    )
    text = script(inside, spec(inside, requeue=True), Path("/code"))
    assert text.endswith(
        "exec apptainer exec x.sif python -P -m slurm.job --no-requeue -- "
        "pipeline.train --config 'my file.yaml'\n"
    )


def test_submission_returns_the_number_and_leaves_one_script(slurm_commands, tmp_path: Path) -> None:
    cluster = load_cluster("test")
    logs = tmp_path / "logs"
    job = submit(cluster, spec(cluster, logs=logs), tmp_path)
    assert job == "100"
    assert slurm_commands.script(100) == script(cluster, spec(cluster, logs=logs), tmp_path)
    assert [path.name for path in logs.iterdir()] == ["100_submission.sh"]


def test_what_describes_the_submitting_job_stays_out_of_the_submitted_one(
    slurm_commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaks = {"SLURM_JOB_ID": "9", "SBATCH_TIMELIMIT": "5", "SUBMITIT_EXECUTOR": "slurm", "TMPDIR": "/tmp/9"}
    for name, value in {
        **leaks,
        "CUDA_VISIBLE_DEVICES": "3",
        "SLURM_CONF": "/etc/s.conf",
        "KEPT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    cluster = load_cluster("test")
    submit(cluster, spec(cluster, logs=tmp_path), tmp_path)
    environment = slurm_commands.environment(100)
    assert not {*leaks, "CUDA_VISIBLE_DEVICES"} & environment.keys()
    assert environment["SLURM_CONF"] == "/etc/s.conf"
    assert environment["KEPT"] == "1"


def test_a_refusal_is_told_in_slurms_words_with_what_to_change(slurm_commands, tmp_path: Path, capfd) -> None:
    slurm_commands.refuse("sbatch", "sbatch: error: Batch job submission failed: Invalid account or ...")
    cluster = load_cluster("test")
    with pytest.raises(SlurmError) as caught:
        submit(cluster, spec(cluster, logs=tmp_path), tmp_path)
    assert str(caught.value) == (
        "sbatch refused the job: Batch job submission failed: Invalid account or ...; cluster profile test: "
        "set `account` in the profile; `sacctmgr show assoc user=$USER` lists yours"
    )
    assert capfd.readouterr() == ("", "")


def test_an_sbatch_that_does_not_answer_is_left(slurm_commands, tmp_path: Path, capfd) -> None:
    """Whether Slurm has taken the job is not known then."""
    sbatch = tmp_path / "slurm" / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(SlurmError) as caught:
        submit_text(load_cluster("test"), "#!/bin/bash\n", tmp_path / "logs", timeout_s=0.5)
    assert str(caught.value) == (
        "sbatch did not answer within 0.5 s; Slurm's controller is slow; before trying again, see in "
        "`squeue --me` if the job is there"
    )
    sbatch.write_text("#!/bin/sh\necho Hello\n")
    with pytest.raises(SlurmError, match=r"what is not understood: 'Hello\\n'; see `squeue --me`"):
        submit_text(load_cluster("test"), "#!/bin/bash\n", tmp_path / "logs")
    assert list((tmp_path / "logs").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_script_that_cannot_be_written_is_slurms_error_and_the_disks(slurm_commands) -> None:
    with pytest.raises(SlurmError, match=r"/dev/full/logs: the job's script cannot be written: Not a dir.*"):
        submit_text(load_cluster("test"), "#!/bin/bash\n", Path("/dev/full/logs"))
    assert slurm_commands.asked("sbatch") == []


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("invalid partition specified: gpux", "`sinfo -s` lists them"),
        ("Requested node configuration is not available", "lower cpus, memory or gres"),
        ("Invalid generic resource (gres) specification", "`sinfo -o '%P %G'` lists them"),
        ("Unable to contact slurm controller (connect failure)", "does not answer; try again later"),
        ("Plugin says no", "`--dry-run` prints the script; change the profile to what the site accepts"),
    ],
)
def test_each_refusal_has_its_remedy(message: str, remedy: str) -> None:
    assert remedy in explain(f"sbatch: error: {message}", load_cluster("test"))


def test_without_slurm_it_is_said_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster = load_cluster("test")
    with pytest.raises(
        SlurmError, match="there is no sbatch on PATH; run this on a login node of the cluster"
    ):
        submit(cluster, spec(cluster, logs=tmp_path), tmp_path)


def test_a_job_without_time_to_train_is_refused(tmp_path: Path) -> None:
    cluster = load_cluster("test")
    with pytest.raises(ConfigError) as caught:
        script(cluster, spec(cluster, minutes=1, signal_s=90), tmp_path)
    assert str(caught.value) == (
        "a time limit of 60 s, and jobs.signal_s is 90 s: the job would save and leave as soon as it starts; "
        "give it more time, or lower jobs.signal_s in the profile"
    )


IN_A_CONTAINER = """\
import os, signal, sys, time
from pathlib import Path

def save(number, frame):
    print("saved", flush=True)
    sys.exit(130)

signal.signal(signal.SIGTERM, save)
Path("ready").touch()
time.sleep(60)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("variables", "requeued"),
    [({}, "17"), ({"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "0"}, "17_0")],
)
def test_a_job_in_a_container_is_requeued_from_outside(
    variables: dict[str, str], requeued: str, slurm_commands, tmp_path: Path
) -> None:
    """`env` stands for the container: it hides Slurm's commands. Of an array only the task is requeued."""
    (tmp_path / "work.py").write_text(IN_A_CONTAINER)
    inside = {"container": "env PATH=/nowhere", "python": sys.executable}
    cluster = site(environment={**inside, "setup": [f"export PYTHONPATH={repository()}"]})
    wanted = spec(cluster, arguments=("work",), logs=tmp_path, requeue=True, signal_s=120)
    path = tmp_path / "job.sh"
    path.write_text(script(cluster, wanted, tmp_path))
    with subprocess.Popen(
        ["bash", str(path)],
        env={**os.environ, "SLURM_JOB_ID": "17", **variables},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for((tmp_path / "ready").exists)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "saved\n" in output
    assert "the batch script puts the job into the queue" in output
    assert slurm_commands.asked("scontrol") == [["requeue", requeued]]
