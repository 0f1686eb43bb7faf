"""The section `train.scheduler` of the configuration: which schedule, in fractions of the run.

`pipeline.schedule` computes the learning rates.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from pipeline.section import Strict

NUMBER = r"\d+(?:\.\d+)?"
WITH_BASE = 'expected epochs with a base, as in "30 of 200" or "[30, 60] of 200", or fractions of the run'


def fraction_of_run(value: Any) -> Any:
    """Turns "30 of 200" into 0.15 and "[30, 60] of 200" into [0.15, 0.3]; leaves fractions alone.

    Raises ValueError for any other text and for numbers above 1.
    """
    if not isinstance(value, str):
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(number, (int, float)) and number > 1 for number in numbers):
            raise ValueError(f"{value}: {WITH_BASE}")
        return value
    match = re.fullmatch(r"\s*(.+?)\s+of\s+(\d+)\s*", value)
    if match is None:
        raise ValueError(f"{value!r}: {WITH_BASE}")
    numbers, base = re.findall(NUMBER, match[1]), int(match[2])
    is_list = match[1].startswith("[")
    if base <= 0 or re.sub(NUMBER, "", match[1]).strip("[], ") or not (is_list or len(numbers) == 1):
        raise ValueError(f"{value!r}: {WITH_BASE}")
    fractions = [float(number) / base for number in numbers]
    return fractions if is_list else fractions[0]


Fraction = Annotated[float, BeforeValidator(fraction_of_run), Field(ge=0, le=1)]
Fractions = Annotated[
    tuple[Annotated[float, Field(gt=0, lt=1)], ...], BeforeValidator(fraction_of_run), Field(min_length=1)
]


class Schedule(Strict):
    """What all schedules share: a linear warm-up over a fraction of the run."""

    warmup: Fraction = 0.0


class Constant(Schedule):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"


class MultiStep(Schedule):
    """Multiplied by `factor` at each milestone, given as fractions of the run or "[30, 60] of 200"."""

    name: Literal["multistep"] = "multistep"
    milestones: Fractions
    factor: float = Field(0.5, gt=0, lt=1)

    @model_validator(mode="after")
    def _milestones_rise(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(
                f"milestones {list(self.milestones)} must rise: a repeated one would apply the factor twice"
            )
        return self


class Step(Schedule):
    """Multiplied by `factor` after every `every`, a fraction of the run or "30 of 180"."""

    name: Literal["step"] = "step"
    every: Annotated[float, BeforeValidator(fraction_of_run), Field(gt=0, le=1)]
    factor: float = Field(0.5, gt=0, lt=1)


class Cosine(Schedule):
    """Half a cosine from the full learning rate down to `floor` times it at the run's end."""

    name: Literal["cosine"] = "cosine"
    floor: float = Field(0.0, ge=0, lt=1)


def _name_of(value: Any) -> str:
    """The name of a schedule, as read from YAML or as built."""
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return str(name)


Scheduler = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[MultiStep, Tag("multistep")]
    | Annotated[Step, Tag("step")]
    | Annotated[Cosine, Tag("cosine")],
    Discriminator(
        _name_of,
        custom_error_type="scheduler",
        custom_error_message="known are constant, multistep, step and cosine, as in {name: cosine}",
    ),
]
