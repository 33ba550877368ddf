"""Samples that take several rows of a batch, one for each choice: their images are prepared and encoded once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from autoprune.data.rows import Sample
from autoprune.evaluate.encoding import FEATURES, model_inputs
from autoprune.models.loading import LoadedModel
from autoprune.runtime.decoder import visual_token_ids
from autoprune.runtime.replay import shadowed

_BY_LAYER = "deepstack_features"
"""The part of image features whose list holds one entry for each layer, not one for each image."""
_INSIDE = ("hidden_states", "attentions")
"""Parts of image features that only the vision tower reads."""


@dataclass(frozen=True)
class RepeatedRows:
    """Encoded prompts, some of them several times.

    Attributes:
        inputs: Model inputs of all rows, as `encode` makes them.
        owners: For each row the place of its sample.
        visual: The images of each sample as inputs by themselves; empty where inputs cannot be told apart by sample.
    """

    inputs: dict[str, Any]
    owners: tuple[int, ...]
    visual: tuple[dict[str, Tensor], ...]

    @contextmanager
    def features_once(self, model: nn.Module) -> Iterator[None]:
        """Within the block the model encodes the images of a sample once for all of its rows, sample by sample."""
        with ExitStack() as stack:
            for module in model.modules() if self.visual else ():
                for name in FEATURES:
                    if hasattr(module, name):
                        stack.enter_context(shadowed(module, name, self._once(getattr(module, name))))
            yield

    def _once(self, method: Callable[..., Any]) -> Callable[..., Any]:
        names = {id(self.inputs[name]): name for name in self.visual[0]}

        @functools.wraps(method)  # generate() reads the signature
        def features(*args: Any, **kwargs: Any) -> Any:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if not tensors or any(id(tensor) not in names for tensor in tensors):
                return method(*args, **kwargs)

            def of(sample: dict[str, Tensor]) -> Any:
                def own(value: Any) -> Any:
                    return sample[names[id(value)]] if id(value) in names else value

                if not any(len(own(tensor)) for tensor in tensors):
                    return None
                return method(*map(own, args), **{name: own(value) for name, value in kwargs.items()})

            found = [of(sample) for sample in self.visual]
            joint = _joined([found[owner] for owner in self.owners if found[owner] is not None])
            return method(*args, **kwargs) if joint is None else joint

        return features


def repeated_rows(loaded: LoadedModel, samples: Sequence[Sample], counts: Sequence[int]) -> RepeatedRows:
    """Model inputs of samples, each repeated, on the device of the model.

    Args:
        loaded: The model.
        samples: The samples.
        counts: Rows of each sample, at least one.
    """
    owners = tuple(place for place, count in enumerate(counts) for _ in range(count))
    inputs = model_inputs(loaded, samples)
    if len(owners) == len(samples):
        return RepeatedRows(inputs, owners, ())
    ids = inputs["input_ids"]
    visual = torch.isin(ids, ids.new_tensor(visual_token_ids(loaded.config))).sum(1).tolist()
    shown = [len(sample.images) + len(sample.videos) for sample in samples]
    rows, parts = {}, {}
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape == ids.shape:
            rows[name] = value[list(owners)]
            continue
        sizes = _sizes(value, shown, visual) if isinstance(value, Tensor) else None
        if sizes is None:
            return RepeatedRows(model_inputs(loaded, [samples[owner] for owner in owners]), owners, ())
        parts[name] = value.split(sizes)
        rows[name] = torch.cat([parts[name][owner] for owner in owners])
    each = tuple({name: split[place] for name, split in parts.items()} for place in range(len(samples)))
    return RepeatedRows(rows, owners, each if parts else ())


def _sizes(value: Tensor, shown: Sequence[int], visual: Sequence[int]) -> list[int] | None:
    """How many entries of an input each sample has; None where it cannot be told, or is not the same by all signs.

    An input has one entry for each sample, for each image, or for so many visual tokens (patches, tiles).
    """
    count, total = len(value) if value.ndim else 0, sum(visual)
    guesses = [[1] * len(shown), list(shown)]
    if total and all(count * own % total == 0 for own in visual):
        guesses.append([count * own // total for own in visual])
    fitting = [guess for guess in guesses if sum(guess) == count]
    return fitting[0] if fitting and all(guess == fitting[0] for guess in fitting) else None


def _joined(values: Sequence[Any], by_layer: bool = False) -> Any:
    """Features of several samples as those of one batch; None where it is not known how they are laid out."""
    first = values[0]
    if isinstance(first, ModelOutput):
        names = [name for name in first if name not in _INSIDE]
        fields = {name: _joined([value[name] for value in values], name == _BY_LAYER) for name in names}
        return None if any(field is None for field in fields.values()) else type(first)(**fields)
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if len({value.shape[1:] for value in values}) == 1 else None
    if not isinstance(first, list | tuple):
        return None
    if by_layer:
        layers = [_joined(layer) for layer in zip(*values, strict=True)]
        return None if any(layer is None for layer in layers) else type(first)(layers)
    if not all(isinstance(part, Tensor) for value in values for part in value):
        return None
    return type(first)(part for value in values for part in value)
