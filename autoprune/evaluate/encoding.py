"""Samples as model inputs: prompts, the tokens of choices and answers, and both laid out for teacher forcing.

Images run through the vision tower once per batch, however often the model is called on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data.rows import Sample
from autoprune.errors import DataError
from autoprune.evaluate.rendering import render, written_after
from autoprune.models.loading import LoadedModel
from autoprune.runtime.replay import shadowed

FEATURES = ("get_image_features", "get_video_features")
"""Methods by which models encode what is shown; they call them on themselves."""


def encode(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """Inputs of a batch: prompts through the chat template, images and videos at their places, left padding.

    Returns:
        What the processor makes: `input_ids` and `attention_mask` [batch, seq], `pixel_values` and so on.

    Raises:
        DataError: the processor refuses the samples.
        ModelError: it has no chat template.
    """
    texts, visuals = [render(processor, sample) for sample in samples], _visuals(processor, samples)
    try:
        inputs = processor(
            text=texts,
            **visuals,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **special_tokens(processor, texts),
        )
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"the processor refuses rows {samples[0].id} to {samples[-1].id}: {' '.join(str(error).split())[:300]}",
            field="prompt",
            remedy="check that the prompts and images are what this model takes",
        ) from error
    # PaliGemma's makes labels, with which the model computes a loss.
    return {name: value for name, value in inputs.items() if name != "labels"}


def special_tokens(processor: Any, texts: Sequence[str]) -> dict[str, bool]:
    """The option of a tokenizer for rendered prompts: a template may write the first special token itself."""
    bos = getattr(processor.tokenizer, "bos_token", None)
    return {"add_special_tokens": not (bos and all(text.startswith(bos) for text in texts))}


def _visuals(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """The images and videos of a batch as arguments of its processor."""
    given: dict[str, Any] = {}
    if any(sample.images for sample in samples):
        given["images"] = [[image.open() for image in sample.images] for sample in samples]
    if shown := [sample for sample in samples if sample.videos]:
        if getattr(processor, "video_processor", None) is None:
            raise DataError(
                f"row {shown[0].id}: {type(processor).__name__} takes no videos",
                field="video",
                remedy="give the frames as `images`; a processor that takes videos needs the extra `vision`",
            )
        given["videos"] = [[frame.open() for frame in video.frames] for sample in shown for video in sample.videos]
        given["do_sample_frames"] = False  # the frames of a row are the frames that are shown
    return given


def model_inputs(loaded: LoadedModel, samples: Sequence[Sample]) -> dict[str, Any]:
    """Inputs of a batch as `encode` makes them, on the device of the model."""
    return to_device(encode(loaded.processor, samples), loaded.model.device)


def to_device(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Model inputs with their tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def choice_tokens(processor: Any, sample: Sample) -> list[list[int]]:
    """Tokens of each choice as it would follow the prompt, without an end token.

    Raises:
        DataError: a choice has no tokens.
    """
    return following_tokens(processor, sample, sample.choices or ())


def following_tokens(processor: Any, sample: Sample, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text as it would follow the prompt of a sample, without an end token.

    A text is tokenised together with the prompt, so that word-initial pieces come out right; a space is put before it
    unless the prompt ends in white space.

    Raises:
        DataError: a text has no tokens.
    """
    prompt = render(processor, sample) + written_after(processor)
    separator = "" if prompt[-1:].isspace() else " "
    tokenizer = processor.tokenizer
    before = tokenizer(prompt)["input_ids"]
    found = []
    for text in texts:
        whole = tokenizer(prompt + separator + text)["input_ids"]
        joined = whole[: len(before)] == before
        tokens = whole[len(before) :] if joined else tokenizer(text, add_special_tokens=False)["input_ids"]
        if not tokens:
            field = "choices" if sample.choices is not None else "answers"
            raise DataError(f"row {sample.id}: a text without tokens", field=field, value=text)
        found.append(list(tokens))
    return found


