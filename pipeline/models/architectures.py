"""What the table's rows build: timm's own networks, and the pose networks, which timm does not have whole.

Where timm's defaults differ from what the report trained:
- timm starts the last BatchNorm weight of every residual branch at zero, torchvision and the ResNeSt authors
  at one. Kept: it trains more steadily, and ImageNet weights, which the report used there, replace it.
- The pose networks' authors drew convolutions from N(0, 0.001); timm uses He initialisation. Kept: it needs
  no ImageNet weights to get going.
- ConvNeXt-XLarge agrees: drop path 0, layer scale 1e-6, truncated normal weights, LayerNorm before the
  output layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.data.channels import CHANNELS, COORDINATES

if TYPE_CHECKING:
    from torch import nn

POSE_STRIDE = 4  # the map that the pose networks regress from is a quarter of the image's side
DECONVOLUTIONS = 3  # from stride 32 to POSE_STRIDE

Builder = Callable[[int], "nn.Module"]
"""From the images' side in pixels to a fresh network."""


def pooled(timm_name: str, **options: Any) -> Builder:
    """timm's network as it is: features, global average pooling, one linear layer; any image size."""

    def build(size: int) -> nn.Module:
        import timm

        network: nn.Module = timm.create_model(
            timm_name, in_chans=CHANNELS, num_classes=COORDINATES, **options
        )
        return network

    return build


def hrnet(timm_name: str) -> Builder:
    """HRNet's high-resolution branch and the report's pose head (arXiv:1902.09212)."""

    def build(size: int) -> nn.Module:
        import timm

        backbone = timm.create_model(
            timm_name, in_chans=CHANNELS, features_only=True, feature_location="", out_indices=(1,)
        )
        return _pose_from_hrnet(backbone, size)

    return build


def hrnet_of(widths: Sequence[int], blocks: int, stem_width: int) -> Builder:
    """An HRNet of four branches of those widths, `blocks` residual blocks each, and the pose head."""

    def stage(branches: int, block_type: str, channels: Sequence[int]) -> dict[str, Any]:
        return {
            "num_modules": 1,
            "num_branches": branches,
            "block_type": block_type,
            "num_blocks": (blocks,) * branches,
            "num_channels": tuple(channels[:branches]),
            "fuse_method": "SUM",
        }

    def build(size: int) -> nn.Module:
        from timm.models.hrnet import HighResolutionNetFeatures

        layout = {f"stage{branches}": stage(branches, "BASIC", widths) for branches in (2, 3, 4)}
        layout["stage1"] = stage(1, "BOTTLENECK", (stem_width,))
        backbone = HighResolutionNetFeatures(
            {**layout, "stem_width": stem_width},
            in_chans=CHANNELS,
            feature_location="",
            out_indices=(1,),
        )
        return _pose_from_hrnet(backbone, size)

    return build


def _pose_from_hrnet(backbone: Any, size: int) -> nn.Module:
    from torch import nn

    from pipeline.models.pose import PoseNet

    # The last stage would also compute the low-resolution outputs, which the pose head does not read.
    del backbone.stage4[-1].fuse_layers[1:]
    return PoseNet(
        backbone, nn.Identity(), backbone.feature_info.channels()[0], size // POSE_STRIDE, COORDINATES
    )


def pose_resnet(timm_name: str, width: int, **options: Any) -> Builder:
    """ResNet features, three deconvolutions of `width` channels and the pose head (arXiv:1804.06208)."""

    def build(size: int) -> nn.Module:
        import timm

        from pipeline.models.pose import PoseNet, deconvolutions

        backbone = timm.create_model(timm_name, in_chans=CHANNELS, num_classes=0, global_pool="", **options)
        neck = deconvolutions(backbone.num_features, width, DECONVOLUTIONS)
        return PoseNet(backbone, neck, width, size // POSE_STRIDE, COORDINATES)

    return build
