"""autoprune on transformers, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from autoprune.data.rows import Sample
from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.runtime import apply
from autoprune.schedule import Schedule

SEEN = 20
"""Log-probabilities that are kept of a token: those of the likeliest."""


class TransformersSide:
    """A model of transformers that answers rows one by one.

    Args:
        model: Folder or hub name.
        loading: How it is loaded.
    """

    def __init__(self, model: str, loading: ModelOptions) -> None:
        self._loaded = load_model(model, loading)

    def measured_in(self) -> dict[str, str]:
        """Number type and device of the model."""
        return self._loaded.measured_in

    def answers(self, schedule: Schedule, samples: Sequence[Sample], new_tokens: int) -> list[EngineAnswer]:
        """Greedy answers under a schedule; one without stages is the dense model."""
        with apply(self._loaded.model, schedule) as patch, torch.inference_mode():
            return [self._answer(patch, sample, new_tokens) for sample in samples]

    def _answer(self, patch: Any, sample: Sample, new_tokens: int) -> EngineAnswer:
        inputs = model_inputs(self._loaded, [sample])
        made = self._loaded.model.generate(
            **inputs,
            max_new_tokens=new_tokens,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return EngineAnswer(
            ids=tuple(made.sequences[0, inputs["input_ids"].shape[1] :].tolist()),
            logprobs=tuple(_likeliest(step[0]) for step in made.logits),
            lengths=tuple(patch.report.tokens[:, 0].tolist()),
            n_visual=int(patch.report.visual_tokens[0, 0]),
        )


def _likeliest(logits: torch.Tensor) -> dict[int, float]:
    top = torch.log_softmax(logits.float(), -1).topk(min(SEEN, logits.shape[-1]))
    return dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
