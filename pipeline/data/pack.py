"""Packs a raw data set into flat arrays; also the home of the names with which packed data are used."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import cli
from pipeline.data.layout import open_raw
from pipeline.data.packed import Pack, PackedSplit, Sample, Summary, open_pack, summarise
from pipeline.data.packwriter import PackWriter
from pipeline.data.progress import progress
from pipeline.data.raw import HINT, RawData, RawSample, RawSplit
from pipeline.data.workers import in_order
from pipeline.errors import DataError

__all__ = ["Pack", "PackWriter", "PackedSplit", "Sample", "Summary", "open_pack", "pack_raw", "summarise"]

Loaded = tuple[Sample, Summary] | DataError


@dataclass
class Kept:
    """What came of a split: the ids packed so far and what is wrong with the samples left out, by name."""

    ids: dict[int, str] = field(default_factory=dict)
    left_out: dict[str, DataError] = field(default_factory=dict)


def pack_raw(
    raw: RawData, root: Path, source: str, keep_going: bool, processes: int, step: Callable[[], None]
) -> dict[str, DataError]:
    """Packs a raw data set into the folder `root` and returns what was left out, by name.

    The result does not depend on `processes`. `step` is called after each sample. Raises DataError for the
    first damaged sample unless `keep_going`, and then if a split has no sample left.
    """
    counts = {split.name: len(split.samples) for split in raw.splits}
    labelled = [split.name for split in raw.splits if split.labelled]
    left_out = dict(raw.left_out)
    samples = [sample for split in raw.splits for sample in split.samples]
    with (
        PackWriter(root, counts, raw.height, raw.width, labelled, source) as writer,
        in_order(_load, samples, processes) as results,
    ):
        for split in raw.splits:
            kept = Kept()
            for sample, loaded in zip(split.samples, results, strict=False):  # the next split takes the rest
                _pack_one(writer, split.name, sample, loaded, kept, keep_going)
                step()
            _close_split(writer, split, kept)
            left_out |= kept.left_out
        writer.leave_out(list(left_out))
    return left_out


def _pack_one(
    writer: PackWriter, split: str, raw: RawSample, loaded: Loaded, kept: Kept, keep_going: bool
) -> None:
    """Writes one sample after those kept so far, or leaves it out."""
    if not isinstance(loaded, DataError) and loaded[0].id in kept.ids:
        twin = kept.ids[loaded[0].id]
        found = f"id {loaded[0].id} is also that of {twin}"
        loaded = DataError(f"{raw.id_place}: {found}; allowed is an id that no other sample of {split} has")
    if isinstance(loaded, DataError):
        if not keep_going:
            raise DataError(f"{loaded}; {HINT}")
        kept.left_out[str(raw)] = loaded
        return
    sample, summary = loaded
    writer.write(split, len(kept.ids), sample, summary)
    kept.ids[sample.id] = str(raw)


def _close_split(writer: PackWriter, split: RawSplit, kept: Kept) -> None:
    if not kept.ids:
        first = next(iter(kept.left_out.values()))
        raise DataError(f"no usable sample in {split.name}; the first error: {first}")
    writer.truncate(split.name, len(kept.ids))


def _load(sample: RawSample) -> Loaded:
    """In a process of its own: an error is returned, as it may be the caller's wish to go on."""
    try:
        read = sample.load()
        return read, summarise(read)
    except DataError as error:
        return error


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipeline.data.pack`."""
    parser = cli.parser(
        "python -m pipeline.data.pack",
        "Packs a raw data set into flat arrays that training maps into memory. The raw\n"
        "set is either numbered folders (train/X/0/rgb/0.png, ...) or tensors\n"
        "(trainX.pt, trainY.pt, testX.pt).",
        "  python -m pipeline.data.pack --raw hand --out packed\n"
        "  python -m pipeline.data.pack --raw hand --out packed --keep-going",
    )
    parser.add_argument(
        "--raw", type=Path, required=True, metavar="DIR", help="folder with train/, test/ or .pt files"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--keep-going", action="store_true", help="leave damaged samples out and list them, instead of ending"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes that decode images (default: the cores of this machine, %(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Packs and prints what was made and what was left out."""
    args = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's end cleans up like Ctrl-C
    if args.processes < 1:
        raise DataError(f"--processes {args.processes}: at least 1 is needed")
    raw = open_raw(args.raw, args.keep_going)
    total = sum(len(split.samples) for split in raw.splits)
    with progress("packing", total) as step:
        left_out = pack_raw(raw, args.out, str(args.raw), args.keep_going, args.processes, step)
    for error in left_out.values():
        print(f"left out: {error}")
    meta = open_pack(args.out).meta
    counts = ", ".join(f"{count} {name}" for name, count in meta.counts.items())
    skipped = f", {len(left_out)} left out" if left_out else ""
    print(f"{args.out}: {counts} samples of {meta.height} x {meta.width}{skipped}; {meta.fingerprint[:12]}")


if __name__ == "__main__":
    cli.run(main)
