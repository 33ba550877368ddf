"""Saliency of attention entries, |A ⊙ dLoss/dA|, in every layer from one forward and one backward pass.

A layer keeps nothing but its input. In the backward pass it runs again with gradients and its attention is watched, so
that no more than one layer's attention is ever in memory. What a model does between its layers stays under autograd.
The output of a head is O = A V, so dLoss/dA = dLoss/dO Vᵀ: neither the map nor its gradient has to be stored. Rows are
made in chunks and summed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.analysis.refusals import check_eval
from autoprune.errors import EvaluationError, PatchError
from autoprune.evaluate.encoding import Forced
from autoprune.runtime import record
from autoprune.runtime.criteria.attention import attention_rows
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.replay import shadowed
from autoprune.runtime.tap import AttentionCall, watched

VISUAL, TEXT = 0, 1
"""Places of the two kinds of token on the axes of flows."""


@dataclass(frozen=True)
class Saliency:
    """The flows of a batch.

    Attributes:
        flows: FloatTensor[B, L, 2, 2]: what tokens of kind i read from tokens of kind j in each layer, kinds (visual,
            text); text is whatever is neither visual nor padding. NaN where a layer has no attention.
        tokens: LongTensor[B, 2], how many tokens of each kind there are.
        loss: FloatTensor[B], nats.
    """

    flows: Tensor
    tokens: Tensor
    loss: Tensor


def flow_saliency(model: Any, forced: Forced) -> Saliency:
    """|A ⊙ dLoss/dA| of all layers; Loss = cross entropy of the forced continuation, mean over its tokens, per sample.

    Args:
        model: A model as `autoprune.apply` takes it, in eval mode.
        forced: Prompts with the tokens whose probability is asked for.

    Raises:
        EvaluationError: a loss is not finite.
        ModelError: the model is in training mode.
        PatchError: the model is pruned, or an attention does not pass through transformers' attention interface.
    """
    check_eval(model)
    decoder = find_decoder(model)
    layers = decoder_layers(decoder)
    valid = forced.inputs["attention_mask"].bool()
    flows = torch.full((len(valid), len(layers), 2, 2), float("nan"))

    def store(i: int, call: AttentionCall, gradient: Tensor) -> None:
        visual = recording.visual_mask
        flows[:, i] = saliency_flows(call, gradient, visual, valid.to(visual.device)).cpu()

    with record(model, ()) as recording, recording.prompt(forced.ends):
        anchor = torch.zeros((), device=valid.device, requires_grad=True)
        with torch.enable_grad(), _recomputed(layers, [attention_of(decoder, x) for x in layers], anchor, store):
            positions = model._prepare_position_ids_for_generation(forced.inputs["input_ids"], dict(forced.inputs))
            logits = model(**forced.inputs, position_ids=positions, use_cache=False, logits_to_keep=forced.width).logits
            loss = _cross_entropy(logits[:, -forced.width :], forced)  # some models give all columns
            if not bool(torch.isfinite(loss).all()):
                raise EvaluationError("the loss is not finite", remedy="use another dtype, such as float32")
            torch.autograd.grad(loss.sum(), anchor)
        visual = recording.visual_mask.to(valid.device)
    tokens = torch.stack([(valid & visual).sum(1), (valid & ~visual).sum(1)], 1)
    return Saliency(flows, tokens.cpu(), loss.detach().float().cpu())


def _cross_entropy(logits: Tensor, forced: Forced) -> Tensor:
    # In fp64, because the gradient of a confident answer is the small difference 1 - p.
    log = logits.double().log_softmax(-1).gather(-1, forced.targets[..., None])[..., 0]
    return -(log.masked_fill(~forced.valid, 0.0).sum(1) / forced.valid.sum(1))


@dataclass
class _Call:
    """One layer in one pass."""

    place: int
    forward: Callable[..., Any]
    attention: nn.Module | None
    store: Callable[[int, AttentionCall, Tensor], None]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rest: tuple[Any, ...] | None = None

    def run(self, hidden: Tensor) -> Tensor:
        output = self.forward(hidden, *self.args, **self.kwargs)
        if isinstance(output, tuple):
            output, *rest = output
            self.rest = tuple(rest)
        result: Tensor = output
        return result

    def again(self, hidden: Tensor, gradient: Tensor) -> Tensor:
        """The gradient at the layer's input; stores the flows of its attention on the way."""
        hidden = hidden.detach().requires_grad_()
        seen: list[AttentionCall] = []
        with torch.enable_grad(), watched(self.attention, seen.append) if self.attention else nullcontext():
            output = self.run(hidden)
        if self.attention is None:
            return torch.autograd.grad(output, hidden, gradient)[0]
        if len(seen) != 1:
            raise PatchError(
                f"the attention of layer {self.place} could not be observed",
                field="attn_implementation",
                value=type(self.attention).__name__,
                remedy='load it with "sdpa", or in a release of transformers whose attention interface it uses',
            )
        at_input, at_output = torch.autograd.grad(output, [hidden, seen[0].output], gradient)
        with torch.no_grad():
            self.store(self.place, seen[0], at_output)
        return at_input


