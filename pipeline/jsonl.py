"""Files with one JSON object a line, of which a kill may have torn the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import StudyError


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object a line; none if there is no file.

    A last line without its line break was torn off while it was written and is dropped. Raises StudyError
    naming any other line that is not a JSON object.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = content[: intact_length(content)].splitlines()
    return [_object(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def intact_length(content: bytes) -> int:
    """How many bytes of a file of lines are left without a torn last line."""
    return content.rfind(b"\n") + 1


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        shown = line[:40].decode("utf-8", errors="replace")
        raise StudyError(
            f"{where}: {shown!r} is not a JSON object; the file was damaged after it was written. "
            "Restore it, or remove the study's folder and start again"
        )
    return tree
