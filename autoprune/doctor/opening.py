"""From what a user names to a model under test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from autoprune.data.rows import Sample
from autoprune.doctor.case import Subject
from autoprune.doctor.prompts import questions, reserved_ids, words
from autoprune.errors import DataError
from autoprune.models.loading import LoadedModel
from autoprune.models.random_init import random_model


def subject_of(loaded: LoadedModel, samples: Sequence[Sample] = ()) -> Subject:
    """A loaded model, asked the first samples, or made-up ones.

    Raises:
        DataError: the processor refuses the samples.
        ModelError: the structure of the model is not supported.
    """
    model, processor = loaded.model, loaded.processor
    return Subject(model, questions(model, processor, samples), reserved_ids(model, processor))


def random_subject(path: str | Path, config: Any, samples: Sequence[Sample] = ()) -> Subject:
    """A model with random weights: asked through its processor if there is one, else in random words.

    Args:
        path: Where a processor may be: a folder, a file in it, or a name on the hub.
        config: The model's config.
        samples: What to ask.

    Raises:
        DataError: there are samples and no processor, or it refuses them.
        ModelError: the model cannot be built, or its structure is not supported.
    """
    processor = _processor(path)
    if processor is None and samples:
        raise DataError("needs a processor beside the config", field="--data", remedy="leave --data out")
    model = random_model(config)
    asked = questions(model, processor, samples) if processor else words(model, "no processor beside the config")
    return Subject(model, asked, reserved_ids(model, processor))


def _processor(path: str | Path) -> Any:
    """The processor, if one for images is there."""
    folder = Path(path).parent if Path(path).is_file() else path
    try:
        found: Any = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError, TypeError):  # each is some library's way to say: not there
        return None
    return found if hasattr(found, "image_processor") else None
