"""What a site's Slurm says of itself: its configuration, partitions, nodes, and what this user may use."""

from __future__ import annotations

import getpass
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from slurm.cluster import MINUTES_A_DAY
from slurm.commands import ask

CONFIG = ["scontrol", "show", "config"]
PARTITIONS = ["scontrol", "--oneliner", "show", "partition"]
NODES = ["sinfo", "--noheader", "--Node", "--format=%N|%P|%T|%c|%m|%G|%f"]
ASSOCIATIONS = ["sacctmgr", "--noheader", "--parsable2", "show", "assoc"]
ASSOCIATION_FORMAT = "format=Account,Partition,QOS,DefaultQOS"
QOS = ["sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,MaxWall"]
UNITS_MB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
USABLE = ("idle", "mixed", "allocated", "completing", "planned", "reserved")
LIMIT = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")
GRES = re.compile(r"(?P<name>[^:(,]+)(?::(?P<type>[^:(,]*[^\d:(,][^:(,]*))?(?::(?P<count>\d+))?")


@dataclass(frozen=True)
class Partition:
    """A partition; what is None is unlimited, or open to everybody."""

    name: str
    default: bool
    state: str
    max_minutes: int | None
    accounts: frozenset[str] | None
    qos: frozenset[str] | None
    preempt_mode: str
    grace_s: int


@dataclass(frozen=True)
class Node:
    """A node as a member of one partition."""

    name: str
    partition: str
    state: str
    cpus: int
    memory_mb: int
    gres: tuple[tuple[str, str, int], ...]  # name, type, count
    features: frozenset[str]

    @property
    def usable(self) -> bool:
        """Whether jobs can run there now or after those that do."""
        return self.state.rstrip("*~#!%$@^-+").startswith(USABLE) and "*" not in self.state

    def has_gres(self, asked: str) -> bool:
        """Whether it has so many of each."""
        return all(self._count(name, kind) >= count for name, kind, count in gres_of(asked))

    def _count(self, name: str, kind: str) -> int:
        return sum(n for has, of, n in self.gres if has == name and kind in ("", of))

    def has_features(self, constraint: str) -> bool:
        """Whether it fulfils a --constraint; of one with brackets, whether it has any of its features."""
        if re.search(r"[\[\]()*]", constraint):
            return bool(set(re.findall(r"[\w.+-]+", constraint)) & self.features)
        choices = constraint.replace(",", "&").split("|")
        return any(set(choice.split("&")) <= self.features for choice in choices)


@dataclass(frozen=True)
class Association:
    """An account that this user may charge, in one partition or all (empty), with these qos."""

    account: str
    partition: str
    qos: frozenset[str]
    default_qos: str


@dataclass(frozen=True)
class Site:
    """Everything Slurm tells. associations, qos_minutes: None where accounting does not answer."""

    config: dict[str, str]
    partitions: dict[str, Partition]
    nodes: tuple[Node, ...]
    associations: tuple[Association, ...] | None
    qos_minutes: dict[str, int | None] | None

    def setting(self, key: str) -> str:
        """A value of `scontrol show config`; empty if there is none."""
        value = self.config.get(key, "")
        return "" if value in ("(null)", "N/A") else value

    def number(self, key: str) -> int | None:
        """The number a setting begins with (`300 sec`)."""
        found = re.match(r"\d+", self.setting(key))
        return int(found[0]) if found else None

    def partition_of(self, asked: str | None) -> Partition | None:
        """The partition of that name, the first of a list; of None, the default one."""
        if asked is not None:
            return self.partitions.get(asked.split(",")[0])
        return next((part for part in self.partitions.values() if part.default), None)


def read_site() -> Site | str:
    """What Slurm says, or why it does not."""
    answers = []
    for command in (CONFIG, PARTITIONS, NODES):
        answers.append(ask(*command))
        if answers[-1].failed:
            return answers[-1].failed
    config, partitions, nodes = answers
    found = [partition_from(line) for line in partitions.output.splitlines() if "PartitionName=" in line]
    settings = dict(re.findall(r"^(\S+)\s*= (.*?)\s*$", config.output, re.MULTILINE))
    return Site(
        settings, {part.name: part for part in found}, tuple(_nodes(nodes.output)), _associations(), _qos()
    )


