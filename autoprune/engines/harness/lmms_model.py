"""A model under a schedule as a model of lmms-eval: ``lmms-eval --model autoprune --model_args pretrained=…``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms

from autoprune.data.images import ImageSource
from autoprune.data.messages import Message, Piece
from autoprune.data.rows import Sample
from autoprune.engines.harness.settings import (
    batch_size_of,
    check_greedy_arguments,
    check_one_process,
    schedule_of,
    shortened_at,
)
from autoprune.errors import DataError
from autoprune.evaluate.encoding import model_inputs
from autoprune.evaluate.greedy import generate_greedy, padding_token
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.runtime import apply


class PrunedLmms(lmms):
    """Answers the chat tasks of lmms-eval with a patched model, greedily.

    Args:
        pretrained: Folder of the model, or its name on the hub.
        schedule: Schedule file; ``dense`` = the stock model; empty = the file beside the weights.
        batch_size: Prompts that run together; a number.
        device: Device, as in a study file.
        dtype: Number type, as in a study file.
        attn_implementation: Attention kernel.
        revision: Branch, tag or commit of a name on the hub.
        trust_remote_code: Whether code that the checkpoint brings may run.
        max_batch_size: Not used; lmms-eval hands it to every model.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        schedule: str = "",
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str = "auto",
        attn_implementation: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        check_one_process(os.environ)
        self.batch_size = batch_size_of(batch_size)
        options = ModelOptions.of(
            device=device or "auto",
            dtype=dtype,
            attn_implementation=attn_implementation,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        self.loaded = load_model(pretrained, options)
        self.patch = apply(self.loaded.model, schedule_of(schedule))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Greedy answers, in the order of the requests, cut at the first stop string of each."""
        asked = [(request.args, check_greedy_arguments(request.args[2])) for request in requests]
        answers: list[str] = []
        for start in range(0, len(asked), self.batch_size):
            answers += self._answered(asked[start : start + self.batch_size])
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: lmms-eval's chat tasks are generated."""
        raise NotImplementedError("autoprune answers tasks of output_type generate_until; take those")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("autoprune answers tasks of output_type generate_until; take those")

    def _answered(self, asked: Sequence[tuple[tuple[Any, ...], tuple[int, Sequence[str]]]]) -> list[str]:
        samples = [self._sample(arguments) for arguments, _ in asked]
        longest = max(most for _, (most, _) in asked)
        inputs = model_inputs(self.loaded, samples)
        padding = padding_token(self.loaded.model, self.loaded.processor)
        tokens = generate_greedy(self.loaded.model, inputs, longest, padding).tokens
        decode = self.loaded.processor.tokenizer.decode
        return [
            shortened_at(decode(answer[:most], skip_special_tokens=True).strip(), stops)
            for answer, (_, (most, stops)) in zip(tokens, asked, strict=True)
        ]

    def _sample(self, request: tuple[Any, ...]) -> Sample:
        """A request of a chat task: (context, doc_to_messages, arguments, document, task, split)."""
        _, to_messages, _, document, task, split = request
        messages = to_messages(self.task_dict[task][split][document])
        name = f"{task}-{document}"
        images: list[ImageSource] = []
        turns = tuple(Message(m["role"], tuple(_piece(part, images, name) for part in m["content"])) for m in messages)
        return Sample(name, "", tuple(images), (), None, None, task, name, turns)


def _piece(part: Mapping[str, Any], images: list[ImageSource], name: str) -> Piece:
    """A part of a message; its image goes to `images`."""
    if part["type"] == "text":
        return Piece("text", part["text"])
    if part["type"] != "image":
        raise DataError(
            f"request {name} holds a part of type {part['type']}", field="messages", remedy="use image tasks"
        )
    images.append(ImageSource.from_cell(part["url"], Path()))
    return Piece("image")
