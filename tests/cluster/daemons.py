"""The daemons of a cluster: how each is started, which of them run, how they end."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path

from tests.cluster import config, processes
from tests.cluster.processes import Process

START_S = 60
POLL_S = 0.1


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Waits until a condition holds; after how many seconds. A command that fails is tried again."""
    start = time.monotonic()
    trouble = ""
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except RuntimeError as error:
            trouble = f" (the last trouble: {error})"
        if time.monotonic() > start + seconds:
            raise TimeoutError(f"not within {seconds} s: {what}{trouble}")
        time.sleep(POLL_S)


def run(env: Mapping[str, str], *command: str, check: bool = True) -> str:
    """What a command prints."""
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    if check and result.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {result.returncode}: {result.stderr}")
    return result.stdout.strip()


class Daemons:
    """All daemons of the cluster whose files lie in `root`.

    `state.json` there says which run, and who started them: if that process is gone, nobody will end them.
    """

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self._root = root
        self._env = env
        self._starter = processes.identify(os.getpid())
        self._running: dict[str, Process] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def load(self) -> None:
        """Takes over the daemons that another process started."""
        state = json.loads((self._root / "state.json").read_text())
        self._starter = Process(*state["starter"])
        self._running = {name: Process(*numbers) for name, numbers in state["daemons"].items()}

    @property
    def abandoned(self) -> bool:
        """Whether the process that started them is gone."""
        return not self._starter.is_alive()

    def start_munged(self) -> None:
        """Authentication, with a key and a socket of our own."""
        places = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
        places |= {"log-file": "log/munged", "seed-file": "munge.seed"}
        options = [f"--{option}={self._root / place}" for option, place in places.items()]
        self._start("munged", "munged", "--foreground", *options)
        self._wait("munged", (self._root / "munge.socket").exists)

    def start_accounting(self, ports: config.Ports) -> None:
        """A database of our own, slurmdbd on it, and in it the cluster, an account and this user."""
        temporary = self._root / "database-temporary"
        temporary.mkdir()
        where = [
            "--no-defaults",  # first, or it is refused
            f"--datadir={self._root}/database",
            f"--tmpdir={temporary}",  # a server that starts removes what others have in the common one
            f"--user={config.user()}",
        ]
        make = ["--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=socket"]
        run(self._env, "mariadb-install-db", *where, *make)
        listen = [f"--socket={self._root}/db.socket", "--bind-address=127.0.0.1", f"--port={ports.database}"]
        quick = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]
        setup = [f"--init-file={self._root}/database.sql", f"--pid-file={self._root}/mariadbd.pid"]
        self._start("mariadbd", "mariadbd", *where, *listen, *quick, *setup)
        self._wait("mariadbd", lambda: not config.is_free(ports.database))
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: not config.is_free(ports.accounting))
        self._fill_accounting()

    def _fill_accounting(self) -> None:
        change = ("sacctmgr", "--immediate")
        run(self._env, *change, "add", "cluster", config.CLUSTER)
        run(self._env, *change, "add", "account", config.ACCOUNT)
        run(self._env, *change, "add", "user", config.user(), f"Account={config.ACCOUNT}")
        default = f"DefaultAccount={config.ACCOUNT}"  # root has another one from the start
        run(self._env, *change, "modify", "user", config.user(), "set", default, check=False)

    def start_controller(self) -> None:
        """slurmctld, from its saved state if it has one."""
        self._start("slurmctld", "slurmctld", "-D")

    def start_node(self, node: str) -> None:
        """The slurmd of a node. Its steps stand in its directory: that is how they are told from others'."""
        self._start(node, "slurmd", "-D", "-N", node, directory=self._root / node)

    def runs(self, name: str) -> bool:
        """Whether a daemon is there."""
        return name in self._running and self._running[name].is_alive()

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        """Ends a daemon with a signal and waits for it."""
        daemon = self._running[name]
        daemon.send(number)
        wait_until(lambda: not daemon.is_alive(), START_S, f"{name} has ended")
        self._reap(name)

    def end_node(self, node: str) -> None:
        """Kills a slurmd, the job steps and what they run, so that none can tell of it."""
        processes.kill_all(lambda: [self._running[node], *self._job_processes(node)])
        self._reap(node)

    def end_all(self, nodes: tuple[str, ...]) -> None:
        """Kills every daemon and whatever jobs run."""

        def everything() -> list[Process]:
            return [
                *self._running.values(),
                *(process for node in nodes for process in self._job_processes(node)),
            ]

        processes.kill_all(everything)
        for name in list(self._children):
            self._reap(name)
        self._running.clear()

    def _start(self, name: str, program: str, *options: str, directory: Path | None = None) -> None:
        output = self._root / "log" / f"{name}.out"
        found = shutil.which(program, path=self._env["PATH"]) or program
        child = processes.start_daemon([found, *options], self._env, directory or self._root, output)
        self._reap(name)
        self._children[name] = child
        self._running[name] = processes.identify(child.pid)
        self._save()

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Waits until a daemon is ready, or has ended and never will be."""
        wait_until(lambda: ready() or not self.runs(name), START_S, f"{name} is ready")
        if not self.runs(name):
            log = (self._root / "log" / f"{name}.out").read_text()
            raise OSError(f"{name} ended as soon as it was started; it said: {log}")

    def _save(self) -> None:
        daemons = {name: astuple(process) for name, process in self._running.items()}
        new = self._root / "state.json.new"
        new.write_text(json.dumps({"starter": astuple(self._starter), "daemons": daemons}))
        os.replace(new, self._root / "state.json")

    def _reap(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            child.wait()

    def _job_processes(self, node: str) -> list[Process]:
        """The slurmstepd processes of a node, then all that they or their jobs started, orphans too."""
        home = f"{self._root}/{node}"
        marks = {"SLURM_CONF": self._env["SLURM_CONF"], "SLURMD_NODENAME": node}.items()
        steps, strays = [], []
        for stat in processes.all_processes():
            if stat.name == "slurmstepd" and processes.is_within(stat.process, home):
                steps.append(stat.process)
            elif marks <= processes.environment(stat.process).items():
                strays.append(stat.process)
        return processes.trees_below([*steps, *strays])
