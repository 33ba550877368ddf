"""What lmms-eval reads from the entry points ``lmms_eval.models``; loads neither torch nor a model."""

from __future__ import annotations

from typing import Any

MODEL_ID = "autoprune"


def manifest() -> Any:
    """The model ``autoprune`` of lmms-eval, a ``ModelManifest``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_ID, chat_class_path="autoprune.engines.harness.lmms_model.PrunedLmms")
