"""The two engines, each in a process of its own, and how they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.engines.vllm.comparison.process import Ask, engine_process
from autoprune.engines.vllm.comparison.settings import ENVIRONMENT, EngineSettings
from autoprune.engines.vllm.comparison.transformers_side import TransformersSide
from autoprune.engines.vllm.comparison.vllm_side import VllmSide
from autoprune.models.options import ModelOptions

NEW_TOKENS = 16
"""Tokens of the longest answer."""
_TOGETHER = 16
Say = Callable[[str], None]


def silent(step: str) -> None:
    """Say nothing."""


@contextmanager
def on_transformers(model: str, loading: ModelOptions, say: Say = silent) -> Iterator[Ask]:
    """A `TransformersSide`, for as long as the block runs.

    Args:
        model: Folder or hub name.
        loading: How it is loaded.
        say: Called with a description of what is about to run.
    """
    say("transformers: loading the model")
    with engine_process("transformers", TransformersSide, model, loading, environment={}) as ask:
        yield ask


@contextmanager
def in_vllm(name: str, settings: EngineSettings, say: Say = silent) -> Iterator[Ask]:
    """A `VllmSide`, for as long as the block runs.

    Args:
        name: Its name in errors.
        settings: How it is started.
        say: Called with a description of what is about to run.
    """
    say(f"{name}: loading the model")
    with engine_process(name, VllmSide, settings, environment=ENVIRONMENT) as ask:
        yield ask


def answers(ask: Ask, name: str, rows: Sequence[Any], *given: Any, say: Say = silent) -> list[EngineAnswer]:
    """Answers to rows, some of which arrive together.

    Args:
        ask: One of the sides.
        name: Of what runs, for `say`.
        rows: Samples for transformers, prompts for vLLM.
        given: What the side takes before them.
        say: Called with a description of what is about to run.
    """
    made: list[EngineAnswer] = []
    for first in range(0, len(rows), _TOGETHER):
        say(f"{name}: row {first + 1} of {len(rows)}")
        made += ask("answers", *given, rows[first : first + _TOGETHER], NEW_TOKENS)
    return made
