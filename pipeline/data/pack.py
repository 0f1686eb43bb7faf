"""Packs the raw layout into flat arrays; also the home of the names that others import."""

from __future__ import annotations

from pipeline.data.packed import Pack, PackedSplit, Sample, Summary, open_pack, summarise
from pipeline.data.packwriter import PackWriter

__all__ = ["Pack", "PackWriter", "PackedSplit", "Sample", "Summary", "open_pack", "summarise"]
