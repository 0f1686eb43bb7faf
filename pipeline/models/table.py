"""The table of backbones. A new one needs one row here and one file, configs/model/NAME.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import ConfigError, did_you_mean
from pipeline.models.architectures import Builder, hrnet, hrnet_of, pooled, pose_resnet

SMALL_SUFFIX = "-small"


@dataclass(frozen=True)
class Backbone:
    """One row.

    `small` builds a sibling of the same family for 64-pixel images on one CPU thread; `weights` is timm's
    name of the ImageNet weights of the full one; `not_loaded` are the beginnings of names in such a
    checkpoint that the network here does not have or learns anew.
    """

    name: str
    arch: str
    full: Builder
    small: Builder
    weights: str
    not_loaded: tuple[str, ...]


def table(*rows: Backbone) -> dict[str, Backbone]:
    """The rows by name; raises ConfigError if two have the same name."""
    found: dict[str, Backbone] = {}
    for row in rows:
        if row.name in found:
            raise ConfigError(f"two backbones are called {row.name!r}; names in the table must differ")
        found[row.name] = row
    return found


# An eighth of the usual channels, and ResNet's stem of three 3x3 convolutions, as its one of 7x7 would cost
# more than all the rest: at 64 pixels on one CPU thread the siblings train at 170 to 330 samples/s and learn
# the rendered twin within nine epochs (measured).
_SMALL_CHANNELS = (8, 16, 32, 64)
_SMALL_STEM = {"stem_type": "deep", "stem_width": 8}

# Of HRNet's classification checkpoints: the head, and the outputs of the last stage that only it reads.
_HRNET_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
_HRNET_UNREAD = tuple(f"stage4.2.fuse_layers.{output}." for output in (1, 2, 3))

BACKBONES = table(
    Backbone(
        name="resnest269",
        arch="resnest269e",
        full=pooled("resnest269e"),
        small=pooled("resnest269e", layers=(1, 1, 1, 1), channels=_SMALL_CHANNELS, stem_width=8),
        weights="resnest269e.in1k",
        not_loaded=("fc.",),
    ),
    Backbone(
        name="convnext",
        arch="convnext_xlarge",
        full=pooled("convnext_xlarge"),
        small=pooled("convnext_xlarge", depths=(1, 1, 2, 1), dims=(24, 48, 96, 192)),
        weights="convnext_xlarge.fb_in22k_ft_in1k",
        not_loaded=("head.fc.",),
    ),
    Backbone(
        name="hrnet",
        arch="hrnet_w48-pose",
        full=hrnet("hrnet_w48"),
        small=hrnet_of(widths=(8, 16, 32, 64), blocks=1, stem_width=16),
        weights="hrnet_w48.ms_in1k",
        not_loaded=(*_HRNET_HEAD, *_HRNET_UNREAD),
    ),
    Backbone(
        name="poseresnet152",
        arch="resnet152-pose",
        full=pose_resnet("resnet152", width=256),
        small=pose_resnet(
            "resnet152", width=32, layers=(1, 1, 2, 1), channels=_SMALL_CHANNELS, **_SMALL_STEM
        ),
        weights="resnet152.tv_in1k",
        not_loaded=("fc.",),
    ),
    Backbone(
        name="resnet50",
        arch="resnet50",
        full=pooled("resnet50"),
        small=pooled("resnet50", layers=(1, 1, 1, 1), channels=_SMALL_CHANNELS, **_SMALL_STEM),
        weights="resnet50.tv_in1k",
        not_loaded=("fc.",),
    ),
    Backbone(
        name="resnet152",
        arch="resnet152",
        full=pooled("resnet152"),
        small=pooled("resnet152", layers=(1, 2, 3, 1), channels=_SMALL_CHANNELS, **_SMALL_STEM),
        weights="resnet152.tv_in1k",  # torchvision's, as in the report; timm's own recipe is the default tag
        not_loaded=("fc.",),
    ),
)


def names() -> list[str]:
    """The backbones, in the table's order."""
    return list(BACKBONES)


def find(name: str, among: Mapping[str, Backbone] = BACKBONES) -> Backbone:
    """The row of that name; raises ConfigError with the known names."""
    if name not in among:
        raise ConfigError(f"unknown model {name!r}; known: {', '.join(among)}{did_you_mean(name, among)}")
    return among[name]


def arch(name: str, small: bool = False) -> str:
    """What the leaderboard shows for it: timm's name of the architecture, or NAME-small for the sibling."""
    backbone = find(name)
    return f"{name}{SMALL_SUFFIX}" if small else backbone.arch
