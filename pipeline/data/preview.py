"""Draws samples of a packed data set, and what each augmentation does to one of them.

Legend: 9HW = views 0, 1, 2, each red, green, blue; 3HW = depth of views 0, 1, 2 in millimetres; 12 = index,
middle, ring, thumb, each x, y, z in metres.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import cli
from pipeline.augment_config import AugmentConfig
from pipeline.data import drawing
from pipeline.data.channels import COLOURS, VIEWS
from pipeline.data.packed import Pack, PackedSplit, open_pack
from pipeline.errors import DataError
from pipeline.paths import write_atomically

if TYPE_CHECKING:
    from pipeline.data.twin.camera import Camera

SUFFIX = ".png"
MOST_SAMPLES = 50  # a taller picture would be of no use to anybody
LARGEST_SEED = 2**32 - 1
STRIP_GAP = 20  # pixels, so that captions are nearer to what they belong to
PERCENT = 100


@dataclass(frozen=True)
class Images:
    """One sample's pixels: [9, H, W] and millimetres [3, H, W]."""

    rgb_9HW: NDArray[Any]
    depth_mm_3HW: NDArray[Any]

    def rgb(self, view: int) -> NDArray[Any]:
        """The colours of one view, [H, W, 3]."""
        return self.rgb_9HW[view * COLOURS : (view + 1) * COLOURS].transpose(1, 2, 0)


@dataclass(frozen=True)
class Change:
    """A sample before and after an augmentation, whose settings are a text."""

    name: str
    settings: str
    before: Images
    after: Images

    def rgb_difference(self, view: int) -> NDArray[np.int64]:
        """By how much each pixel changed, the most of its three colours, [H, W], 0..255."""
        difference = np.abs(self.after.rgb(view).astype(int) - self.before.rgb(view))
        return np.asarray(difference.max(axis=2))

    def depth_difference(self, view: int) -> NDArray[np.int64]:
        """By how many millimetres each pixel changed, [H, W]."""
        difference = self.after.depth_mm_3HW[view].astype(int) - self.before.depth_mm_3HW[view]
        return np.asarray(np.abs(difference))

    def most_changed_view(self) -> int:
        """The view with the most changed pixels, the first of equals."""
        views = range(VIEWS)
        changed = [(self.rgb_difference(v) > 0).sum() + (self.depth_difference(v) > 0).sum() for v in views]
        return int(np.argmax(changed))


def choose(pack: Pack, split: str, wanted: int, seed: int) -> list[int]:
    """`wanted` different rows of a split, drawn by `seed`. DataError for numbers out of range."""
    available = len(pack.split(split).ids)
    if not 1 <= wanted <= min(available, MOST_SAMPLES):
        limit = f"the split {split} of {pack.root} has {available} in all"
        if available > MOST_SAMPLES:
            limit = f"one picture shows at most {MOST_SAMPLES}"
        raise DataError(f"--samples {wanted}: {limit}; ask for 1 to {min(available, MOST_SAMPLES)}")
    if not 0 <= seed <= LARGEST_SEED:
        raise DataError(f"--seed {seed}: must be from 0 to {LARGEST_SEED}")
    drawn = np.random.default_rng(seed).permutation(available)[:wanted]
    return [int(row) for row in drawn]


def why_unmarked(pack: Pack, split: PackedSplit) -> str | None:
    """Why fingertips cannot be marked in the views; None if they can."""
    from pipeline.data.twin.make import is_rendered

    if not is_rendered(pack.meta.source):
        return "no fingertips are marked: the cameras' places are known for rendered data only"
    if split.labels is None:
        return "no fingertips are marked: this split has no labels"
    return None


def cameras(size: int) -> list[Camera]:
    """The three cameras of rendered data, for views of `size` pixels."""
    from pipeline.data.twin.camera import Camera
    from pipeline.data.twin.scene import PLACEMENTS

    return [Camera(placement, size) for placement in PLACEMENTS]


def changes(images: Images, seed: int) -> Iterator[Change]:
    """Every augmentation of the sample, at its default strength and with probability 1."""
    import torch

    from pipeline.data.augment import AUGMENTATIONS, apply
    from pipeline.data.dataset import Batch

    config = AugmentConfig.model_validate({name: {"probability": 1.0} for name in AUGMENTATIONS})
    rgb = torch.from_numpy(images.rgb_9HW.copy())[None]
    depth = torch.from_numpy(images.depth_mm_3HW.astype(np.int32))[None]
    for name in AUGMENTATIONS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed = apply(name, Batch(rgb, depth, None), config)
        after = Images(changed.rgb_B9HW[0].numpy(), changed.depth_mm_B3HW[0].numpy())
        yield Change(name, _settings(dict(config)[name].model_dump()), images, after)


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if name != "probability")


def sample_strip(
    images: Images, heading: str, span: drawing.Span, tips_3F2: NDArray[np.float64] | None
) -> drawing.Picture:
    """The views and depth images of a sample; `tips_3F2` are the places of the fingertips in the views."""
    views = [drawing.panel(images.rgb(view)) for view in range(VIEWS)]
    if tips_3F2 is not None:
        for picture, tips_F2 in zip(views, tips_3F2, strict=True):
            drawing.mark(picture, tips_F2, drawing.enlargement(*images.rgb_9HW.shape[1:]))
    depths = [drawing.panel(drawing.depth_colours(depth, span)) for depth in images.depth_mm_3HW]
    captions = [f"{what} of view {view}" for what in ("RGB", "depth") for view in range(VIEWS)]
    row = drawing.beside(list(map(drawing.captioned, views + depths, captions)))
    return drawing.stacked([drawing.text(heading, row.width), row], gap=2)


