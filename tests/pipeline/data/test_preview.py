from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import TwinConfig
from pipeline.data import drawing
from pipeline.data.augment import AUGMENTATIONS
from pipeline.data.packed import Pack, Sample, open_pack
from pipeline.data.packwriter import PackWriter
from pipeline.data.preview import Change, Images, cameras, change_strip, changes, choose, main, why_unmarked
from pipeline.data.twin.make import is_rendered, render_pack
from pipeline.errors import DataError

SIZE = 64
SCALE = drawing.enlargement(SIZE, SIZE)
SIDE = SCALE * SIZE
MARGIN = 2 * drawing.GAP
UNKNOWN = "no fingertips are marked: the cameras' places are known for rendered data only"
Pixels = NDArray[Any]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    root = tmp_path_factory.mktemp("preview") / "twin"
    render_pack(root, TwinConfig(size=SIZE, train=4, test=1, seed=0), processes=1)
    return open_pack(root)


@pytest.fixture(scope="module")
def changed(twin: Pack) -> dict[str, Change]:
    """What each augmentation makes of the first training sample."""
    split = twin.split("train")
    return {change.name: change for change in changes(Images(split.rgb[0], split.depth[0]), seed=0)}


def drawn(pack: Pack, out: Path, *options: str) -> Pixels:
    main(["--data", str(pack.root), "--out", str(out), *options])
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def rows_with(picture: Pixels, x: int, line: Pixels) -> list[int]:
    """The rows of the picture in which this line of pixels starts at column x."""
    same = (picture[:, x : x + len(line)] == line).all(axis=(1, 2))
    return [int(row) for row in np.flatnonzero(same)]


def panels(strip: drawing.Picture) -> list[Pixels]:
    """The six panels of a strip, each pixel as it was before it was enlarged."""
    pixels = np.asarray(strip)
    top = drawing.text("heading", SIDE).height + 2
    lefts = [column * (SIDE + drawing.GAP) for column in range(6)]
    return [pixels[top : top + SIDE : SCALE, left : left + SIDE : SCALE] for left in lefts]


def test_marks_lie_on_the_fingertips_in_the_picture(twin: Pack, tmp_path: Path) -> None:
    picture = drawn(twin, tmp_path / "twin.png", "--samples", "1")
    split, row = twin.split("train"), choose(twin, "train", 1, 0)[0]
    assert split.labels is not None
    tips = split.labels[row].reshape(4, 3)
    on_the_surface = 0
    for view, camera in enumerate(cameras(SIZE)):
        across, down, distance = camera.project(tips)
        left = MARGIN + view * (SIDE + drawing.GAP)
        unmarked = np.asarray(drawing.panel(Images(split.rgb[row], split.depth[row]).rgb(view)))
        top = rows_with(picture, left, unmarked[0])[0]
        for finger, colour in enumerate(drawing.FINGERS.values()):
            place = top + int(down[finger] * SCALE), left + int(across[finger] * SCALE)
            assert tuple(picture[place]) == colour
            seen_mm = int(split.depth[row, view, int(down[finger]), int(across[finger])])
            on_the_surface += 0 < 1000 * distance[finger] - seen_mm < 20  # a tip's radius is 12 mm
    assert on_the_surface >= 6  # the others are hidden, by the cube or by another finger


def test_the_panels_are_the_stored_pixels_except_for_the_marks(twin: Pack, tmp_path: Path) -> None:
    picture = drawn(twin, tmp_path / "twin.png", "--samples", "2", "--split", "train")
    split = twin.split("train")
    span = drawing.span_of(split.depth[choose(twin, "train", 2, 0)])
    for row in choose(twin, "train", 2, 0):
        images = Images(split.rgb[row], split.depth[row])
        top = rows_with(picture, MARGIN, np.asarray(drawing.panel(images.rgb(0)))[0])[0]
        for view in range(3):
            left = MARGIN + view * (SIDE + drawing.GAP)
            shown = picture[top : top + SIDE, left : left + SIDE]
            differs = (shown != np.asarray(drawing.panel(images.rgb(view)))).any(axis=2).sum()
            assert 0 < differs <= 4 * (2 * (drawing.MARK_RADIUS + 2) + 1) ** 2
            left += 3 * (SIDE + drawing.GAP)
            depth = drawing.panel(drawing.depth_colours(split.depth[row, view], span))
            np.testing.assert_array_equal(picture[top : top + SIDE, left : left + SIDE], depth)


