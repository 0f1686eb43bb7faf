"""Jobs on a real Slurm, cut by their time limit, preempted, killed: their weights are those of quiet runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
import torch

from pipeline.checkpoint import read_checkpoint
from pipeline.leaderboard import refresh
from pipeline.paths import Workspace, repository
from slurm.launch import main
from tests.cluster.cluster import SlurmCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

SMALL = ["--profile", "smoke", "--set", "train.batch_size=8"]
ON_TEST_NODES = ["--cpus-per-task=1", "--mem=1500M", "--gres=gpu:rtx8000:1", "--partition=gpu"]
CUT = ["--time=1", "--signal=B:USR1@30"]
CUT_LINE = "the time limit is near: saved, and back into the queue"
CPU = ["--set", "device=cpu"]


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory, blobs: Path) -> tuple[Path, float]:
    """A workspace with one trained row, and the seconds that an epoch takes here."""
    runs = tmp_path_factory.mktemp("winner")
    python("pipeline.train", "--model", "resnet50", *SMALL, "--data", blobs, "--runs", runs).communicate()
    refresh(Workspace(runs))
    (epochs,) = runs.glob("train/*/epochs.jsonl")
    seconds = median(json.loads(line)["seconds"] for line in epochs.read_text().splitlines())
    return runs, seconds


@pytest.fixture
def copies(winner: tuple[Path, float], tmp_path: Path) -> Callable[[str], Path]:
    """Makes a workspace with the winner in it."""

    def copy(name: str) -> Path:
        shutil.copytree(winner[0], tmp_path / name)
        return tmp_path / name

    return copy


def python(module: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=repository(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


class Reference:
    """The same final run without a cluster and without interruption, meanwhile."""

    def __init__(self, runs: Path, epochs: int) -> None:
        self._runs = runs
        self._process = python("pipeline.final", "--runs", runs, "--set", f"train.epochs={epochs}", *CPU)

    def weights(self) -> dict[str, torch.Tensor]:
        output, _ = self._process.communicate(timeout=300)
        assert self._process.returncode == 0, output
        return weights(self._runs)


def weights(runs: Path) -> dict[str, torch.Tensor]:
    (path,) = runs.glob("final/*/final.pt")
    found: dict[str, torch.Tensor] = read_checkpoint(path)["model"]
    return found


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


def epochs_of(runs: Path) -> list[int]:
    (path,) = runs.glob("final/*/epochs.jsonl")
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()]


def launched(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, Path]:
    """Launches something; its job and folder."""
    capsys.readouterr()
    main([str(part) for part in arguments])
    lines = capsys.readouterr().out.splitlines()
    return lines[0].split()[2].rstrip(":"), Path(lines[1].split()[1])


def log(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.out")))


def test_the_shipped_script_cut_twice_by_its_time_limit_gives_the_same_weights(
    on_slurm: SlurmCluster, copies: Callable[[str], Path], winner: tuple[Path, float], tmp_path: Path
) -> None:
    epochs = int(60 / winner[1])
    reference, runs = Reference(copies("reference"), epochs), copies("cut")
    environment = {**os.environ, "RUNS": str(runs), "PIPELINE_PYTHON": sys.executable}
    words = ["sbatch", "--parsable", f"--output={tmp_path}/%x-%j.out", *ON_TEST_NODES, *CUT]
    script = ["slurm/train_best.sbatch", *CPU, "--set", f"train.epochs={epochs}"]
    result = subprocess.run(
        [*words, *script], cwd=repository(), env=environment, capture_output=True, text=True, check=True
    )
    job = result.stdout.strip()
    on_slurm.wait_until(lambda: log(tmp_path).count(CUT_LINE) == 2, 200, "it was cut twice")
    on_slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")  # the rest at once: tests have to end
    on_slurm.wait_for_state(job, "COMPLETED", seconds=300)
    assert "start 3 of this job" in log(tmp_path)
    assert_equal(weights(runs), reference.weights())
    assert epochs_of(runs) == list(range(1, epochs + 1))
    assert next(runs.glob("final/*/submission.csv")).exists()


def test_a_run_that_is_killed_then_preempted_then_loses_its_node_gives_the_same_weights(
    on_slurm: SlurmCluster,
    copies: Callable[[str], Path],
    winner: tuple[Path, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    epochs = int(25 / winner[1])
    reference, runs = Reference(copies("reference"), epochs), copies("killed")
    every_second = ["--set", "checkpoint_every_s=1"]
    wanted = ["final", "--cluster", "test", "--runs", runs, "--set", f"train.epochs={epochs}", *every_second]
    job, folder = launched(capsys, *wanted)
    on_slurm.wait_until(lambda: list(runs.glob("final/*/latest.pt")), 60, "it has trained for a while")
    os.kill(training_process(runs), signal.SIGKILL)
    on_slurm.wait_until(lambda: "starting it again" in log(folder), 30, "it was started again")
    wait_for_epochs(on_slurm, runs, 5)
    on_slurm.preempt(node_of(on_slurm, job), seconds=3)
    on_slurm.wait_until(lambda: "start 2 of this job" in log(folder), 60, "it came back")
    wait_for_epochs(on_slurm, runs, 5)
    on_slurm.lose_node(node_of(on_slurm, job))
    on_slurm.wait_until(lambda: "start 3 of this job" in log(folder), 90, "it goes on elsewhere")
    on_slurm.wait_for_state(job, "COMPLETED", seconds=200)
    assert_equal(weights(runs), reference.weights())
    assert epochs_of(runs) == list(range(1, epochs + 1))


def node_of(cluster: SlurmCluster, job: str) -> str:
    words = cluster.run("scontrol", "show", "job", job).split()
    return next(word.partition("=")[2] for word in words if word.startswith("NodeList="))


def wait_for_epochs(cluster: SlurmCluster, runs: Path, more: int) -> None:
    done = len(epochs_of(runs))
    cluster.wait_until(lambda: len(epochs_of(runs)) >= done + more, 60, "it goes on")


def training_process(runs: Path) -> int:
    """The process that trains into a workspace."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
            ours = f"RUNS={runs}".encode() in path.read_bytes()
            if ours and b"pipeline.final" in words and b"slurm.job" not in words:
                return int(path.parent.name)
        except OSError:
            continue
    raise AssertionError("nothing trains")


