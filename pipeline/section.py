"""What every section of the configuration is: frozen, and strict about its keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.errors import did_you_mean


class Strict(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            unknown = [str(key) for key in values if key not in cls.model_fields]
            if unknown:
                known = cls.model_fields
                hint = did_you_mean(unknown[0], known)
                raise ValueError(f"unknown key {unknown[0]!r}; known here: {', '.join(known)}{hint}")
        return values