def test_recorded_data_has_no_marks_and_says_why(
    blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = drawn(open_pack(blobs), tmp_path / "recorded.png", "--samples", "2")
    assert capsys.readouterr().out.splitlines()[1:] == [UNKNOWN]
    caption = np.asarray(drawing.text(UNKNOWN, picture.shape[1] - 2 * MARGIN))
    inked = int(np.flatnonzero((caption != drawing.PAPER).any(axis=(1, 2)))[5])
    assert any(
        np.array_equal(
            picture[y - inked : y - inked + len(caption), MARGIN : MARGIN + caption.shape[1]], caption
        )
        for y in rows_with(picture, MARGIN, caption[inked])
    )
    for colour in drawing.FINGERS.values():
        assert not (picture == colour).all(axis=2).any()


def test_only_what_was_rendered_here_counts_as_rendered(twin: Pack, blobs: Path) -> None:
    assert is_rendered(twin.meta.source)
    assert why_unmarked(twin, twin.split("test")) is None
    assert not is_rendered(open_pack(blobs).meta.source)
    assert not is_rendered("/data/rendered by pipeline.data.twin")


def test_a_rendered_split_without_labels_has_no_marks(
    twin: Pack, sample_of: Callable[..., Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PackWriter(tmp_path / "pack", {"test": 1}, 6, 8, (), twin.meta.source) as writer:
        writer.write("test", 0, sample_of(0, labelled=False))
    drawn(open_pack(tmp_path / "pack"), tmp_path / "p.png", "--split", "test", "--samples", "1")
    assert capsys.readouterr().out.splitlines()[-1] == "no fingertips are marked: this split has no labels"


def test_every_augmentation_is_shown_and_its_panels_differ_only_where_it_changed_pixels(
    changed: dict[str, Change],
) -> None:
    assert list(changed) == list(AUGMENTATIONS)
    for name, change in changed.items():
        view = change.most_changed_view()
        rgb, depth = change.rgb_difference(view) > 0, change.depth_difference(view) > 0
        assert (rgb.any(), depth.any()) == (
            name in ("colour_jitter", "random_erasing"),
            name != "colour_jitter",
        )
        strip = change_strip(change, drawing.Span(0.4, 2.0))
        before, after, difference, depth_before, depth_after, depth_difference = panels(strip)
        np.testing.assert_array_equal((before != after).any(axis=2), rgb)
        np.testing.assert_array_equal(difference.any(axis=2), rgb)
        np.testing.assert_array_equal(depth_difference.any(axis=2), depth)
        assert not (depth_before != depth_after).any(axis=2)[~depth].any()


def test_erased_rectangles_and_dropped_pixels_have_the_colours_of_the_legend(
    changed: dict[str, Change],
) -> None:
    span = drawing.Span(0.4, 2.0)
    for name, colour in (
        ("random_erasing", drawing.NO_RETURN),
        ("pix_dropout", tuple(span.colours(np.array(2.0)))),
        ("report_dropout", drawing.SENTINEL),
    ):
        change = changed[name]
        changed_HW = change.depth_difference(change.most_changed_view()) > 0
        assert changed_HW.any()
        assert (panels(change_strip(change, span))[4][changed_HW] == colour).all()
    assert changed["report_dropout"].most_changed_view() == 0


def test_the_view_shown_is_the_one_that_changed_most(changed: dict[str, Change]) -> None:
    change = changed["random_erasing"]
    untouched = {view for view in range(3) if not change.rgb_difference(view).any()}
    assert len(untouched) == 2
    assert change.most_changed_view() not in untouched


def test_depth_colours_run_from_near_to_far_and_spare_what_is_no_distance() -> None:
    depth_mm = np.array([[100, 500, 2000, 4000], [0, 65535, 1000, 600]], np.uint16)
    colours = drawing.depth_colours(depth_mm, drawing.Span(0.5, 2.0))
    assert tuple(colours[1, 0]) == drawing.NO_RETURN
    assert tuple(colours[1, 1]) == drawing.SENTINEL
    np.testing.assert_array_equal(colours[0], drawing.VIRIDIS[[-1, -1, 0, 0]].astype(np.uint8))
    assert drawing.Span(0.5, 2.0).nearness(np.array([0.5, 0.8, 2.0])).tolist() == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("depth_mm", "span"),
    [
        ([0, 65535], (0.1, 2.0)),
        ([0, 540, 1310, 65535], (0.5, 1.4)),
        ([700, 700], (0.7, 0.8)),
        ([3000, 9000], (1.9, 2.0)),
        ([3, 4], (0.1, 0.2)),
    ],
)
def test_the_scale_covers_the_distances_there_are(depth_mm: list[int], span: tuple[float, float]) -> None:
    found = drawing.span_of(np.array(depth_mm, np.uint16))
    assert (found.near_m, found.far_m) == span
    assert drawing.depth_legend(found).width > drawing.BAR[0]


def test_small_images_are_enlarged_by_whole_numbers() -> None:
    sizes = [(6, 8), (64, 64), (128, 96), (224, 224), (720, 1280)]
    assert [drawing.enlargement(*size) for size in sizes] == [28, 4, 2, 1, 1]


def test_equal_seeds_draw_the_same_picture_which_replaces_the_old_one_whole(
    twin: Pack, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "twin.PNG"
    first = drawn(twin, out, "--seed", "3")
    np.testing.assert_array_equal(drawn(twin, out, "--seed", "3"), first)
    assert [path.name for path in out.parent.iterdir()] == ["twin.PNG"]
    assert choose(twin, "train", 4, 3) != choose(twin, "train", 4, 0)
    assert sorted(choose(twin, "train", 4, 3)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "5"], r"--samples 5: the split train of \S+ has 4 in all; ask for 1 to 4$"),
        (["--samples", "0"], r"--samples 0: the split train of \S+ has 4 in all; ask for 1 to 4$"),
        (
            ["--samples", "2", "--split", "test"],
            r"--samples 2: the split test of \S+ has 1 in all; ask for 1 to 1$",
        ),
        (["--split", "val"], r"has no split 'val'; it has train, test$"),
        (["--seed", "-1"], r"--seed -1: must be from 0 to 4294967295$"),
        (["--seed", "4294967296"], r"--seed 4294967296: must be from 0 to 4294967295$"),
        (
            ["--out", "preview.jpg"],
            r"--out preview.jpg: the picture is a PNG; give a name that ends in .png$",
        ),
        (["--data", "nowhere"], r"nowhere: not a packed data set \(no meta.yaml\); make one with"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_error(
    twin: Pack, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        main(["--data", str(twin.root), "--out", str(tmp_path / "p.png"), *options])
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error_and_keeps_what_is_there(
    twin: Pack, tmp_path: Path
) -> None:
    folder, file = tmp_path / "folder.png", tmp_path / "file"
    folder.mkdir()
    file.write_text("mine")
    for out, reason in (
        (folder, os.strerror(errno.EISDIR)),
        (file / "p.png", f"{file} is not a folder"),
        (file / "new" / "p.png", os.strerror(errno.ENOTDIR)),
    ):
        with pytest.raises(DataError, match=f"{out}: cannot be written: {reason}; choose another place"):
            main(["--data", str(twin.root), "--out", str(out), "--samples", "1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
    assert file.read_text() == "mine"


def test_a_set_larger_than_a_picture_says_so(pack_maker: Callable[..., Path], tmp_path: Path) -> None:
    pack = open_pack(pack_maker(tmp_path / "many", train=60, test=1, size=8))
    with pytest.raises(DataError, match="--samples 60: one picture shows at most 50; ask for 1 to 50$"):
        choose(pack, "train", 60, 0)


def test_no_data_set_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    with pytest.raises(DataError, match="no data set: give --data DIR or set PIPELINE_DATA"):
        main(["--out", "p.png"])
