"""Prompts as text: a sample's messages through the chat template of its model, not a character of them changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autoprune.data.messages import Message
from autoprune.data.rows import Sample
from autoprune.errors import DataError, ModelError

_BARE = (
    "Blip2Processor",
    "FuyuProcessor",
    "InstructBlipProcessor",
    "Kosmos2Processor",
    "PaliGemmaProcessor",
)
"""Processors of models that are asked without a chat template: their checkpoints have none."""
_WRITTEN_AFTER = {"PaliGemmaProcessor": "\n"}
"""What processors write after the prompt by themselves: an answer follows that."""
_SYSTEM = ("system", "developer")
_PLAIN = ((), _SYSTEM, (*_SYSTEM, "assistant"), (*_SYSTEM, "assistant", "user"))
"""Roles whose messages are given as plain text; the first form that a template takes is used."""


def render(processor: Any, sample: Sample) -> str:
    """The prompt as text, up to where the answer starts, one placeholder for each image and video.

    Raises:
        ModelError: the processor has no chat template.
        DataError: the template refuses the messages of the sample, or leaves out a part of what they say.
    """
    if not getattr(processor, "chat_template", None):
        return _bare(processor, sample)
    problems: list[tuple[str, Exception | None]] = []
    for messages in _forms(sample.conversation):
        try:
            text = str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # noqa: BLE001 - a template is a program that came with the model
            problems.append((f"refuses it: {' '.join(str(error).split())[:200] or type(error).__name__}", error))
            continue
        lost = next((said for said in _said(sample.conversation) if said not in text), None)
        if lost is None:
            return text
        problems.append((f"leaves out {lost[:60]!r}", None))
    problem, cause = problems[0]
    raise DataError(
        f"row {sample.id}: the model's chat template {problem}",
        field="messages" if sample.messages else "prompt",
        remedy="give the messages that this model is made for; many take no system message, or want user and "
        "assistant in turn",
    ) from cause


def written_after(processor: Any) -> str:
    """Text between a rendered prompt and its answer, which the processor adds by itself."""
    return _WRITTEN_AFTER.get(type(processor).__name__, "")


def _bare(processor: Any, sample: Sample) -> str:
    """The texts of the only message one after another, for models that are asked so."""
    if type(processor).__name__ not in _BARE:
        raise ModelError(
            "has no chat template, so it is not known how the model is asked",
            field="processor",
            value=type(processor).__name__,
            remedy="put the chat_template.jinja of the model beside its weights; for a model that takes bare text, one "
            "that writes the parts of the message one after another",
        )
    if len(sample.conversation) > 1:
        raise DataError(
            f"row {sample.id}: {type(processor).__name__} has no chat template, it takes one message",
            field="messages",
            remedy="give a `prompt`",
        )
    token = getattr(processor, "image_token", "<image>")
    placeholder = str(getattr(token, "content", token))
    return "".join(part.text if part.kind == "text" else placeholder for part in sample.conversation[0].content)


def _forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """The messages as templates take them: with lists of parts as contents; or, where they are text, plain for some."""
    for plain in _PLAIN:
        yield [{"role": message.role, "content": _content(message, message.role in plain)} for message in messages]


def _content(message: Message, plain: bool) -> Any:
    if plain and all(part.kind == "text" for part in message.content):
        return "".join(part.text for part in message.content)
    return [{"type": p.kind, "text": p.text} if p.kind == "text" else {"type": p.kind} for p in message.content]


def _said(messages: Sequence[Message]) -> Iterator[str]:
    """What must stand in the prompt. Templates may trim texts, and drop what the assistant thought aloud before."""
    for message in messages:
        if message.role != "assistant":
            yield from (part.text.strip() for part in message.content if part.kind == "text")
