import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models import arch, build, names, set_output_mean
from pipeline.models.architectures import pooled
from pipeline.models.table import BACKBONES, Backbone, find, table

MEAN_MM = [47.0, 53.0, 118.0, 71.0, -1.0, 95.0, 61.0, -45.0, 49.0, 55.0, 25.0, -39.0]
PUBLISHED_PARAMETERS = {
    "resnest269": 108_910_252,
    "convnext": 348_209_420,
    "hrnet": 64_052_280,
    "poseresnet152": 69_114_008,
    "resnet50": 23_560_844,
    "resnet152": 58_196_620,
}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def images(batch=2, size=64):
    return torch.randn(batch, 12, size, size, generator=torch.Generator().manual_seed(1))


def assert_gradients_finite(model):
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert torch.isfinite(parameter.grad).all(), name


def test_the_table_lists_the_six():
    assert set(PUBLISHED_PARAMETERS) <= set(names())


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_full_size_has_the_published_parameters(name, full_size):
    assert parameters(full_size(name)) == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_small_sibling_maps_images_to_coordinates_and_uses_every_parameter(name):
    torch.manual_seed(0)
    model = build(name, small=True, size=64)
    coordinates = model(images())
    assert coordinates.shape == (2, 12)
    assert parameters(model) < 1e6
    coordinates.square().mean().backward()
    assert_gradients_finite(model)


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_output_starts_at_the_label_mean(name):
    torch.manual_seed(0)
    model = build(name, small=True, size=64)
    set_output_mean(model, MEAN_MM)
    assert model.get_classifier().bias.tolist() == MEAN_MM
    offset_mm = model(images(batch=8)).mean(0) - torch.tensor(MEAN_MM)
    assert offset_mm.abs().max() < 5


def test_output_mean_of_the_wrong_length_is_refused():
    with pytest.raises(ConfigError, match="3 label means for a network with 12 outputs"):
        set_output_mean(build("resnet50", small=True, size=64), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", ["hrnet", "poseresnet152"])
@pytest.mark.parametrize("size", [32, 96])
def test_pose_networks_are_built_for_the_size_asked_for(name, size):
    assert build(name, small=True, size=size)(images(size=size)).shape == (2, 12)


def test_same_seed_same_weights():
    def seeded():
        torch.manual_seed(3)
        return build("hrnet", small=True, size=64).state_dict()

    first, second = seeded(), seeded()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_arch_says_which_ran():
    assert arch("convnext") == "convnext_xlarge"
    assert arch("convnext", small=True) == "convnext-small"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="unknown model 'resnet18'; known: resnest269, convnext, hrnet"):
        build("resnet18")


@pytest.mark.parametrize("size", [0, 100, -32])
def test_size_that_does_not_fit_is_refused(size):
    with pytest.raises(ConfigError, match=f"image size {size} does not fit resnet50: needs a multiple of 32"):
        build("resnet50", size=size)


def seventh():
    options = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}
    return Backbone(
        name="resnet18",
        arch="resnet18",
        full=pooled("resnet18"),
        small=pooled("resnet18", **options),
        weights="resnet18.tv_in1k",
        not_loaded=("fc.",),
    )


def test_a_seventh_backbone_is_one_row():
    extended = table(*BACKBONES.values(), seventh())
    model = find("resnet18", among=extended).small(64)
    assert isinstance(model.get_classifier(), nn.Linear)
    assert model(images()).shape == (2, 12)


def test_a_duplicate_row_is_fatal():
    with pytest.raises(ConfigError, match="two backbones are called 'resnet18'"):
        table(seventh(), seventh())


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_full_size_trains_at_the_report_size(name):
    torch.manual_seed(0)
    model = build(name)
    coordinates = model(images(size=224))
    assert coordinates.shape == (2, 12)
    coordinates.square().mean().backward()
    assert_gradients_finite(model)
