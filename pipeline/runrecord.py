"""What a run leaves on disk about itself, and who may write it.

Files: run.yaml (the request and where it runs), epochs.jsonl (one line an epoch), outcome.json (how it
ended), owner.json (the attempt that may write). A worker that was thought dead and wakes up finds another
owner and writes nothing.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import yaml

from pipeline.config import RunConfig
from pipeline.data.pack import Pack
from pipeline.errors import CheckpointError, SupersededError
from pipeline.jsonl import read_jsonl
from pipeline.paths import RunPaths, remove_stale, write_text_atomically
from pipeline.progress import EpochRecord
from pipeline.provenance import Purpose, environment, now


class RunRecord:
    """The writing side of a run's record, owned by one attempt.

    Raises CheckpointError if the folder holds a run of another configuration or on other data,
    SupersededError if a later attempt owns it.
    """

    def __init__(
        self, paths: RunPaths, config: RunConfig, pack: Pack, purpose: Purpose, attempt: int | None
    ) -> None:
        self.paths = paths
        self._config, self._purpose = config, purpose
        self._identity = {"config_hash": config.hash(), "data_fingerprint": pack.meta.fingerprint}
        self._data = pack.root.resolve()
        self._lock: IO[str] | None = None
        self._refuse_other_run()
        self.attempt = self._claim(attempt)

    def _refuse_other_run(self) -> None:
        if not self.paths.record.exists():
            return
        content = read_run(self.paths)
        for key, mine in self._identity.items():
            if content[key] != mine:
                raise CheckpointError(
                    f"{self.paths.root}: holds a run with {key} {content[key]}, this one has {mine}; "
                    "give another folder or remove that one"
                )

    def _claim(self, attempt: int | None) -> int:
        if attempt is None:
            self._lock = lock_run(self.paths)
        previous = read_json(self.paths.owner).get("attempt", 0)
        mine = previous + 1 if attempt is None else attempt
        if mine < previous:
            raise SupersededError(f"{self.paths.root}: attempt {previous} owns this run, this is {mine}")
        self._token = uuid.uuid4().hex
        write_text_atomically(self.paths.owner, json.dumps({"attempt": mine, "token": self._token}))
        remove_stale(self.paths.root)
        return mine

    def release(self) -> None:
        """Lets other processes train the run."""
        if self._lock is not None:
            self._lock.close()

    def check_owner(self) -> None:
        """Raises SupersededError if another attempt has taken the run over. Call before each write."""
        if read_json(self.paths.owner).get("token") != self._token:
            raise SupersededError(f"{self.paths.root}: another attempt has taken this run over")

    def begin(self, facts: dict[str, Any]) -> dict[int, EpochRecord]:
        """Writes run.yaml: the request, its hash, the environment and `facts` found on the way.

        Returns the epochs that earlier attempts left, by number.
        """
        self.check_owner()
        self.paths.outcome.unlink(missing_ok=True)
        content = {
            **asdict(self._purpose),
            **self._identity,
            "data": str(self._data),
            "attempt": self.attempt,
            **facts,
            **environment(),
            "config": self._config.model_dump(mode="json"),
        }
        write_text_atomically(self.paths.record, yaml.safe_dump(content, sort_keys=False))
        return self._mend_epochs()

    def completed_history(self) -> list[EpochRecord] | None:
        """Every epoch of a run that was completed before; None if there is something left to train."""
        completed = read_json(self.paths.outcome).get("status") == "completed"
        return read_epochs(self.paths) if completed else None

    def _mend_epochs(self) -> dict[int, EpochRecord]:
        """The epochs on record, by number, after a line that a kill tore has been removed."""
        known = read_epochs(self.paths)
        write_text_atomically(self.paths.epochs, "".join(_line(record) for record in known))
        return {record.epoch: record for record in known}

    def append_epoch(self, record: EpochRecord) -> None:
        """Adds one line and flushes it to disk."""
        self.check_owner()
        with self.paths.epochs.open("a", encoding="utf-8") as handle:
            handle.write(_line(record))
            handle.flush()
            os.fsync(handle.fileno())

    def best_on_disk(self) -> float:
        """The RMSE in metres that was measured with the weights in best.pt; infinite if there are none."""
        return (
            read_json(self.paths.best_epoch).get("rmse", math.inf) if self.paths.best.exists() else math.inf
        )

    def best_written(self, epoch: int, rmse: float) -> None:
        """Notes which epoch's weights best.pt holds now, and what was measured with them (metres)."""
        write_text_atomically(self.paths.best_epoch, json.dumps({"epoch": epoch, "rmse": rmse}))

    def end(self, status: str, reason: str = "", message: str = "") -> None:
        """Writes outcome.json."""
        self.check_owner()
        content = {"status": status, "reason": reason, "message": message, "finished": now()}
        write_text_atomically(self.paths.outcome, json.dumps(content))


def _line(record: EpochRecord) -> str:
    return json.dumps(asdict(record)) + "\n"


def lock_run(paths: RunPaths) -> IO[str]:
    """An open file that keeps other processes from training the run until it is closed, or its process ends.

    Raises CheckpointError if another process has it.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = paths.lock.open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise CheckpointError(
            f"{paths.root}: another process is training this run; wait for it, or end it and try again"
        ) from None
    return lock


def read_run(paths: RunPaths) -> dict[str, Any]:
    """The content of run.yaml."""
    content: dict[str, Any] = yaml.safe_load(paths.record.read_text(encoding="utf-8"))
    return content


def read_epochs(paths: RunPaths) -> list[EpochRecord]:
    """Every whole line of epochs.jsonl; a last line that a kill tore is left out."""
    return [EpochRecord(**line) for line in read_jsonl(paths.epochs)]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one if the file does not exist."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content
