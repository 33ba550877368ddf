"""Divergence of the answers' distribution from dense when visual tokens are withdrawn before a layer (VTW)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from autoprune.analysis.divergences import Divergences
from autoprune.analysis.refusals import check_eval
from autoprune.analysis.withdrawal.dense import DenseRun, run_dense
from autoprune.analysis.withdrawal.tails import dense_again, withdrawn_outputs
from autoprune.errors import DataError
from autoprune.pricing.tokens import MODALITIES
from autoprune.runtime.decoder import decoder_layers, find_decoder, visual_token_ids
from autoprune.runtime.replay import recorded_outputs

_LOGITS_AT_ONCE = 2**25
"""Numbers in the logits of several layers together: 128 MiB in fp32."""


@dataclass(frozen=True)
class WithdrawalSweep:
    """Divergences of n samples for withdrawal before each layer; column k is withdrawal before layer k.

    Attributes:
        first: FloatTensors[n, L], at the first answer token.
        answer: FloatTensors[n, L], mean over the tokens of the dense model's greedy answer, its end token included.
        same: FloatTensor[n, L], 1.0 where each of these tokens is still the most probable one: the greedy answer stays.
        noise: FloatTensors[n], as `answer`, of the dense model against itself, computed as the withdrawn ones are.
        answers: Tokens of each answer.
        visual: For each sample, BoolTensor[S], visual tokens of the prompt.
        modalities: For each sample, [S], 0 at tokens that go to the experts of text; None where experts are the same.
    """

    first: Divergences
    answer: Divergences
    same: Tensor
    noise: Divergences
    answers: list[list[int]]
    visual: list[Tensor]
    modalities: list[Tensor | None]

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Sweeps of one model as one."""
        return cls(
            first=Divergences.cat([part.first for part in parts]),
            answer=Divergences.cat([part.answer for part in parts]),
            same=torch.cat([part.same for part in parts]),
            noise=Divergences.cat([part.noise for part in parts]),
            answers=[answer for part in parts for answer in part.answers],
            visual=[visual for part in parts for visual in part.visual],
            modalities=[modalities for part in parts for modalities in part.modalities],
        )


