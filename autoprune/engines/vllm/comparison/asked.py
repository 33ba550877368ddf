"""What both engines are asked, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoprune.data.images import ImageSource
from autoprune.data.rows import Sample
from autoprune.data.synthetic import synthetic_sample
from autoprune.errors import DataError
from autoprune.evaluate.encoding import encode, special_tokens
from autoprune.evaluate.rendering import render

_QUESTIONS = (
    "What is in the image?",
    "Describe everything that you can see in this image, from left to right and from top to bottom.",
    "How many things are there? Answer with one number.",
    "Which colours does it have, and where are they?",
)


@dataclass(frozen=True)
class EnginePrompt:
    """A prompt as a serving engine takes it.

    Attributes:
        ids: Its tokens, one placeholder for each image.
        images: Its images.
        length: Tokens that it has with all visual tokens.
    """

    ids: tuple[int, ...]
    images: tuple[ImageSource, ...]
    length: int

    def request(self) -> dict[str, Any]:
        """The prompt as vLLM takes it, its images decoded."""
        images = [image.open() for image in self.images]
        return {"prompt_token_ids": list(self.ids), **({"multi_modal_data": {"image": images}} if images else {})}


@dataclass(frozen=True)
class EngineAnswer:
    """The answer of an engine to one prompt.

    Attributes:
        ids: Its tokens.
        logprobs: For each of them, log-probabilities of the likeliest tokens at its place, by token.
        lengths: Tokens of the prompt in each decoder layer.
        n_visual: Visual tokens of the prompt, where the engine tells.
    """

    ids: tuple[int, ...]
    logprobs: tuple[dict[int, float], ...]
    lengths: tuple[int, ...]
    n_visual: int | None = None


def made_up(config: Any) -> list[Sample]:
    """Questions about made-up images, for a user who gives no data."""
    images = synthetic_sample(config, images=len(_QUESTIONS)).images
    return [
        replace(synthetic_sample(config, question), images=(image,), id=f"made-up {i}")
        for i, (question, image) in enumerate(zip(_QUESTIONS, images, strict=True))
    ]


def engine_prompts(processor: Any, samples: Sequence[Sample]) -> list[EnginePrompt]:
    """Samples as an engine takes them, each tokenised as it is for transformers.

    Raises:
        DataError: a sample shows a video, or the processor refuses it.
        ModelError: the processor has no chat template.
    """
    return [_prompt(processor, sample) for sample in samples]


def _prompt(processor: Any, sample: Sample) -> EnginePrompt:
    if sample.videos:
        raise DataError(
            f"row {sample.id} has a video; engines are compared on images",
            field="video",
            remedy="give rows with images, or the frames as images",
        )
    text = render(processor, sample)
    ids = processor.tokenizer(text, **special_tokens(processor, [text]))["input_ids"]
    return EnginePrompt(tuple(ids), sample.images, int(encode(processor, [sample])["input_ids"].shape[1]))
