"""The section `data.augment` of the configuration: how training images are changed at random.

Everything is off until its `probability` is set; the other defaults are then what is applied.
`pipeline.data.augment` has the functions and the order in which they are applied.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.section import Strict

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]


class Augmentation(Strict):
    """What all augmentations share: the probability that an image, or a sample, is changed at all."""

    probability: Share = 0.0


class ColourJitterConfig(Augmentation):
    """Brightness, contrast and saturation of a view times factors between 1 - x and 1 + x."""

    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2


class DepthNoiseConfig(Augmentation):
    """Gaussian noise on distances, whose deviation grows with the distance squared, as in stereo cameras."""

    sigma_mm: float = Field(2.0, gt=0, allow_inf_nan=False, description="standard deviation at one metre")


class RandomErasingConfig(Augmentation):
    """A rectangle of one view, colours and depth together (arXiv:1708.04896).

    area: the least and the largest share of the image. The paper goes up to 0.4; half of that leaves most of
    a hand that fills a third of the image.
    """

    area: tuple[PositiveShare, PositiveShare] = (0.02, 0.2)

    @model_validator(mode="after")
    def _area_rises(self) -> RandomErasingConfig:
        low, high = self.area
        if low > high:
            raise ValueError(f"area [{low}, {high}]: needs low <= high")
        return self


class PixDropoutConfig(Augmentation):
    """PixDropout (TriHorn-Net, arXiv:2206.07117), which was published with probability 0.7 and p_max 0.15.

    Of the foreground's n pixels floor(p n) become background, with p uniform between 0 and p_max.

    nearer_than_m: the foreground is every valid distance below this; null: every valid pixel. The paper's
        images hold nothing but a hand; ours also show a table and a room, which nobody would miss. All
        fingertips of the rendered twin lie nearer than 0.72 m in all three views, its table in view 0
        farther.
    value: `background` is the distance at which `data.depth: clip` ends, as the paper writes the far end of
        its range; `no_return` is what the sensor writes where it sees nothing.
    """

    p_max: PositiveShare = 0.15
    nearer_than_m: float | None = Field(0.72, gt=0)
    value: Literal["background", "no_return"] = "background"


class ReportDropoutConfig(Augmentation):
    """The report's variant of PixDropout: view 0 only, any pixel that is not 65535 becomes 65535."""

    p_max: PositiveShare = 0.15


class AugmentConfig(Strict):
    """Augmentations by name, in the order in which they are applied; only training batches are augmented."""

    colour_jitter: ColourJitterConfig = ColourJitterConfig()
    depth_noise: DepthNoiseConfig = DepthNoiseConfig()
    random_erasing: RandomErasingConfig = RandomErasingConfig()
    pix_dropout: PixDropoutConfig = PixDropoutConfig()
    report_dropout: ReportDropoutConfig = ReportDropoutConfig()