def partition_from(line: str) -> Partition:
    """A partition out of a line of `scontrol --oneliner show partition`."""
    values = dict(field.partition("=")[::2] for field in line.split())
    return Partition(
        name=values["PartitionName"],
        default=values.get("Default") == "YES",
        state=values.get("State", "UP"),
        max_minutes=limit_minutes(values.get("MaxTime", "")),
        accounts=_open_to(values.get("AllowAccounts", "ALL")),
        qos=_open_to(values.get("AllowQos", "ALL")),
        preempt_mode=values.get("PreemptMode", ""),
        grace_s=int(values.get("GraceTime", "0") or 0),
    )


def _open_to(text: str) -> frozenset[str] | None:
    return None if text in ("ALL", "") else frozenset(text.split(","))


def _nodes(output: str) -> Iterator[Node]:
    for line in output.splitlines():
        fields = line.split("|", 6)
        if len(fields) != 7:
            continue
        name, partition, state, cpus, memory, gres, features = fields
        known = frozenset() if features == "(null)" else frozenset(features.split(","))
        numbers = int(re.sub(r"\D", "", cpus) or 0), int(re.sub(r"\D", "", memory) or 0)
        yield Node(name, partition.rstrip("*"), state, *numbers, tuple(gres_of(gres)), known)


def _associations() -> tuple[Association, ...] | None:
    answer = ask(*ASSOCIATIONS, f"user={getpass.getuser()}", ASSOCIATION_FORMAT)
    if answer.failed:
        return None
    rows = [line.split("|") for line in answer.output.splitlines() if line.count("|") == 3]
    return tuple(Association(a, p, frozenset(filter(None, q.split(","))), d) for a, p, q, d in rows)


def _qos() -> dict[str, int | None] | None:
    answer = ask(*QOS)
    if answer.failed:
        return None
    rows = [line.split("|") for line in answer.output.splitlines() if line.count("|") == 1]
    return {name: limit_minutes(wall) for name, wall in rows}


def gres_of(text: str) -> list[tuple[str, str, int]]:
    """Name, type (or empty) and count of each in `gpu:rtx8000:4(S:0-1),shard:8`."""
    plain = re.sub(r"\([^)]*\)", "", text)
    found = [GRES.fullmatch(part.strip()) for part in plain.split(",")]
    return [(m["name"].removeprefix("gres/"), m["type"] or "", int(m["count"] or 1)) for m in found if m]


def memory_mb(text: str) -> float:
    """What `--mem` means, in MB."""
    unit = text[-1] if text[-1].isalpha() else "M"
    return float(text.rstrip("KMGT")) * UNITS_MB[unit]


def limit_minutes(text: str) -> int | None:
    """A limit as Slurm shows it, `1-00:00:00`, `24:00:00` or `30:00`; None for no limit."""
    found = LIMIT.fullmatch(text)
    if found is None:
        return None
    parts = [int(part) for part in found["clock"].split(":")]
    from_hours = bool(found["days"]) or len(parts) == 3  # else minutes, or minutes and seconds
    hours, minutes, seconds = ([*parts, 0, 0] if from_hours else [0, *parts, 0])[:3]
    return int(found["days"] or 0) * MINUTES_A_DAY + hours * 60 + minutes + (seconds > 0)


def clock(minutes: int) -> str:
    """Minutes as Slurm shows a limit: `1-00:00:00`, `0:30:00`."""
    days, rest = divmod(minutes, MINUTES_A_DAY)
    return f"{f'{days}-' if days else ''}{rest // 60:0{2 if days else 1}d}:{rest % 60:02d}:00"


def counted(words: list[str]) -> str:
    """`3 idle, 1 down`."""
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))
