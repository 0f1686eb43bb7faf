"""Lines of aligned cells for people, within the width of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill


def aligned(rows: Sequence[Sequence[str]], values: Sequence[str], width: int) -> str:
    """Columns, and the values at the end of their line; where one is too long, all on lines of their own."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heads = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) for row in rows]
    if max(len(f"{head}  {value}") for head, value in zip(heads, values, strict=True)) <= width:
        return "\n".join(f"{head}  {value}" for head, value in zip(heads, values, strict=True))
    indent = " " * (widths[0] + 2)
    below = [fill(value, width, initial_indent=indent, subsequent_indent=f"{indent}  ") for value in values]
    pairs = zip(heads[1:], below[1:], strict=True)
    return "\n".join([heads[0].rstrip(), *(f"{head.rstrip()}\n{value}" for head, value in pairs)])