def withdrawal_kl(model: nn.Module, samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """KL divergence caused by withdrawing all visual tokens before each layer (VTW, arXiv 2405.05803, `findk`).

    Costs about one dense pass plus short tails per sample, not one pass per layer.

    Args:
        model: A model as `autoprune.apply` takes it, in eval mode.
        samples: Model inputs of one sample each (input_ids, pixel_values … or inputs_embeds), optionally with
            ``visual_mask`` BoolTensor[1, seq].

    Returns:
        FloatTensor[n_samples, L]: KL(withdrawn ‖ dense) over the whole vocabulary at the last prompt token, in nats,
        fp32; column k is withdrawal before layer k.

    Raises:
        DataError: no samples, or a sample without visual tokens or with more than one row.
        EvaluationError: non-finite logits.
        ModelError: the model is in training mode, or is not supported.
    """
    _check(model, samples)
    rows = []
    for inputs, mask in map(_split, samples):
        run = run_dense(model, inputs, mask)
        rows.append(_Dense(model, run).against(withdrawn_outputs(model, run))[0].withdrawn_dense[:, 0])
    return torch.stack(rows).cpu()


def withdrawal_sweep(
    model: nn.Module,
    samples: Sequence[Mapping[str, Any]],
    *,
    max_new_tokens: int = 32,
) -> WithdrawalSweep:
    """Divergences for withdrawal before each layer, at the first answer token and over the whole answer.

    The answer is the dense model's own, decoded greedily; its tokens are forced on the withdrawn models. The dense pass
    that is reused is the decoding itself.

    Args:
        model: As `withdrawal_kl` takes it.
        samples: Likewise.
        max_new_tokens: Longest answer; 1 = its first token only.

    Raises:
        DataError: as `withdrawal_kl`.
        EvaluationError: non-finite logits.
        ModelError: as `withdrawal_kl`, or the model answers with an image.
    """
    if max_new_tokens < 1:
        raise DataError("must be at least 1", field="max_new_tokens", value=max_new_tokens)
    _check(model, samples)
    found, same, noise, answers, visual, modalities = [], [], [], [], [], []
    for inputs, mask in map(_split, samples):
        run = run_dense(model, inputs, mask, max_new_tokens)
        dense = _Dense(model, run)
        divergences, agrees = dense.against(withdrawn_outputs(model, run))
        found.append(divergences)
        same.append(agrees.cpu())
        noise.append(dense.against(dense_again(model, run))[0].mean())
        answers.append(run.answer or dense.best[0].tolist())
        visual.append(run.visual.cpu())
        modalities.append(inputs[MODALITIES][0].cpu() if MODALITIES in inputs else None)
    return WithdrawalSweep(
        first=Divergences.stack([d.first() for d in found]),
        answer=Divergences.stack([d.mean() for d in found]),
        same=torch.stack(same),
        noise=Divergences.stack([d.first() for d in noise]),
        answers=answers,
        visual=visual,
        modalities=modalities,
    )


class _Dense:
    """Dense logits [1, T, V] where the answer is predicted, and divergences of other outputs from them."""

    def __init__(self, model: nn.Module, run: DenseRun) -> None:
        self._model, self._as_tuple = model, run.as_tuple
        self._logits = head_logits(model, run.outputs, run.as_tuple)
        self.best = self._logits.argmax(-1)

    def against(self, outputs: Tensor) -> tuple[Divergences, Tensor]:
        """Divergences [B, T] of the last layer's outputs [B, T, d] from dense; FloatTensor[B], 1.0 = same answer."""
        found, same = [], []
        for part in torch.split(outputs, max(1, _LOGITS_AT_ONCE // self._logits.numel())):
            logits = head_logits(self._model, part, self._as_tuple)
            found.append(Divergences.between(logits, self._logits))
            same.append((logits.argmax(-1) == self.best).all(-1).float())
        return Divergences.cat(found), torch.cat(same)


def head_logits(model: nn.Module, hidden: Tensor, as_tuple: bool) -> Tensor:
    """Logits FloatTensor[B, T, V] of outputs [B, T, d] of the last layer, by the model's own norm and head.

    The model runs with its layers short-circuited, so that norms, scalings and soft caps of any family apply.

    Args:
        model: The model.
        hidden: Outputs of the last layer.
        as_tuple: Whether the layers of this model return a tuple.
    """
    layers = decoder_layers(find_decoder(model))
    output = (hidden,) if as_tuple else hidden
    with torch.no_grad(), recorded_outputs((layer, output) for layer in layers):
        logits: Tensor = model(inputs_embeds=torch.zeros_like(hidden), use_cache=False).logits
    return logits


def _split(sample: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor | None]:
    inputs = dict(sample)
    return inputs, inputs.pop("visual_mask", None)


def _check(model: nn.Module, samples: Sequence[Mapping[str, Any]]) -> None:
    """Refuse models and samples that cannot be measured, before anything is computed."""
    check_eval(model)
    if not samples:
        raise DataError("needs at least one sample", field="samples", value=len(samples))
    visual_ids = torch.tensor(visual_token_ids(model.config))
    for number, sample in enumerate(samples):
        _check_sample(sample, f"samples[{number}]", visual_ids)


def _check_sample(sample: Mapping[str, Any], field: str, visual_ids: Tensor) -> None:
    ids, padding, visual = (sample.get(name) for name in ("input_ids", "attention_mask", "visual_mask"))
    prompt = sample.get("inputs_embeds") if ids is None else ids
    if prompt is None:
        raise DataError("has neither input_ids nor inputs_embeds", field=field, remedy="give what the processor makes")
    if prompt.shape[0] != 1:
        raise DataError("must hold one sample, not a batch", field=field, value=tuple(prompt.shape[:2]))
    if isinstance(padding, Tensor) and padding.ndim == 2 and not bool(padding[:, -1].all()):
        raise DataError("must not be padded at its end", field=field, remedy="pad on the left, or not at all")
    if visual is None and ids is not None and len(visual_ids):
        visual = torch.isin(ids, visual_ids.to(ids.device))
    if visual is not None and not bool(visual.any()):
        raise DataError("has no visual token", field=field, remedy="give samples with an image, or a visual_mask")
