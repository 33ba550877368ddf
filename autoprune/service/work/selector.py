"""Which point of a front a request asks for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PointSelector(BaseModel):
    """At most one of a loss (with a confidence), a budget and a trial; none = a loss of at most 0.01. See `Wish.of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_drop: float | None = Field(None, description="The cheapest point that loses at most this share.")
    confidence: float | None = Field(None, description="With `max_drop`: how sure the bound must be, such as 0.95.")
    max_flops: float | None = Field(None, description="The best with at most this share of the dense FLOPs.")
    max_latency_ms: float | None = Field(None, description="The best with at most this prefill time.")
    max_kv: float | None = Field(None, description="The best with at most this share of the KV cache.")
    trial: int | None = Field(None, description="The point of this trial.")

    def wish(self) -> dict[str, Any]:
        """What was given of these selectors."""
        return self.model_dump(include=set(PointSelector.model_fields), exclude_none=True)
