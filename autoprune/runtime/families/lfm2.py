"""LFM2 and LFM3: short convolutions in most layers, attention in some."""

from __future__ import annotations

from autoprune.runtime.families.family import Family

LFM2 = Family(recurrent=("conv",))
