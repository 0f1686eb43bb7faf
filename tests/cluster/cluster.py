"""One private Slurm: started in seconds, made to fail in every way that matters, ended without a trace."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import config, daemons

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun")
ACCOUNTING_COMMANDS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"  # often not on a user's PATH
PREFIX = "slurm-"  # of a root's name, in the system's temporary directory
NO_CONTACT = "Unable to contact slurm controller (connect failure)"


def missing_commands(accounting: bool) -> list[str]:
    """The commands that a cluster needs and that are not installed."""
    wanted = COMMANDS + (ACCOUNTING_COMMANDS if accounting else ())
    return [command for command in wanted if not shutil.which(command, path=search_path())]


def search_path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{SBIN}"


class SlurmCluster:
    """Three nodes, `gr1` to `gr3`, with a GPU each; partitions `gpu` and `urgent`, which preempts it.

    `env` leads commands and jobs to this cluster. Whatever ends a job does so in seconds (see `config.py`).
    """

    nodes = config.NODES
    partition, urgent, gres, account = config.PARTITION, config.URGENT, config.GRES, config.ACCOUNT

    def __init__(self, accounting: bool = True, root: Path | None = None) -> None:
        self.accounting = accounting
        self.root = root or Path(
            tempfile.mkdtemp(prefix=PREFIX)
        )  # short: a socket's path is 107 bytes at most
        self._daemons = daemons.Daemons(self.root, self.full_env)

    @classmethod
    def attach(cls, root: Path) -> Self:
        """A cluster that another process started."""
        cluster = cls((root / "slurmdbd.conf").exists(), root)
        cluster._daemons.load()
        return cluster

    @property
    def abandoned(self) -> bool:
        """Whether the process that started it is gone, so that nobody but `down` will end it."""
        return self._daemons.abandoned

    @property
    def running(self) -> bool:
        """Whether its controller runs."""
        return self._daemons.runs("slurmctld")

    @property
    def env(self) -> dict[str, str]:
        """What to put into the environment of whoever uses this cluster."""
        return {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": f"{self.root}/bin:{search_path()}"}

    @property
    def full_env(self) -> dict[str, str]:
        """This process's environment, led to this cluster; of other Slurm variables nothing is left."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
        return outside | self.env

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts everything and waits until all nodes are idle; if that fails, nothing is left running."""
        try:
            self.root.mkdir(exist_ok=True)
            self.root.chmod(0o755)  # munged insists that everybody can reach its socket
            for name in ("log", "bin", "controller", *self.nodes):
                (self.root / name).mkdir()
            ports = config.free_ports()
            config.write_config(self.root, ports, self.accounting)
            self._daemons.start_munged()
            if self.accounting:
                self._daemons.start_accounting(ports)
            self._daemons.start_controller()
            for node in self.nodes:
                self._daemons.start_node(node)
            self.wait_until(self.all_idle, daemons.START_S, "all nodes are idle")
        except BaseException:
            self._daemons.end_all(self.nodes)  # the directory stays: its logs say why
            raise

    def stop(self) -> None:
        """Kills every daemon and whatever jobs run, and removes the directory: nothing is worth saving."""
        self._daemons.end_all(self.nodes)
        shutil.rmtree(self.root, ignore_errors=True)

    # Use

    def run(self, *command: str, check: bool = True) -> str:
        """What a command prints on this cluster."""
        return daemons.run(self.full_env, *command, check=check)

    def submit(self, script: str, *options: str) -> str:
        """Submits a shell script of a line or more, with one GPU; its job number."""
        output = self.root / "log" / "job-%j"
        fixed = ("--parsable", f"--gres={self.gres}", f"--output={output}", f"--chdir={self.root}")
        return self.run("sbatch", *fixed, *options, f"--wrap={script}").partition(";")[0]

    def state(self, job: str) -> str:
        """A job's state as the controller has it."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith("JobState="))

    def wait_for_state(self, job: str, *states: str, seconds: float = 60) -> float:
        """Waits until a job is in one of the states; seconds it took."""
        what = f"job {job} is {' or '.join(states)}"
        return self.wait_until(lambda: self.state(job) in states, seconds, what)

    def wait_until(self, condition: Callable[[], object], seconds: float, what: str) -> float:
        """Waits until a condition holds; seconds it took. A command of `run` that fails is tried again."""
        return daemons.wait_until(condition, seconds, f"{what}; logs are in {self.root}/log")

    def all_idle(self) -> bool:
        """Whether every node answers and has no job."""
        return self.node_states() == dict.fromkeys(self.nodes, "idle")

    def node_states(self) -> dict[str, str]:
        """How the controller sees each node: `idle`, `mixed`, `down`; with a `*` if it is silent."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    # Faults

    def lose_node(self, node: str) -> None:
        """A node dies: its slurmd, every job step and process on it, none of which can tell of it."""
        self._daemons.end_node(node)

    def declare_lost(self, node: str) -> None:
        """The controller takes a node for down now, instead of when it has been silent for long enough."""
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")

    def return_node(self, node: str) -> None:
        """A lost node boots again. As that takes long, the controller has noticed the loss before."""
        self.wait_for_node(node, "down")
        self._daemons.start_node(node)

    def wait_for_node(self, node: str, *states: str, seconds: float = 60) -> float:
        """Waits until the controller sees a node as one of the states; seconds it took."""

        def there() -> bool:
            return self.node_states().get(node, "").rstrip("*") in states

        return self.wait_until(there, seconds, f"node {node} is {' or '.join(states)}")

    def stop_controller(self) -> None:
        """slurmctld ends in order, its state saved; jobs run on, commands fail."""
        self._daemons.end("slurmctld", signal.SIGTERM)

    def start_controller(self) -> None:
        """slurmctld goes on from its saved state; returns when it answers."""
        self._daemons.start_controller()
        self.wait_until(lambda: self.run("sinfo", "--noheader"), daemons.START_S, "the controller answers")

    def restart_controller(self) -> None:
        """slurmctld ends and starts again; returns when it answers."""
        self.stop_controller()
        self.start_controller()

    def break_command(self, name: str, error: str) -> None:
        """From now on a command of Slurm fails so for everybody with this `env`."""
        wrapper = self.root / "bin" / name
        wrapper.write_text(f'#!/bin/sh\necho "{error}" >&2\nexit 1\n')
        wrapper.chmod(0o755)

    def mend_command(self, name: str) -> None:
        """The command works again."""
        (self.root / "bin" / name).unlink(missing_ok=True)

    def break_squeue(self) -> None:
        """squeue fails as it does when the controller is away."""
        self.break_command("squeue", f"slurm_load_jobs error: {NO_CONTACT}")

    def mend_squeue(self) -> None:
        """squeue works again."""
        self.mend_command("squeue")

    def preempt(self, node: str, seconds: int = 5) -> str:
        """Somebody more important takes a node for some seconds; the number of that job."""
        options = (f"--partition={self.urgent}", f"--nodelist={node}", "--time=5", "--job-name=preemptor")
        return self.submit(f"sleep {seconds}", *options)

    def reset(self) -> None:
        """As it was when it started: faults mended, no job left, every node idle."""
        for wrapper in (self.root / "bin").iterdir():
            self.mend_command(wrapper.name)
        if not self.running:
            self.start_controller()
        for node in self.nodes:
            if not self._daemons.runs(node):
                self.declare_lost(node)
                self.return_node(node)
        self.wait_until(self._cancelled, daemons.START_S, "no job is left and all nodes are idle")

    def _cancelled(self) -> bool:
        if self.run("squeue", "--noheader", "--states=PENDING,RUNNING,SUSPENDED", "--format=%i"):
            self.run("scancel", f"--user={config.user()}", check=False)
            return False
        return self.all_idle()
