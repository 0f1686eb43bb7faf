"""Pictures of views and depth images with Pillow: panels, marks, captions, legends, and how they are joined.

Legend: HW3 = an RGB image, 0..255; HW = depth in millimetres; F2 = places in a view, pixels right and down of
its upper left corner.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.channels import NO_RETURN_MM, SENTINEL_MM
from pipeline.data.moments import DEPTH_CLIP_M, RGB_MAX
from pipeline.units import to_metres, to_mm

Colour = tuple[int, int, int]
Picture = Image.Image

PANEL = 224  # pixels that a panel's longer side comes near to when small images are enlarged
GAP = 8  # between panels, and between strips
TEXT, HEADING = 15, 20  # pixels
LINE = 1.3  # height of a line of text, in text sizes
WRAP = 0.95  # of a line that is filled: the rest is for lines with many wide letters

PAPER: Colour = (250, 250, 250)
INK: Colour = (25, 25, 25)
NO_RETURN: Colour = (235, 30, 30)
SENTINEL: Colour = (255, 255, 255)
# Okabe and Ito's colours for all kinds of sight, those that stand out on a black hand; no cube face has them.
FINGERS: dict[str, Colour] = {
    "index": (240, 228, 66),
    "middle": (86, 180, 233),
    "ring": (255, 130, 255),
    "thumb": (80, 255, 120),
}
MARK_RADIUS = 4  # pixels of the panel; then a black and a white line around it

# Viridis (Smith and van der Walt, CC0) at nine even steps, from far to near; it holds neither red nor white.
VIRIDIS = np.array(
    [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ],
    float,
)
SPAN_STEP_MM = 100  # the scale begins and ends at multiples of it, and it is numbered at them
SPAN_SHARE = (1.0, 99.0)  # percentiles of the valid depths that a colour scale covers
BAR = (360, 16)  # width and height of the colour scale
TICK_SPACE = 44  # pixels between the numbers below it
FAINTEST = 70  # brightness of the smallest difference
WHITE_FROM = 99.0  # percentile of the differences that are not 0 from which they are white


@dataclass(frozen=True)
class Span:
    """The distances that the colour scale covers, metres; others take the colours of its ends.

    Colours are even in 1 / distance, as a stereo camera's precision is: most of them go to the hand.
    """

    near_m: float
    far_m: float

    def nearness(self, depth_m: NDArray[Any]) -> NDArray[np.float64]:
        """1 at the near end, 0 at the far end and beyond."""
        inverse = 1 / np.clip(depth_m, self.near_m, self.far_m)
        share: NDArray[np.float64] = (inverse - 1 / self.far_m) / (1 / self.near_m - 1 / self.far_m)
        return share

    def colours(self, depth_m: NDArray[Any]) -> NDArray[np.uint8]:
        """The colours of distances of any shape, [..., 3]."""
        steps = np.linspace(0, 1, len(VIRIDIS))
        nearness = self.nearness(depth_m)
        channels = [np.interp(nearness, steps, channel) for channel in VIRIDIS.T]
        return np.stack(channels, axis=-1).round().astype(np.uint8)


def span_of(depth_mm: NDArray[Any]) -> Span:
    """The scale for these depth images of any shape: nearly all valid depths, up to DEPTH_CLIP_M."""
    valid = depth_mm[(depth_mm != NO_RETURN_MM) & (depth_mm != SENTINEL_MM)]
    low_mm, high_mm = np.percentile(valid, SPAN_SHARE) if valid.size else (0.0, to_mm(DEPTH_CLIP_M))
    last = round(to_mm(DEPTH_CLIP_M) / SPAN_STEP_MM)
    near = min(max(math.floor(low_mm / SPAN_STEP_MM), 1), last - 1)
    far = min(max(math.ceil(high_mm / SPAN_STEP_MM), near + 1), last)
    return Span(to_metres(near * SPAN_STEP_MM), to_metres(far * SPAN_STEP_MM))


def depth_colours(depth_mm_HW: NDArray[Any], span: Span) -> NDArray[np.uint8]:
    """A depth image as an RGB image [H, W, 3]; pixels that hold no distance in colours of their own."""
    colours_HW3 = span.colours(to_metres(depth_mm_HW.astype(float)))
    colours_HW3[depth_mm_HW == NO_RETURN_MM] = NO_RETURN
    colours_HW3[depth_mm_HW == SENTINEL_MM] = SENTINEL
    return colours_HW3


def difference_greys(difference_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Differences of at least 0 as an RGB image [H, W, 3]: black where 0, the largest ones white."""
    changed = difference_HW > 0
    most = np.percentile(difference_HW[changed], WHITE_FROM) if changed.any() else 1.0
    share_HW = np.minimum(difference_HW / most, 1)
    grey_HW = np.where(changed, FAINTEST + (RGB_MAX - FAINTEST) * share_HW, 0)
    return np.repeat(grey_HW.round().astype(np.uint8)[:, :, None], 3, axis=2)


def enlargement(height: int, width: int) -> int:
    """How many times a view of this size is enlarged in its panel: a whole number."""
    return max(1, round(PANEL / max(height, width)))


