"""The test clusters as fixtures; tests that use them are marked `cluster`.

`slurm_cluster` and `slurm_without_accounting` last for the whole session. Most tests want `on_slurm` or
`on_slurm_without_accounting`: the same cluster, with this process's environment led to it, and without
jobs or faults when the test begins.
"""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import SlurmCluster, missing_commands
from tests.cluster.config import PACKAGES


def running_cluster(accounting: bool) -> Iterator[SlurmCluster]:
    missing = missing_commands(accounting)
    if missing:
        message = f"needs {', '.join(missing)}; on Debian: apt-get install {PACKAGES}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with SlurmCluster(accounting) as cluster:
        yield cluster


def led_to(cluster: SlurmCluster, environment: pytest.MonkeyPatch) -> SlurmCluster:
    for name in list(os.environ):
        if name.startswith(("SLURM", "SBATCH")):
            environment.delenv(name)
    for name, value in cluster.env.items():
        environment.setenv(name, value)
    cluster.reset()
    return cluster


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    yield from running_cluster(accounting=True)


@pytest.fixture(scope="session")
def slurm_without_accounting() -> Iterator[SlurmCluster]:
    yield from running_cluster(accounting=False)


@pytest.fixture
def on_slurm(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    yield led_to(slurm_cluster, monkeypatch)
    slurm_cluster.reset()


@pytest.fixture
def on_slurm_without_accounting(
    slurm_without_accounting: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmCluster]:
    yield led_to(slurm_without_accounting, monkeypatch)
    slurm_without_accounting.reset()
