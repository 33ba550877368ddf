"""autoprune on transformers, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from autoprune.data.rows import Sample
from autoprune.engines.vllm.comparison.agreement import disagreement
from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.evaluate.encoding import model_inputs
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.runtime import apply
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.schedule import Schedule

SEEN = 20
"""Log-probabilities that are kept of a token: those of the likeliest."""
_NOISE = 1e-6
"""Relative noise of what attention and feed-forward parts give: a few roundings in single precision."""
_DRAWS = 8


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

    def rounding(self, schedule: Schedule, samples: Sequence[Sample], new_tokens: int) -> list[float]:
        """How far noise as large as rounding moves log-probabilities of each row: the largest of some draws."""
        return [self._rounding(schedule, sample, new_tokens) for sample in samples]

    def _rounding(self, schedule: Schedule, sample: Sample, new_tokens: int) -> float:
        plain = self.answers(schedule, [sample], new_tokens)
        with _noisy(self._loaded.model):
            return max(disagreement(plain, self.answers(schedule, [sample], new_tokens)).largest for _ in range(_DRAWS))

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


@contextmanager
def _noisy(model: nn.Module) -> Iterator[None]:
    """Noise in every layer of a decoder, the same whenever it begins."""
    generator = torch.Generator().manual_seed(0)

    def moved(_: nn.Module, given: object, made: torch.Tensor) -> torch.Tensor:
        return made * (1 + _NOISE * torch.randn(made.shape, generator=generator).to(made))

    with ExitStack() as stack:
        for layer in decoder_layers(find_decoder(model)):
            parts: Any = layer
            for part in (parts.self_attn, parts.mlp):
                *_, last = [linear for linear in part.modules() if isinstance(linear, nn.Linear)]
                stack.callback(last.register_forward_hook(moved).remove)
        yield