def panel(pixels_HW3: NDArray[np.uint8]) -> Picture:
    """An image, each of its pixels enlarged to a square."""
    scale = enlargement(*pixels_HW3.shape[:2])
    return Image.fromarray(np.ascontiguousarray(pixels_HW3.repeat(scale, 0).repeat(scale, 1)))


def mark(view: Picture, places_F2: NDArray[np.float64], scale: int) -> None:
    """Marks the fingertips, in the order of FINGERS, in the panel of a view enlarged `scale` times."""
    draw = ImageDraw.Draw(view)
    for (x, y), colour in zip(places_F2 * scale, FINGERS.values(), strict=True):
        _dot(draw, x, y, colour)


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, colour: Colour) -> None:
    for wider, fill in ((2, "white"), (1, "black"), (0, colour)):
        radius = MARK_RADIUS + wider
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def text(words: str, width: int, size: int = TEXT) -> Picture:
    """Words in lines of at most about `width` pixels; the picture is `width` wide."""
    per_letter = max(_font(size).getlength(words) / max(len(words), 1), 1)
    lines = textwrap.wrap(words, max(1, int(WRAP * width / per_letter)))
    height = round(LINE * size)
    picture = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((0, number * height), line, INK, _font(size))
    return picture


def captioned(view: Picture, caption: str) -> Picture:
    """A panel with its caption below."""
    return stacked([view, text(caption, view.width)], gap=2)


def beside(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Pictures in a row, their upper edges aligned."""
    size = (sum(p.width for p in pictures) + gap * (len(pictures) - 1), max(p.height for p in pictures))
    whole = Image.new("RGB", size, PAPER)
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width + gap
    return whole


def stacked(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Pictures below one another, their left edges aligned."""
    size = (max(p.width for p in pictures), sum(p.height for p in pictures) + gap * (len(pictures) - 1))
    whole = Image.new("RGB", size, PAPER)
    y = 0
    for picture in pictures:
        whole.paste(picture, (0, y))
        y += picture.height + gap
    return whole


def framed(picture: Picture, margin: int = 2 * GAP) -> Picture:
    """The picture with an empty margin."""
    whole = Image.new("RGB", (picture.width + 2 * margin, picture.height + 2 * margin), PAPER)
    whole.paste(picture, (margin, margin))
    return whole


def finger_legend() -> Picture:
    """Which mark is which fingertip."""
    side = 2 * MARK_RADIUS + 6
    entries = [_words("fingertips, hidden ones too:")]
    for name, colour in FINGERS.items():
        dot = Image.new("RGB", (side, side), PAPER)
        _dot(ImageDraw.Draw(dot), side // 2, side // 2, colour)
        entries.append(beside([dot, _words(name)], gap=4))
    return beside(entries, gap=2 * GAP)


def depth_legend(span: Span) -> Picture:
    """The colour scale with its distances, and the colours of pixels that hold none."""
    return beside(
        [
            _words("depth, metres:"),
            _scale(span),
            _swatch(NO_RETURN, f"no return ({NO_RETURN_MM})"),
            _swatch(SENTINEL, f"no distance ({SENTINEL_MM})"),
        ],
        gap=2 * GAP,
    )


def _words(words: str) -> Picture:
    return text(words, round(_font(TEXT).getlength(words) / WRAP) + 1)


def _swatch(colour: Colour, words: str) -> Picture:
    width, height = 2 * BAR[1], BAR[1]
    picture = Image.new("RGB", (width, height), colour)
    ImageDraw.Draw(picture).rectangle((0, 0, width - 1, height - 1), outline=INK)
    return beside([picture, _words(words)], gap=4)


def _scale(span: Span) -> Picture:
    width, height = BAR
    inverse = np.linspace(1 / span.near_m, 1 / span.far_m, width)
    bar = Image.fromarray(np.repeat(span.colours(1 / inverse)[None], height, axis=0))
    picture = Image.new("RGB", (width + TICK_SPACE, height + round(LINE * TEXT) + 4), PAPER)
    picture.paste(bar, (TICK_SPACE // 2, 0))
    draw = ImageDraw.Draw(picture)
    for metres, x in _ticks(span):
        draw.line((x, height, x, height + 3), INK)
        draw.text((x, height + 4), f"{metres:.1f}", INK, _font(TEXT), anchor="ma")
    return picture


def _ticks(span: Span) -> Iterable[tuple[float, float]]:
    """Distances and where on the scale they are written: both ends, and what has room between them."""
    first, last_step = (round(to_mm(end) / SPAN_STEP_MM) for end in (span.near_m, span.far_m))
    metres = to_metres(np.arange(first, last_step + 1) * SPAN_STEP_MM)
    across = TICK_SPACE / 2 + (BAR[0] - 1) * (1 - span.nearness(metres))
    last_x = -np.inf
    for distance, x in zip(metres, across, strict=True):
        if x == across[-1] or (x - last_x >= TICK_SPACE and across[-1] - x >= TICK_SPACE):
            yield float(distance), float(x)
            last_x = x
