"""A worker outside Slurm: when it leaves, which driver it serves, what it leaves behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.paths import PoolPaths
from slurm.cluster import Cluster
from slurm.worker import Head, answers, end, lifetime_s, ray_command, read_head
from tests.cluster import processes

ROOT = Path(__file__).parents[2]


def cluster(**pool: float) -> Cluster:
    return Cluster.model_validate({"name": "here", "device": "cpu", "gpu": {"time": 60}, "pool": pool})


def test_lifetimes_end_inside_the_time_limit_and_not_all_at_once() -> None:
    site = cluster(drain_s=600, stagger_s=800)
    lifetimes = [lifetime_s(site, job) for job in range(100, 108)]
    assert max(lifetimes) == 3600 - 600
    assert min(lifetimes) == 3600 - 600 - 700
    assert len(set(lifetimes)) == 8
    assert lifetime_s(cluster(lifetime_s=50.0, stagger_s=0), 1) == 50.0


def test_a_head_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    pool = PoolPaths(tmp_path)
    assert read_head(pool) is None
    for text in ("", '{"address": "1.2.3.4:5"', '{"port": 5}', "[]"):
        pool.head.write_text(text)
        assert read_head(pool) is None
    pool.head.write_text(json.dumps({"address": "1.2.3.4:5", "since": 7.0}))
    assert read_head(pool) == Head("1.2.3.4:5", 7.0)


def test_it_knows_whether_a_head_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert answers(f"127.0.0.1:{port}")
    assert not answers(f"127.0.0.1:{port}")
    assert not answers("nonsense")


def test_ray_gets_what_the_job_was_granted_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    site = Cluster.model_validate({"name": "here", "gpu": {"cpus": 3, "gres": "gpu:1"}})
    command = ray_command(Head("10.0.0.1:6000", 0.0), tmp_path, site)
    assert {"--num-cpus=3", "--num-gpus=1", "--labels=slurm_job=17", f"--temp-dir={tmp_path}/ray"} <= set(
        command
    )
    assert "--num-gpus=0" in ray_command(Head("10.0.0.1:6000", 0.0), tmp_path, cluster())
    assert not any("token" in part for part in command)


def test_the_end_of_ray_takes_its_children_even_those_in_groups_of_their_own() -> None:
    script = "(set -m; sleep 300 & echo $!); trap '' TERM; sleep 300"
    parent = subprocess.Popen(
        ["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert parent.stdout is not None
    grandchild = processes.identify(int(parent.stdout.readline()))
    assert os.getpgid(grandchild.pid) == grandchild.pid
    end(parent, patience_s=0.2)
    assert parent.returncode is not None
    time.sleep(0.1)
    assert not grandchild.is_alive()


@pytest.fixture
def worker(tmp_path: Path) -> subprocess.Popen[str]:
    """A worker whose pool has no driver and never gets one."""
    profile = tmp_path / "site.yaml"
    profile.write_text("device: cpu\ngpu: {time: 60}\npool: {rejoin_s: 600}\n")
    command = [sys.executable, "-m", "slurm.worker", "--pool", str(tmp_path), "--cluster", str(profile)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_a_worker_that_waits_for_a_driver(
    worker: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline().endswith("looks for the driver\n")
    worker.send_signal(number)
    output, _ = worker.communicate(timeout=10)
    assert worker.returncode == 0
    assert f"leaves: {number.name}" in output
