"""Runs a command to its end or for so long, and tells what came of it: the one way to Slurm's commands."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

ASK_S = 30


@dataclass(frozen=True)
class Answer:
    """What a command printed.

    failed: why it did not succeed; empty if it did. errors: what it printed as such. ended: whether it ran to
    its end, well or not.
    """

    output: str
    failed: str
    errors: str = ""
    ended: bool = True

    @property
    def said(self) -> str:
        """What it printed; as errors, if it printed nothing else."""
        return self.output or self.errors


def ask(
    *command: str, stdin: str | None = None, timeout_s: float = ASK_S, env: Mapping[str, str] | None = None
) -> Answer:
    """Runs a command; in the environment `env`, None: this process's. Kills it after `timeout_s`."""
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            input=stdin,
            timeout=timeout_s,
            env=env,
        )
    except FileNotFoundError:
        return Answer("", f"there is no {command[0]} on PATH", ended=False)
    except subprocess.TimeoutExpired:
        return Answer("", f"{command[0]} did not answer within {timeout_s:g} s", ended=False)
    said = " ".join(result.stderr.split())
    failed = (said or f"exit status {result.returncode}") if result.returncode else ""
    return Answer(result.stdout, failed, result.stderr)