def change_strip(change: Change, span: drawing.Span) -> drawing.Picture:
    """RGB and depth of the view that an augmentation changed most: before, after, difference."""
    view = change.most_changed_view()
    rgb, depth = change.rgb_difference(view), change.depth_difference(view)
    row = drawing.beside(
        [
            drawing.captioned(drawing.panel(pixels), caption)
            for pixels, caption in (
                (change.before.rgb(view), "RGB before"),
                (change.after.rgb(view), "RGB after"),
                (drawing.difference_greys(rgb), f"RGB: {_extent(rgb, '')}"),
                (drawing.depth_colours(change.before.depth_mm_3HW[view], span), "depth before"),
                (drawing.depth_colours(change.after.depth_mm_3HW[view], span), "depth after"),
                (drawing.difference_greys(depth), f"depth: {_extent(depth, ' mm')}"),
            )
        ]
    )
    heading = f"{change.name} ({change.settings}), view {view}"
    return drawing.stacked([drawing.text(heading, row.width), row], gap=2)


def _extent(difference_HW: NDArray[np.int64], unit: str) -> str:
    if not difference_HW.any():
        return "no pixel changed"
    return f"{PERCENT * (difference_HW > 0).mean():.1f}% by up to {difference_HW.max()}{unit}"


def draw(pack: Pack, name: str, rows: list[int], seed: int) -> drawing.Picture:
    """The whole picture: these rows of the split `name`, then every augmentation of the first of them."""
    split = pack.split(name)
    samples = [Images(split.rgb[row], split.depth[row]) for row in rows]
    span = drawing.span_of(split.depth[rows])
    unmarked = why_unmarked(pack, split)
    known = cameras(pack.meta.height) if unmarked is None else []
    strips = []
    for row, images in zip(rows, samples, strict=True):
        tips = _projected(split, row, known) if known else None
        strips.append(sample_strip(images, f"{name} sample {row}, id {split.ids[row]}", span, tips))
    augmented = [change_strip(change, span) for change in changes(samples[0], seed)]

    words = partial(drawing.text, width=strips[0].width)
    title = words(f"Samples of {pack.root}", size=drawing.HEADING)
    source = words(f"{pack.meta.source}; {pack.meta.height} x {pack.meta.width} pixels")
    fingers = drawing.finger_legend() if unmarked is None else words(unmarked)
    second = words(f"Augmentations of {name} sample {rows[0]}", size=drawing.HEADING)
    explained = words(
        "Each alone, at its default strength and with probability 1; of three views the one it changed most. "
        "Differences: the share of pixels changed and the largest change; black is none, white is large."
    )
    top = drawing.stacked([title, source, fingers, drawing.depth_legend(span)])
    middle = drawing.stacked([second, explained])
    return drawing.framed(drawing.stacked([top, *strips, middle, *augmented], gap=STRIP_GAP))


def _projected(split: PackedSplit, row: int, known: list[Camera]) -> NDArray[np.float64]:
    """The places of a sample's fingertips in each view, pixels [3, 4, 2]."""
    if split.labels is None:
        raise ValueError("a split without labels has no fingertips to project")
    points_F3 = split.labels[row].reshape(len(drawing.FINGERS), -1)
    return np.stack([np.stack(camera.project(points_F3)[:2], axis=-1) for camera in known])


def save(picture: drawing.Picture, path: Path) -> None:
    """Writes the picture as PNG, whole or not at all. Raises DataError if that is impossible."""
    try:
        write_atomically(path, lambda temporary: picture.save(temporary, "PNG"))
    except OSError as error:
        no_folder = isinstance(error, FileExistsError)  # as mkdir says it
        reason = f"{path.parent} is not a folder" if no_folder else error.strerror or error
        raise DataError(f"{path}: cannot be written: {reason}; choose another place with --out") from None


def build_parser() -> argparse.ArgumentParser:
    """The command line of `python -m pipeline.data.preview`."""
    parser = cli.parser(
        "python -m pipeline.data.preview",
        "Draws a few samples of a packed data set (colours, depth and, where the cameras\n"
        "are known, the fingertips), and below them one sample before and after each\n"
        "augmentation.",
        "  python -m pipeline.data.preview --data packed --out preview.png\n"
        "  python -m pipeline.data.preview --data packed --out test.png --split test",
    )
    cli.add_data(parser, "required")
    parser.add_argument("--out", type=Path, required=True, metavar="F.png", help="the picture to write")
    parser.add_argument("--split", default="train", help="train (default) or test")
    parser.add_argument("--samples", type=int, default=3, metavar="N", help="how many (default: 3)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which samples, and all that is random (default: 0)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draws, writes and says what was drawn."""
    args = build_parser().parse_args(argv)
    if args.data is None:
        raise DataError("no data set: give --data DIR or set PIPELINE_DATA")
    if args.out.suffix.lower() != SUFFIX:
        raise DataError(f"--out {args.out}: the picture is a PNG; give a name that ends in {SUFFIX}")
    pack = open_pack(args.data)
    rows = choose(pack, args.split, args.samples, args.seed)
    picture = draw(pack, args.split, rows, args.seed)
    save(picture, args.out)
    print(f"{args.out}: {args.split} samples {', '.join(map(str, rows))}; {picture.width} x {picture.height}")
    unmarked = why_unmarked(pack, pack.split(args.split))
    if unmarked is not None:
        print(unmarked)


if __name__ == "__main__":
    cli.run(main)
