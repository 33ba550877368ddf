"""How a model is loaded, as one frozen value: the study file and every command have the same settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator, model_validator

from autoprune.errors import ModelError
from autoprune.models.generation import check_setting
from autoprune.schedule.validation import INSIDE, explained

DTYPES = Literal["auto", "float32", "bfloat16", "float16"]


class ModelOptions(BaseModel):
    """Settings of a model that is loaded.

    Attributes:
        revision: Branch, tag or commit of a name on the hub.
        dtype: ``auto`` = the checkpoint's on a GPU, float32 on a CPU, where half precision is slower and less exact.
        device: A torch device; ``auto`` = the first CUDA device if there is one, else the CPU.
        device_map: Spread over several devices, in the words of accelerate (``auto``, ``balanced``, ``sequential``, or
            modules with their devices); None = all on `device`.
        attn_implementation: Attention kernel, such as ``eager`` or ``sdpa``; None = the model's own choice.
        trust_remote_code: Whether code that the checkpoint brings may run.
        processor: Settings of the processor to replace, such as ``{"max_pixels": 200704}``.
        generation: Settings of the model's ``generation_config.json`` to replace, such as
            ``{"repetition_penalty": 1.0}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    revision: str | None = None
    dtype: DTYPES = "auto"
    device: str = "auto"
    device_map: str | dict[str, str | int] | None = None
    attn_implementation: str | None = None
    trust_remote_code: Annotated[bool, Strict()] = False
    processor: dict[str, Any] = Field(default_factory=dict)
    generation: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """The options with these values.

        Raises:
            ModelError: naming the field and the remedy.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise explained(error, cls, ModelError, root="model", where="model") from None

    @property
    def changing(self) -> dict[str, Any]:
        """The settings that can change an answer without being seen in the model or its files."""
        values = {"attn": self.attn_implementation, "processor": self.processor, "generation": self.generation}
        return {name: value for name, value in values.items() if value}

    @field_validator("device")
    @classmethod
    def _named(cls, given: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", given):
            raise ModelError("no such device", value=given, remedy="use auto, cpu, mps, cuda or cuda:<number>")
        return given

    @field_validator("generation")
    @classmethod
    def _known(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in given:
            check_setting(name)
        return given

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.device_map is not None and self.device != "auto":
            raise ModelError(
                "says where the parts of the model go, and so does device",
                field=f"{INSIDE}.device_map",
                value=self.device_map,
                remedy="leave one of them out",
            )
        return self


DEFAULTS = ModelOptions()
