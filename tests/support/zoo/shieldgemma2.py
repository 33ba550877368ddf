"""ShieldGemma 2: as Gemma 3."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import PLAN, Plan, Zoo, finish
from support.zoo.gemma3 import gemma3


def shieldgemma2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    twin = gemma3(plan)
    settings = {name: value for name, value in twin.model.config.to_dict().items() if name != "model_type"}
    torch.manual_seed(seed)
    model = hf.Gemma3ForConditionalGeneration(hf.ShieldGemma2Config(**settings))
    return Zoo(finish(model), twin.inputs)
