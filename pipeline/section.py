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
                hint = did_you_mean(unknown[0], known) or cls._further_in(unknown[0])
                raise ValueError(f"unknown key {unknown[0]!r}; known here: {', '.join(known)}{hint}")
        return values

    @classmethod
    def _further_in(cls, key: str) -> str:
        """The end of a message about a key that belongs to a section of this one, as `lr` to `train`."""
        sections = {
            name: getattr(field.annotation, "model_fields", {}) for name, field in cls.model_fields.items()
        }
        found = [f"'{name}.{key}'" for name, fields in sections.items() if key in fields]
        return f"; did you mean {' or '.join(found)}?" if found else ""
