"""The files of a private Slurm: everything in one directory, on ports of its own, quick to act."""

import os
import pwd
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

NODES = ("gr1", "gr2", "gr3")
PARTITION, URGENT = "gpu", "urgent"
GRES = "gpu:rtx8000:1"
ACCOUNT = "research"
CLUSTER = "testcluster"
LOSS_S = 15  # how long a node may be silent before it is taken for lost
PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# The last is also how long a requeued job waits.
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/controller
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/%n
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
# The nodes declare more than the machine has.
SlurmdParameters=config_overrides
JobRequeue=1
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Real sites take minutes where these take seconds.
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,requeue_delay=1
KillWait=5
SlurmdTimeout={loss_s}
SlurmctldTimeout=10
MessageTimeout=10
MinJobAge=300
{accounting}
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_ports} CPUs=2 RealMemory=6000 Gres={gres}
PartitionName={partition} Nodes={nodes} Default=YES MaxTime=24:00:00 PriorityTier=1 State=UP
PartitionName={urgent} Nodes={nodes} MaxTime=24:00:00 PriorityTier=10 State=UP
"""

GRES_CONF = "NodeName={nodes} Name=gpu Type=rtx8000 File=/dev/null Count=1\n"

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={root}/munge.socket
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5"""

NO_ACCOUNTING = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
PidFile={root}/slurmdbd.pid
LogFile={root}/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""

DATABASE_INIT = """\
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""


@dataclass(frozen=True)
class Ports:
    """Where the daemons listen."""

    controller: int
    accounting: int
    database: int
    first_node: int

    @property
    def nodes(self) -> str:
        return f"[{self.first_node}-{self.first_node + len(NODES) - 1}]"


def free_ports() -> Ports:
    """Free ports in a row, below those that the kernel hands out: they stay free until they are used."""
    count = 3 + len(NODES)
    for _ in range(100):
        first = 20000 + secrets.randbelow(12000)
        if all(map(is_free, range(first, first + count))):
            return Ports(first, first + 1, first + 2, first + 3)
    raise RuntimeError(f"no {count} free ports in a row between 20000 and 32000; end what holds them")


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


def write_config(root: Path, ports: Ports, accounting: bool) -> None:
    """Writes slurm.conf, gres.conf, the munge key and what slurmdbd and its database need."""
    common = {"root": root, "user": user(), "nodes": f"{NODES[0][:-1]}[1-{len(NODES)}]"}
    storage = ACCOUNTING.format(root=root, port=ports.accounting) if accounting else NO_ACCOUNTING
    slurm_conf = SLURM_CONF.format(
        **common,
        cluster=CLUSTER,
        host=socket.gethostname().partition(".")[0],
        controller_port=ports.controller,
        node_ports=ports.nodes,
        gres=GRES,
        partition=PARTITION,
        urgent=URGENT,
        loss_s=LOSS_S,
        accounting=storage,
    )
    (root / "slurm.conf").write_text(slurm_conf)
    (root / "gres.conf").write_text(GRES_CONF.format(**common))
    write_secret(root / "munge.key", secrets.token_bytes(128))
    if accounting:
        password = secrets.token_hex(16)
        settings = {"port": ports.accounting, "database_port": ports.database, "password": password}
        write_secret(root / "slurmdbd.conf", SLURMDBD_CONF.format(**common, **settings).encode())
        write_secret(root / "database.sql", DATABASE_INIT.format(password=password).encode())


def write_secret(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
