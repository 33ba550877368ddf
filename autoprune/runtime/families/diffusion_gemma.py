"""DiffusionGemma: a block of the answer is drafted and rewritten many times over the same cache."""

from __future__ import annotations

from autoprune.runtime.families.family import Family

DIFFUSION_GEMMA = Family(refusal="writes its answer by block diffusion, not token by token after one prefill")
