"""Loading the golden vectors, made by the authors' own released code (see tests/golden/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).parent.parent / "golden"


@dataclass
class Golden:
    model: LlamaForCausalLM
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def visual_mask(self, length: int) -> torch.Tensor:
        mask = torch.zeros(1, length, dtype=torch.bool)
        start = self.facts["image_start"]
        mask[:, start : start + self.facts["image_len"]] = True
        return mask


def load(case: str, attention: str) -> Golden:
    with np.load(FOLDER / f"{case}.npz") as file:
        arrays = dict(file)
    facts = json.loads((FOLDER / f"{case}.json").read_text())
    config = {k: v for k, v in facts["config"].items() if k not in ("rope_theta", "attn_implementation")}
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    model = LlamaForCausalLM(LlamaConfig(**config, rope_parameters=rope, attn_implementation=attention)).float().eval()
    weights = {k: torch.from_numpy(v) for k, v in arrays.items() if k.startswith(("model.", "lm_head"))}
    model.load_state_dict(weights, strict=True)
    return Golden(model, arrays, facts)
