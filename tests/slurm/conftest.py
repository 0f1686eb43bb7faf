"""A stand-in for Slurm's commands: a queue kept in files, in front of PATH."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = """#!{python} -S
import json, os, sys
from pathlib import Path

state = Path(__file__).parent.parent / "state"
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
with (state / "asked.jsonl").open("a") as asked:
    asked.write(json.dumps([name, *arguments]) + "\\n")
refusal = state / f"{{name}}.refusal"
if refusal.exists():
    print(refusal.read_text(), file=sys.stderr)
    sys.exit(1)
if name == "sbatch":
    number = 100 + len(list(state.glob("job-*.sh")))
    later = state / "later.refusal"
    if later.exists() and later.read_text().startswith(f"{{number}} "):
        print(later.read_text().partition(" ")[2], file=sys.stderr)
        sys.exit(1)
    script = next(part for part in arguments if not part.startswith("-"))
    (state / f"job-{{number}}.sh").write_text(Path(script).read_text())
    (state / f"job-{{number}}.json").write_text(json.dumps(dict(os.environ)))
    print(f"Submitted batch job {{number}}")
if name == "scancel":  # what is cancelled leaves the queue; what a driver submits while it ends comes
    queue, late = state / "squeue.answer", state / "late.answer"
    lines = queue.read_text().splitlines(keepends=True) if queue.exists() else []
    lines = [line for line in lines if line.partition("|")[0] not in arguments]
    lines += [late.read_text()] if late.exists() else []
    late.unlink(missing_ok=True)
    queue.write_text("".join(lines))
answer = state / f"{{name}}.answer"
if answer.exists():
    print(answer.read_text(), end="")
"""
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")


@dataclass(frozen=True)
class StandIn:
    """What the commands answer, and what they were asked."""

    state: Path

    def answer(self, command: str, text: str) -> None:
        (self.state / f"{command}.answer").write_text(text)

    def refuse(self, command: str, text: str) -> None:
        (self.state / f"{command}.refusal").write_text(text)

    def refuse_after(self, jobs: int, text: str) -> None:
        """sbatch takes so many jobs, and refuses the next."""
        (self.state / "later.refusal").write_text(f"{100 + jobs} {text}")

    def asked(self, command: str) -> list[list[str]]:
        path = self.state / "asked.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words[1:] for words in map(json.loads, lines) if words[0] == command]

    def script(self, job: int) -> str:
        return (self.state / f"job-{job}.sh").read_text()

    def environment(self, job: int) -> dict[str, str]:
        values: dict[str, str] = json.loads((self.state / f"job-{job}.json").read_text())
        return values


@pytest.fixture
def slurm_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """sbatch and the others, first on PATH."""
    folder, state = tmp_path / "slurm" / "bin", tmp_path / "slurm" / "state"
    folder.mkdir(parents=True)
    state.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(COMMAND.format(python=sys.executable))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return StandIn(state)
