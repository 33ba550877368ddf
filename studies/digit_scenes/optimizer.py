"""Muon on matrices, AdamW on the rest, with float32 masters behind a bfloat16 working copy of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(stack: Tensor) -> Tensor:
    """Push the singular values of every matrix of [n, rows, columns] towards 1 (Newton-Schulz, bfloat16)."""
    a, b, c = _NEWTON_SCHULZ
    tall = stack.shape[-2] > stack.shape[-1]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Nesterov momentum, orthogonalised; matrices of one shape share one batched update."""

    def __init__(self, matrices: Iterable[Tensor], momentum: float = 0.95, weight_decay: float = 0.05) -> None:
        groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            groups[matrix.shape].append(matrix)
        self._groups = [(group, torch.zeros(len(group), *shape)) for shape, group in groups.items()]
        self._momentum, self._weight_decay = momentum, weight_decay

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Apply one update from the `.grad` of every matrix."""
        for group, velocity in self._groups:
            gradient = torch.stack([matrix.grad for matrix in group])
            velocity.lerp_(gradient, 1 - self._momentum)
            update = orthogonalize(gradient.lerp(velocity, self._momentum))
            rows, columns = velocity.shape[1:]
            scale = learning_rate * max(1.0, rows / columns) ** 0.5
            for matrix, change in zip(group, update, strict=True):
                matrix.mul_(1 - learning_rate * self._weight_decay).sub_(change, alpha=scale)


class Masters:
    """Float32 copies of bfloat16 parameters, which an optimizer updates in their place.

    Args:
        pairs: Parameters and their copies.
    """

    def __init__(self, pairs: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
        self._pairs = list(pairs)
        self.copies = [copy for _, copy in self._pairs]

    def take_gradients(self) -> None:
        """Move the gradients to the copies, clipped to a norm of 1."""
        for parameter, copy in self._pairs:
            copy.grad = torch.zeros_like(copy) if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        nn.utils.clip_grad_norm_(self.copies, 1.0)

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the copies to the parameters."""
        for parameter, copy in self._pairs:
            parameter.copy_(copy)


class MixedOptimizer:
    """Trains bfloat16 modules through float32 masters.

    Args:
        modules: modules to train, cast to bfloat16 here, in place.
        muon: whether 2-D weights of layers (not embeddings) go to Muon.
        adam_rate: AdamW's learning rate at `scale` 1.
        muon_rate: Muon's learning rate at `scale` 1.
    """

    def __init__(self, modules: list[nn.Module], adam_rate: float, muon_rate: float = 0.0, weight_decay: float = 0.01):
        pairs: list[tuple[nn.Parameter, Tensor]] = []
        matrices, others = [], []
        for module in modules:
            embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
            masters = {name: value.detach().float().clone() for name, value in module.named_parameters()}
            module.to(torch.bfloat16)
            for name, parameter in module.named_parameters():
                master = masters[name].requires_grad_()
                pairs.append((parameter, master))
                is_matrix = muon_rate > 0 and master.ndim == 2 and id(parameter) not in embeddings
                (matrices if is_matrix else others).append(master)
        self._masters = Masters(pairs)
        self._muon, self._muon_rate, self._adam_rate = Muon(matrices), muon_rate, adam_rate
        self._adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Clip, update with both learning rates times `scale`, refresh the working copy, drop gradients."""
        self._masters.take_gradients()
        self._muon.step(self._muon_rate * scale)
        for group in self._adam.param_groups:
            group["lr"] = self._adam_rate * scale
        self._adam.step()
        self._masters.refresh()


def warm_then_decay(step: int, steps: int, warmup: int, constant: float, floor: float = 0.03) -> float:
    """Learning-rate scale: linear warm-up, constant, then linear decay after the share `constant` of the steps."""
    decay = min(1.0, (1 - step / steps) / (1 - constant))
    return min(1.0, (step + 1) / warmup) * max(floor, decay)
