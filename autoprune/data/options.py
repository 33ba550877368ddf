"""How a data set is read, as one frozen value: the study file and every command have the same settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict


class DataOptions(BaseModel):
    """Settings of a data set that is read.

    Attributes:
        split: Split of a data set on the hub.
        config: Configuration of a data set on the hub that has several; None = its only one.
        columns: Name in the data, by our name of a field.
        samples: Rows to draw; None = all.
        seed: Of the draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "train"
    config: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    samples: Annotated[int, Strict(), Field(ge=1)] | None = None
    seed: Annotated[int, Strict()] = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings as keyword arguments of `load_samples`."""
        return {name: getattr(self, name) for name in DataOptions.model_fields}
