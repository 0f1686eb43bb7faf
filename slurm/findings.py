"""What the doctor finds, and how it tells a person: in 80 columns, with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from textwrap import fill

WIDTH = 80
INDENT = " " * 24


class Level(StrEnum):
    """How bad a finding is; only a problem keeps a search from starting."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    about: in a word or two. found: what is there. needed: what should be. remedy: what to do.
    """

    about: str
    level: Level
    found: str
    needed: str = ""
    remedy: str = ""

    def text(self) -> str:
        """A line for a person, continued under itself."""
        head = f"  {self.level:<8} {self.about:<12} "
        parts = [self.found]
        parts += [f"needed: {self.needed}"] if self.needed else []
        parts += [f"do: {self.remedy}"] if self.remedy else []
        first, *rest = parts
        lines = [fill(head + first, WIDTH, subsequent_indent=INDENT, break_on_hyphens=False)]
        for part in rest:
            lines.append(fill(INDENT + part, WIDTH, subsequent_indent=INDENT + "  ", break_on_hyphens=False))
        return "\n".join(lines)


def ok(about: str, found: str) -> Finding:
    """All is well."""
    return Finding(about, Level.OK, found)


def note(about: str, found: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(about, Level.NOTE, found, "", remedy)


def warning(about: str, found: str, remedy: str, needed: str = "") -> Finding:
    """A search can start, but something will be lost or slow."""
    return Finding(about, Level.WARNING, found, needed, remedy)


def problem(about: str, found: str, remedy: str, needed: str = "") -> Finding:
    """No search can start."""
    return Finding(about, Level.PROBLEM, found, needed, remedy)


@dataclass(frozen=True)
class Section:
    """Findings about one part of a site."""

    title: str
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """Title and findings."""
        return "\n".join([self.title, *(finding.text() for finding in self.findings)])


def problems(sections: Iterable[Section]) -> int:
    """How many findings keep a search from starting."""
    return sum(finding.level is Level.PROBLEM for part in sections for finding in part.findings)


def summary(sections: Iterable[Section]) -> str:
    """How many findings of each level, and whether a search could start."""
    parts = list(sections)
    levels = [finding.level for part in parts for finding in part.findings]
    counts = [(levels.count(level), level) for level in (Level.PROBLEM, Level.WARNING, Level.NOTE)]
    told = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for count, level in counts)
    verdict = "no search could start; mend the problems" if problems(parts) else "a search could start"
    return f"{told}: {verdict}"