def test_an_array_trains_every_model_with_every_seed(
    on_slurm: SlurmCluster, blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["train", "--model", "resnet50,convnext", "--seeds", "2", *SMALL, "--set", "train.epochs=2"]
    job, folder = launched(capsys, *wanted, "--data", blobs, "--runs", tmp_path)
    main(["status", "--json", "--runs", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)
    assert {row["id"] for row in rows} == {f"{job}_{task}" for task in range(4)}
    assert {row["folder"] for row in rows} == {str(folder)}
    assert {row["does"] for row in rows} == {
        f"trains {model}, seed {seed}" for model in ("resnet50", "convnext") for seed in (0, 1)
    }
    on_slurm.wait_until(lambda: not on_slurm.run("squeue", "-h", "-j", job), 120, "the array has ended")
    frame = refresh(Workspace(tmp_path))
    assert sorted(zip(frame["model"], frame["seed"], frame["status"], strict=True)) == [
        (model, seed, "completed") for model in ("convnext", "resnet50") for seed in (0, 1)
    ]
    assert set(frame["slurm_job"]) == {f"{job}_{task}" for task in range(4)}
    code = Path(json.loads((folder / "job.json").read_text())["code"])
    assert set(frame["commit"]) == {(code / "COMMIT").read_text().strip()}


def test_a_run_is_followed_stopped_and_goes_on_when_launched_again(
    on_slurm: SlurmCluster, blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "train",
        "--model",
        "resnet50",
        *SMALL,
        "--set",
        "train.epochs=2000",
        "--data",
        blobs,
        "--runs",
        tmp_path,
    ]
    job, folder = launched(capsys, *given)
    on_slurm.wait_until(lambda: "epoch    3/2000" in log(folder), 60, "it trains")
    main(["status", "--runs", str(tmp_path)])
    assert f"{job}_0  running     trains resnet50, seed 0" in capsys.readouterr().out
    with following(job, tmp_path) as follower:
        main(["stop", job, "--runs", str(tmp_path)])
        assert f"cancelled {job}_0: trains resnet50, seed 0" in capsys.readouterr().out
        on_slurm.wait_until(lambda: not on_slurm.run("squeue", "-h", "-j", job), 60, "it has ended")
        assert follower.wait(timeout=40) == 0
        assert follower.stdout is not None
        assert "stopped and saved after step" in follower.stdout.read()
    _, folder = launched(capsys, *given)
    on_slurm.wait_until(lambda: "goes on from its last checkpoint" in log(folder), 60, "it goes on")
    main(["stop", "all", "--runs", str(tmp_path)])


@contextmanager
def following(job: str, runs: Path) -> "Iterator[subprocess.Popen[str]]":
    """`slurm.launch logs JOB -f` in a process of its own."""
    process = python("slurm.launch", "logs", job, "-f", "--runs", runs)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
