"""The driver's end of a search on a cluster: a Ray without CPUs or GPUs, and the pool of its workers."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import ConfigError, DiskError, PipelineError
from pipeline.paths import PoolPaths, write_text_atomically
from slurm.cluster import Cluster
from slurm.errors import SlurmError
from slurm.fates import ASK_S, Fates
from slurm.job import SUPERVISED
from slurm.pool import Pool
from slurm.queue import Queue
from slurm.submit import JobSpec, submit, workers_name
from tune.local_ray import LocalRay, write_token
from tune.place import Demand, Fate, Workers

LOOK_EVERY_S = 1.0  # at the nodes that have joined
SIOCGIFADDR = 0x8915  # linux/sockios.h


class SlurmRay(LocalRay):
    """Where a search's trials run on a cluster; its workers are gone when the block ends.

    They stay, and wait for the next driver, if this one is itself a job that is going to be started again.
    """

    def __init__(self, cluster: Cluster, workers: Workers, name: str, paths: PoolPaths, code: Path) -> None:
        super().__init__(workers, cluster.environment.scratch_folder())
        self._cluster = cluster
        self._paths = paths
        self._code = code
        self._spec = worker_spec(cluster, name, paths)
        self._demand = Demand(0, frozenset())
        self._joined: frozenset[str] = frozenset()
        self._looked = 0.0
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._error: PipelineError | None = None
        self._wanted, self._over = threading.Event(), threading.Event()
        config = cluster.pool.model_copy(update={"workers": workers.count})
        self._fates = Fates(Queue(ASK_S))
        self._pool = Pool(self._spec.name, config, Queue(), self._submit, self._lines.put)
        self._thread = threading.Thread(target=self._keep, name="pool", daemon=True)

    def token(self) -> Path:
        """One secret for all drivers of this search, so that its workers can change from one to the next."""
        self._paths.root.mkdir(parents=True, exist_ok=True)
        self._paths.root.chmod(0o700)
        return write_token(self._paths.token)

    def options(self) -> dict[str, Any]:
        """Nothing runs beside the driver; workers reach it at the profile's interface."""
        address = address_of(self._cluster.environment.interface)
        return {"num_cpus": 0, "num_gpus": 0, **({"_node_ip_address": address} if address else {})}

    def start(self) -> None:
        """Starts Ray, announces it to the workers and lets the pool follow the demand."""
        super().start()
        if self._thread.ident is not None:
            return
        import ray

        address = ray.get_runtime_context().gcs_address
        write_text_atomically(self._paths.head, json.dumps({"address": address, "since": time.time()}))
        self._thread.start()

    def attend(self, demand: Demand, say: Callable[[str], None]) -> None:
        """Tells the pool what is wanted and a person what it did.

        Raises SlurmError if there will be no workers.
        """
        self._demand = demand
        self._wanted.set()
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._joined, self._looked = joined_jobs(), time.monotonic()
        with suppress(queue.Empty):
            while True:
                say(self._lines.get_nowait())
        if self._error is not None:
            raise self._error

    def held(self) -> frozenset[str]:
        """The worker jobs that run."""
        return self._pool.running

    def fate_of(self, slurm_job: str | None) -> Fate:
        """What Slurm did to a worker."""
        return self._fates.of(slurm_job) if slurm_job else Fate()

    def _submit(self) -> str:
        return submit(self._cluster, self._spec, self._code)

    def _keep(self) -> None:
        """The pool's thread: a step a poll, as long as the search goes on telling what it wants."""
        while not self._over.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if self._over.is_set():
                return
            try:
                self._pool.step(self._demand, self._joined)
            except PipelineError as error:
                self._error = error
                return
            except Exception as error:  # a thread that dies unseen would leave the search waiting for ever
                self._error = SlurmError(f"the pool of workers failed: {type(error).__name__}: {error}")
                self._error.__cause__ = error
                return
            self._over.wait(self._cluster.pool.poll_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()  # first, else it prints a line for every worker that leaves
        self._over.set()
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join()
            if not comes_back(error):
                with suppress(SlurmError):  # they leave by themselves when the driver is gone
                    self._pool.end()
                self._paths.head.unlink(missing_ok=True)
        super().__exit__(kind, error, trace)


def comes_back(error: BaseException | None) -> bool:
    """Whether this driver is started again: its job is taken away, or the disk is full."""
    stopped = isinstance(error, KeyboardInterrupt | DiskError)
    return stopped and SUPERVISED in os.environ


def worker_spec(cluster: Cluster, name: str, paths: PoolPaths) -> JobSpec:
    """The job of a worker of the search `name`."""
    return JobSpec(
        name=workers_name(name, paths),
        arguments=("slurm.worker", "--pool", str(paths.root), "--cluster", cluster.name),
        resources=cluster.gpu,
        logs=paths.logs,
        supervised=False,
        signal_s=cluster.jobs.signal_s,
    )


def joined_jobs() -> frozenset[str]:
    """The Slurm jobs that are nodes of this Ray now."""
    import ray

    labels = [node.get("Labels", {}) for node in ray.nodes() if node["Alive"]]
    return frozenset(label["slurm_job"] for label in labels if "slurm_job" in label)


def address_of(interface: str | None) -> str | None:
    """The IPv4 address of a network interface; an address, or None, as it is.

    Raises ConfigError for an interface that this host does not have, with those it has.
    """
    import fcntl
    import socket
    import struct

    if interface is None or interface.count(".") == 3:
        return interface
    names = [name for _, name in socket.if_nameindex()]
    if interface not in names:
        raise ConfigError(f"environment.interface: no {interface!r} on this host; it has {', '.join(names)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()))
    return socket.inet_ntoa(answer[20:24])
