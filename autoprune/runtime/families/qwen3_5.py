"""Qwen3.5: gated delta rule in three layers of four, attention in the fourth."""

from __future__ import annotations

from autoprune.runtime.families.family import Family

QWEN3_5 = Family(recurrent=("linear_attn",))
