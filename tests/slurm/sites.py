"""Stand-ins for a site's Slurm: commands that say what is in files, as a real Slurm was seen to."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm.doctor import main

Found = dict[str, list[tuple[str, str, str]]]
Look = Callable[..., tuple[int, Found]]
CONFIG = """\
Configuration data as of 2026-11-26T05:55:37
AccountingStorageEnforce = associations,limits,qos
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = testcluster
JobRequeue              = 1
KillWait                = 30 sec
MaxArraySize            = 1001
MinJobAge               = 300 sec
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
SLURM_VERSION           = 22.05.8
SlurmctldParameters     = (null)

Slurmctld(primary) at vm is UP
"""
PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts={accounts} AllowQos=ALL AllocNodes=ALL "
    "Default={default} QoS=N/A DefaultTime=NONE GraceTime=0 MaxTime={time} Nodes=gr[1-3] "
    "PreemptMode=REQUEUE State=UP TotalCPUs=6\n"
)
PARTITIONS = PARTITION.format(
    name="gpu", accounts="ALL", default="YES", time="1-00:00:00"
) + PARTITION.format(name="urgent", accounts="vip", default="NO", time="30:00")
NODES = """\
gr1|urgent|idle|2|6000|gpu:rtx8000:1(S:0-1)|turing,ib
gr1|gpu*|idle|2|6000|gpu:rtx8000:1(S:0-1)|turing,ib
gr2|gpu*|down*|2|6000|gpu:rtx8000:1(S:0-1)|turing
gr3|gpu*|mixed|4|12000|gpu:v100:4(S:0-1)|volta
"""
ANSWERS = {
    "config": CONFIG,
    "partition": PARTITIONS,
    "ping": "Slurmctld(primary) at vm is UP\n",
    "sinfo": NODES,
    "assoc": "research||normal,long|normal\n",
    "qos": "normal|\nlong|2-00:00:00\n",
    "squeue": "",
    "sbatch": "sbatch: Job 1 to start at 2026-11-26T05:55:38 using 1 processors on nodes gr1 in partition "
    "gpu\n",
}
COMMAND = """\
#!/bin/sh
here={state}
echo "${{0##*/}} $*" >> $here/asked
if [ -e $here/${{0##*/}}.refusal ]; then cat $here/${{0##*/}}.refusal >&2; exit 1; fi
case "${{0##*/}} $*" in
  scontrol*config) cat $here/config ;;
  scontrol*partition) cat $here/partition ;;
  scontrol*ping) cat $here/ping ;;
  scontrol*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
  sinfo*) cat $here/sinfo ;;
  sacctmgr*assoc*) cat $here/assoc ;;
  sacctmgr*qos*) cat $here/qos ;;
  squeue*) cat $here/squeue ;;
  sbatch*--test-only*) cat > /dev/null; cat $here/sbatch >&2 ;;
  sbatch*) echo "Submitted batch job 42" ;;
esac
"""
PROFILE = """\
cluster_names: [testcluster]
device: cpu
gpu: {partition: gpu, gres: "gpu:rtx8000:1", cpus: 2, memory: 4000M, time: 30}
driver: {cpus: 1, memory: 1000M, time: 60}
"""


@dataclass(frozen=True)
class StandInSite:
    """What its commands answer, and what they were asked. `profile` is the file of its profile."""

    state: Path
    profile: Path

    def says(self, what: str, text: str) -> None:
        """Replaces an answer of ANSWERS."""
        (self.state / what).write_text(text)

    def replaces(self, what: str, old: str, new: str) -> None:
        """Changes a part of an answer."""
        text = (self.state / what).read_text()
        assert old in text
        self.says(what, text.replace(old, new))

    def refuses(self, command: str, text: str) -> None:
        """From now on a command fails."""
        self.says(f"{command}.refusal", f"{text}\n")

    def asked(self, command: str) -> list[str]:
        """Every call of a command."""
        lines = (self.state / "asked").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{command} ")]

    def wants(self, old: str, new: str) -> None:
        """Changes the profile."""
        text = self.profile.read_text()
        assert old in text
        self.profile.write_text(text.replace(old, new))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInSite:
    """A site's commands first on PATH, and a profile that fits it."""
    folder, state = tmp_path / "bin", tmp_path / "state"
    folder.mkdir()
    state.mkdir()
    for name in ("scontrol", "sinfo", "sacctmgr", "squeue", "sbatch", "scancel"):
        (folder / name).write_text(COMMAND.format(state=state))
        (folder / name).chmod(0o755)
    for what, text in ANSWERS.items():
        (state / what).write_text(text)
    profile = tmp_path / "site.yaml"
    profile.write_text(f"{PROFILE}environment: {{python: {sys.executable}, interface: 127.0.0.1}}\n")
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH", "PIPELINE_CLUSTER"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return StandInSite(state, profile)


@pytest.fixture
def look(site: StandInSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Look:
    """Runs the doctor: its exit code, and by subject the level, what was found and what to do."""

    def run(*arguments: str) -> tuple[int, Found]:
        with pytest.raises(SystemExit) as ended:
            main(["--cluster", str(site.profile), "--runs", str(tmp_path / "runs"), "--json", *arguments])
        found: Found = {}
        for row in json.loads(capsys.readouterr().out)["findings"]:
            told = f"{row['found']} | {row['needed']}"
            found.setdefault(row["about"], []).append((row["level"], told, row["remedy"]))
        return int(str(ended.value.code)), found

    return run


def levels(found: Found, *subjects: str) -> list[str]:
    return [level for subject in subjects for level, _, _ in found[subject]]
