"""Open the model that a schedule is to run on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from transformers import AutoConfig
from transformers.utils import logging

from autoprune.models.loading import LoadedModel, load_model
from autoprune.schedule import Schedule


def open_model(path: str, schedule: Schedule, dtype: str = "auto", device: str = "auto") -> LoadedModel:
    """Load a model, after its config has shown that the schedule fits it.

    Raises:
        ModelError: the model cannot be loaded, or the schedule is not for it.
    """
    logging.disable_progress_bar()  # the command shows its own
    config: Any = None
    with suppress(OSError, ValueError):  # what is wrong with a model, `load_model` says better
        config = AutoConfig.from_pretrained(path)
    if config is not None:
        schedule.check_model(config)
    return load_model(path, dtype=dtype, device=device)
