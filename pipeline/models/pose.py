"""The pose networks' head: a feature map, one channel a coordinate, one linear layer over all its pixels.

Shapes: B samples, C feature channels, S x S pixels of the map (a quarter of the image's side).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

DECONVOLUTION_KERNEL = 4  # with stride 2 and padding 1 it doubles the side exactly


def deconvolutions(in_channels: int, width: int, count: int) -> nn.Sequential:
    """`count` transposed convolutions, each doubling the side, with BatchNorm and ReLU (arXiv:1804.06208).

    [B, in_channels, S, S] -> [B, width, S * 2 ** count, S * 2 ** count].
    """
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [
            nn.ConvTranspose2d(
                in_channels if index == 0 else width,
                width,
                DECONVOLUTION_KERNEL,
                stride=2,
                padding=1,
                bias=False,
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class PoseNet(nn.Module):
    """Backbone, neck, 1x1 convolution to one map a coordinate, and a linear layer over the flattened maps.

    The linear layer has a weight for every pixel, so the network is tied to the image size it was built for.
    `backbone` yields a map [B, C, s, s] or a list with one; `neck` turns it into [B, channels, side, side].
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, channels: int, side: int, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.to_coordinates = nn.Conv2d(channels, outputs, kernel_size=1)
        self.output = nn.Linear(outputs * side * side, outputs)

    def get_classifier(self) -> nn.Linear:
        """The output layer, by the name that timm's networks use for theirs."""
        return self.output

    def forward(self, image_B12HW: torch.Tensor) -> torch.Tensor:
        """float [B, 12, H, W], standardised, to [B, outputs] in millimetres."""
        features = self.backbone(image_B12HW)
        map_BCss = features[0] if isinstance(features, list) else features
        maps_BOSS = self.to_coordinates(self.neck(map_BCss))
        return cast(torch.Tensor, self.output(maps_BOSS.flatten(1)))
