from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torchvision.transforms.v2 import functional

from pipeline.augment_config import Augmentation, AugmentConfig
from pipeline.data.augment import AUGMENTATIONS, apply, augment
from pipeline.data.dataset import Batch
from pipeline.errors import ConfigError

SIZE = 40


def make_batch(count: int = 4, size: int = SIZE, seed: int = 3) -> Batch:
    """Random colours; distances of 0.4 to 1.2 m with rows of 0 and 65535 at the top."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(256, (count, 9, size, size), dtype=torch.uint8, generator=generator)
    depth = torch.randint(400, 1200, (count, 3, size, size), dtype=torch.int32, generator=generator)
    depth[:, :, 0], depth[:, :, 1] = 0, 65535
    return Batch(rgb, depth, torch.zeros(count, 12))


def applied(name: str, batch: Batch, seed: int = 0, **section: Any) -> Batch:
    torch.manual_seed(seed)
    return apply(name, batch, AugmentConfig(**{name: {"probability": 1.0, **section}}))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.rgb_B9HW, other.rgb_B9HW) and torch.equal(one.depth_mm_B3HW, other.depth_mm_B3HW)


def changed_depth(batch: Batch, after: Batch) -> torch.Tensor:
    return batch.depth_mm_B3HW != after.depth_mm_B3HW


def test_the_table_and_the_configuration_name_the_same_augmentations_in_the_same_order() -> None:
    assert list(AUGMENTATIONS) == list(AugmentConfig.model_fields)


def test_everything_is_off_by_default() -> None:
    batch = make_batch()
    before = torch.get_rng_state()
    assert augment(batch, AugmentConfig()) is batch
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_keeps_shapes_types_labels_and_its_input(name: str) -> None:
    batch, untouched = make_batch(), make_batch()
    after = applied(name, batch)
    assert same(batch, untouched)
    assert not same(after, batch)
    for before_tensor, tensor in zip(vars(batch).values(), vars(after).values(), strict=True):
        assert (tensor.shape, tensor.dtype) == (before_tensor.shape, before_tensor.dtype)
    assert after.label_mm_B12 is batch.label_mm_B12


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_probability_zero_changes_nothing_and_the_seed_decides_the_rest(name: str) -> None:
    batch = make_batch()
    assert same(applied(name, batch, probability=0.0), batch)
    assert same(applied(name, batch, seed=5), applied(name, batch, seed=5))
    assert not same(applied(name, batch, seed=5), applied(name, batch, seed=6))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown augmentation 'flip'; known: colour_jitter, depth_noise"):
        apply("flip", make_batch(), AugmentConfig())


def test_another_takes_one_row_and_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blank(Augmentation):
        level: int = 7

    class Wider(AugmentConfig):
        blank: Blank = Blank()

    def blank(batch: Batch, config: Blank) -> Batch:
        return Batch(torch.full_like(batch.rgb_B9HW, config.level), batch.depth_mm_B3HW, batch.label_mm_B12)

    monkeypatch.setitem(AUGMENTATIONS, "blank", blank)
    assert augment(make_batch(), Wider(blank={"probability": 1})).rgb_B9HW.unique().tolist() == [7]


def test_pix_dropout_drops_floor_p_n_of_the_foreground_only() -> None:
    batch = make_batch(count=200)
    after = applied("pix_dropout", batch, value="no_return", nearer_than_m=0.8)
    depth, dropped = batch.depth_mm_B3HW, changed_depth(batch, after)
    foreground = (depth > 0) & (depth < 800)
    assert not (dropped & ~foreground).any()
    assert not after.depth_mm_B3HW[dropped].any()
    share = dropped.sum(dim=(-2, -1)) / foreground.sum(dim=(-2, -1))
    assert share.max() <= 0.15
    assert share.max() > 0.145
    assert share.mean().item() == pytest.approx(0.075, abs=0.006)  # 600 images: four standard errors
    assert share[:, 0].ne(share[:, 1]).any(), "each view has its own p"


def test_pix_dropout_draws_without_replacement_whatever_the_share() -> None:
    """p is drawn after the gate from the same generator, so the expected counts can be drawn again."""
    batch = make_batch(count=50)
    after = applied("pix_dropout", batch, seed=9, p_max=1.0, nearer_than_m=None, value="no_return")
    torch.manual_seed(9)
    torch.rand(50, 3)
    share = torch.rand(50, 3, dtype=torch.float64)
    valid = (SIZE - 2) * SIZE
    assert torch.equal(changed_depth(batch, after).sum(dim=(-2, -1)), (share * valid).floor().long())


def test_pix_dropout_takes_every_foreground_pixel_equally_often() -> None:
    rounds, one = 400, make_batch(count=1, size=10)
    batch = Batch(one.rgb_B9HW.expand(rounds, -1, -1, -1), one.depth_mm_B3HW.repeat(rounds, 1, 1, 1), None)
    after = applied("pix_dropout", batch, p_max=1.0, nearer_than_m=None)
    often = changed_depth(batch, after).float().mean(dim=(0, 1))[2:]
    assert often.mean().item() == pytest.approx(0.5, abs=0.05)
    assert often.std().item() < 0.04  # 1200 draws a pixel, each about p in 2: 0.014 by chance


def test_the_gate_opens_as_often_as_published() -> None:
    batch = make_batch(count=1500, size=12)
    after = applied("pix_dropout", batch, probability=0.7, p_max=1.0, nearer_than_m=None)
    opened = changed_depth(batch, after).any(dim=-1).any(dim=-1).float()
    assert opened.mean().item() == pytest.approx(0.7, abs=0.03)  # also closed where floor(p n) is 0
    both = (opened[:, 0] * opened[:, 1]).mean().item()
    assert both == pytest.approx(0.49, abs=0.05), "views are drawn independently"


@pytest.mark.parametrize(("value", "written"), [("background", 2000), ("no_return", 0)])
def test_what_is_written_is_a_choice(value: str, written: int) -> None:
    batch = make_batch()
    after = applied("pix_dropout", batch, value=value)
    assert after.depth_mm_B3HW[changed_depth(batch, after)].unique().tolist() == [written]


def test_images_without_foreground_stay_as_they_are() -> None:
    batch = make_batch()
    batch.depth_mm_B3HW.fill_(0)
    assert same(applied("pix_dropout", batch), batch)
    tiny = make_batch(size=2)
    assert same(applied("pix_dropout", tiny, p_max=0.01), tiny)


def test_the_reports_variant_writes_the_sentinel_into_view_0_only() -> None:
    batch = make_batch(count=100)
    after = applied("report_dropout", batch)
    dropped = changed_depth(batch, after)
    assert not dropped[:, 1:].any()
    assert after.depth_mm_B3HW[dropped].unique().tolist() == [65535]
    share = dropped[:, 0].sum(dim=(-2, -1)) / (SIZE * (SIZE - 1))
    assert share.mean().item() == pytest.approx(0.075, abs=0.018)  # four standard errors
    assert dropped[:, 0, 0].any(), "the report took pixels without return for foreground too"


def test_erasing_takes_colours_and_depth_of_one_view_together() -> None:
    batch = make_batch(count=300)
    batch.rgb_B9HW.fill_(7)
    after = applied("random_erasing", batch, probability=0.5)
    depth = changed_depth(batch, after)
    assert not after.depth_mm_B3HW[depth].any()
    colours = (after.rgb_B9HW != 7).view(300, 3, 3, SIZE, SIZE)
    depth |= batch.depth_mm_B3HW == 0  # where it changes nothing
    assert not (colours.any(dim=2) & ~depth).any()
    views_hit = colours.any(dim=2).any(dim=-1).any(dim=-1)
    assert views_hit.sum(dim=1).unique().tolist() == [0, 1]
    assert views_hit.float().mean(dim=0).tolist() == pytest.approx([1 / 6] * 3, abs=0.09)
    area = colours.any(dim=2).sum(dim=(-2, -1))[views_hit] / SIZE**2
    assert area.mean().item() == pytest.approx(0.11, abs=0.02)
    assert area.min() > 0.015
    assert area.max() < 0.22


def test_erased_places_are_whole_rectangles_anywhere() -> None:
    batch = make_batch(count=300)
    batch.depth_mm_B3HW.fill_(500)
    erased = changed_depth(batch, applied("random_erasing", batch)).any(dim=1)
    rows, columns = erased.any(dim=2), erased.any(dim=1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        edges = line.int().diff(dim=1).abs().sum(dim=1) + line[:, 0] + line[:, -1]
        assert edges.unique().tolist() == [2], "one run of pixels"
        assert line.any(dim=0).all()


def test_jitter_is_torchvisions_with_a_factor_for_each_view() -> None:
    batch, strengths = make_batch(), {"brightness": 0.3, "contrast": 0.4, "saturation": 0.5}
    after = applied("colour_jitter", batch, seed=2, **strengths)
    torch.manual_seed(2)
    torch.rand(4, 3)
    factors = [1 + strength * (2 * torch.rand(4, 3) - 1) for strength in strengths.values()]
    for sample, view in np.ndindex(4, 3):
        image = batch.rgb_B9HW[sample, 3 * view : 3 * view + 3].float() / 255
        image = functional.adjust_brightness(image, factors[0][sample, view].item())
        image = functional.adjust_contrast(image, factors[1][sample, view].item())
        image = functional.adjust_saturation(image, factors[2][sample, view].item())
        found = after.rgb_B9HW[sample, 3 * view : 3 * view + 3]
        assert (found - 255 * image).abs().max() < 0.6  # rounded to whole levels


def test_jitter_keeps_the_order_of_the_colours_and_leaves_depth() -> None:
    batch = make_batch()
    after = applied("colour_jitter", batch, brightness=1, contrast=1, saturation=1)
    before, now = (each.rgb_B9HW.view(4, 3, 3, -1).int() for each in (batch, after))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        signs = (before[:, :, first] - before[:, :, second]).sign()
        assert ((now[:, :, first] - now[:, :, second]) * signs >= 0).all()
    assert torch.equal(after.depth_mm_B3HW, batch.depth_mm_B3HW)


def test_jitter_without_strength_changes_nothing() -> None:
    batch = make_batch()
    assert same(applied("colour_jitter", batch, brightness=0, contrast=0, saturation=0), batch)


def test_noise_grows_with_the_distance_squared_and_leaves_invalid_pixels() -> None:
    batch = make_batch(count=20)
    depth = batch.depth_mm_B3HW
    depth[:, :, 2:10], depth[:, :, 10:20], depth[:, :, 20:] = 1000, 2000, 1
    after = applied("depth_noise", batch, sigma_mm=5.0).depth_mm_B3HW
    for rows, distance, sigma in ((slice(2, 10), 1000, 5.0), (slice(10, 20), 2000, 20.0)):
        error = (after[:, :, rows] - distance).float()
        assert error.mean().item() == pytest.approx(0, abs=sigma / 25)  # four standard errors and more
        assert error.std().item() == pytest.approx(sigma, rel=0.03)
    assert torch.equal(after[:, :, :2], depth[:, :, :2])
    assert (after[:, :, 20:] == 1).all()


def test_noisy_distances_stay_distances() -> None:
    batch = make_batch()
    batch.depth_mm_B3HW[:, :, 2:20], batch.depth_mm_B3HW[:, :, 20:] = 65534, 1
    after = applied("depth_noise", batch, sigma_mm=1e6).depth_mm_B3HW[:, :, 2:]
    assert (after.min().item(), after.max().item()) == (1, 65534)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pix_dropout": {"p_max": 0}}, "greater than 0"),
        ({"pix_dropout": {"probability": 1.1}}, "less than or equal to 1"),
        ({"pix_dropout": {"value": 0}}, "'background' or 'no_return'"),
        ({"random_erasing": {"area": [0.3, 0.1]}}, r"area \[0.3, 0.1\]: needs low <= high"),
        ({"depth_noise": {"sigma_mm": float("inf")}}, "finite number"),
        ({"flip": {}}, "unknown key 'flip'; known here: colour_jitter, depth_noise, random_erasing"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AugmentConfig(**section)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gpu_augments_reproducibly_where_the_batch_lies(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        cpu = make_batch()
        batch = Batch(cpu.rgb_B9HW.cuda(), cpu.depth_mm_B3HW.cuda(), None)
        one, other = applied(name, batch, seed=1), applied(name, batch, seed=1)
    finally:
        torch.use_deterministic_algorithms(False)
    assert one.rgb_B9HW.is_cuda
    assert one.depth_mm_B3HW.is_cuda
    assert same(one, other)
    assert not same(one, batch)