@dataclass(frozen=True)
class Forced:
    """Rows laid out for teacher forcing: ``[left padding][prompt][continuation without its last token]``.

    All rows end at the same column: the logits that predict the continuations are the last `width` columns.

    Attributes:
        inputs: Model inputs of the extended rows.
        ends: LongTensor[B], column at which the prompt ends and the continuation starts.
        targets: LongTensor[B, width], the continuations, right-aligned.
        valid: BoolTensor[B, width], where `targets` holds a token.
    """

    inputs: dict[str, Any]
    ends: Tensor
    targets: Tensor
    valid: Tensor

    @property
    def width(self) -> int:
        """Logit columns that predict the continuations."""
        return int(self.targets.shape[1])

    def without_pixels(self) -> Forced:
        """The rows with their tokens alone, for calls that start from embeddings."""
        return replace(self, inputs={name: self.inputs[name] for name in ("input_ids", "attention_mask")})


def force(model: Any, inputs: Mapping[str, Any], continuations: Sequence[Sequence[int]], padding: int) -> Forced:
    """Encoded prompts with their continuations, laid out for teacher forcing.

    Args:
        model: The model.
        inputs: What `encode` made: `input_ids`, `attention_mask` [B, S], left-padded, and the visual inputs.
        continuations: Tokens of each row, at least one.
        padding: Token id that fills up rows.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    prompts = mask.sum(1)
    fed = torch.tensor([len(tokens) - 1 for tokens in continuations], device=ids.device)
    width = int(fed.max()) + 1
    total = int((prompts + fed).max())
    extended = dict(inputs)
    for name, value in inputs.items():
        # Whatever runs along the tokens (attention mask, token types) is laid out like them; a continuation is text.
        if isinstance(value, Tensor) and value.shape == ids.shape:
            fill = padding if name == "input_ids" else 0
            rows = value.new_full((len(ids), total), fill)
            for b, tokens in enumerate(continuations):
                end, prompt = total - int(fed[b]), int(prompts[b])
                rows[b, end - prompt : end] = value[b, -prompt:]
                if name == "input_ids":
                    rows[b, end:] = torch.tensor(tokens[:-1], dtype=rows.dtype)
                else:
                    rows[b, end:] = _of_generated(model, name)
            extended[name] = rows
    targets = ids.new_zeros(len(ids), width)
    valid = torch.zeros(len(ids), width, dtype=torch.bool, device=ids.device)
    for b, tokens in enumerate(continuations):
        targets[b, width - len(tokens) :] = torch.tensor(tokens, dtype=targets.dtype)
        valid[b, width - len(tokens) :] = True
    return Forced(extended, total - fed, targets, valid)


def _of_generated(model: Any, name: str) -> int:
    """What ``generate()`` puts into an input that runs along the tokens for one that it generated behind a text."""
    text = {name: torch.zeros(1, 1, dtype=torch.long)}
    grown = model._update_model_kwargs_for_generation({}, text, num_new_tokens=1)
    return int(grown[name][0, -1])


@contextmanager
def shared_features(model: nn.Module) -> Iterator[None]:
    """Within the block, image features are computed once for the same input tensors and handed out again after that.

    Those that carry gradients are not. Models call ``get_image_features`` on themselves; it is shadowed by an instance
    attribute and restored at the end.
    """
    with ExitStack() as stack:
        for module in model.modules():
            for name in FEATURES:
                if hasattr(module, name) and name not in module.__dict__:
                    stack.enter_context(shadowed(module, name, _remembering(getattr(module, name))))
        yield


def _remembering(method: Callable[..., Any]) -> Callable[..., Any]:
    # The inputs are kept beside the result, so that their ids cannot be given to other tensors.
    known: dict[tuple[int, ...], tuple[list[Tensor], Any]] = {}

    @functools.wraps(method)  # generate() reads the signature
    def features(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return method(*args, **kwargs)
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        key = tuple(id(tensor) for tensor in tensors)
        if key not in known:
            known[key] = (tensors, method(*args, **kwargs))
        return known[key][1]

    return features