class _Recomputed(torch.autograd.Function):
    """A layer that forgets everything but its input until the backward pass.

    `anchor` makes the graph reach every layer, though neither weights nor embeddings ask for gradients.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, hidden: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(hidden)
        ctx.call = call
        return call.run(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (hidden,) = ctx.saved_tensors
        return gradient.new_zeros(()), ctx.call.again(hidden, gradient), None


@contextmanager
def _recomputed(
    layers: Sequence[nn.Module],
    attentions: Sequence[nn.Module | None],
    anchor: Tensor,
    store: Callable[[int, AttentionCall, Tensor], None],
) -> Iterator[None]:
    """Within the block, the layers' forward passes are recomputed ones."""

    def replaced(i: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)  # a layer's arguments are told apart by its signature
        def run(*args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs.pop("hidden_states")
            call = _Call(i, forward, attentions[i], store, args[1:], kwargs)
            output = _Recomputed.apply(anchor.to(hidden.device), hidden, call)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return output if call.rest is None else (output, *call.rest)

        return run

    with ExitStack() as stack:
        for i, layer in enumerate(layers):
            stack.enter_context(shadowed(layer, "forward", replaced(i, layer.forward)))
        yield


def saliency_flows(call: AttentionCall, gradient: Tensor, visual: Tensor, valid: Tensor) -> Tensor:
    """First-order saliency of attention entries (HiMAP, CVPR 2025), summed over heads and over kinds of token.

    Absolute values are taken per head, as in the released code, which then takes the mean over heads: 1/H of this sum.

    Args:
        call: A call of the attention over n tokens, without a cache.
        gradient: [B, n, H, d_v], dLoss/dO.
        visual: BoolTensor[B, n], visual tokens.
        valid: BoolTensor[B, n], False at padding.

    Returns:
        FloatTensor[B, 2, 2]: [b, i, j] is what tokens of kind i read from tokens of kind j, in fp32.
    """
    batch, heads, n, _ = call.query.shape
    groups, total = call.value.shape[1:3]
    kinds = torch.stack([valid & visual, valid & ~visual], 1).float()
    values = call.value.detach().float().transpose(2, 3)
    upstream = gradient.detach().float().transpose(1, 2)
    flows = torch.zeros(batch, 2, 2, device=values.device)
    rows = torch.arange(n, device=values.device).expand(batch, -1)
    for chunks, weights, _ in attention_rows(call.query.detach(), call.key.detach(), rows, call.mask, call.softmax):
        chunk = chunks[0]
        slopes = upstream[:, :, chunk].reshape(batch, groups, -1, values.shape[2]) @ values
        saliency = (weights * slopes.view(batch, heads, len(chunk), total)).abs_().sum(1)
        flows += torch.einsum("bir,brc,bjc->bij", kinds[:, :, chunk], saliency, kinds)
    return flows
