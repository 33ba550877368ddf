"""Processors, loaded with all of their parts, or without the video part where torchvision is missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.import_utils import is_torchvision_available

from autoprune.errors import ModelError
from autoprune.models.options import DEFAULTS, ModelOptions
from autoprune.models.videoless import VIDEOS, without_videos

_PARTS = ("image_processor", VIDEOS, "tokenizer")


def load_processor(folder: str | Path, config: Any, options: ModelOptions = DEFAULTS) -> Any:
    """The processor of a checkpoint, with the settings that replace its own.

    transformers prepares images with torchvision or, where that is missing, with Pillow. Videos it prepares with
    torchvision alone: where that is missing, the processor comes without its video part and takes images and text.

    Args:
        folder: Where its files are, or a name on the hub.
        config: The model's config.
        options: How the model is loaded.

    Raises:
        ModelError: a setting that the processor does not have.
        OSError, ValueError, ImportError: as transformers raises them.
    """
    trusted: dict[str, Any] = {"trust_remote_code": options.trust_remote_code}
    trusted |= {"local_files_only": True} if Path(folder).is_dir() else {"revision": options.revision}
    kind: Any = None if is_torchvision_available() else PROCESSOR_MAPPING.get(type(config), None)
    loader = AutoProcessor if kind is None or VIDEOS not in kind.get_attributes() else without_videos(kind)
    processor = loader.from_pretrained(folder, **trusted)
    if not options.processor:
        return processor
    _check_settings(processor, options.processor)
    return loader.from_pretrained(folder, **trusted, **options.processor)


def pixels_by(processor: Any) -> str | None:
    """What prepares the images, ``torchvision`` or ``pil``, whose pixels differ; None where it is not known."""
    backend = getattr(getattr(processor, "image_processor", processor), "backend", None)
    return backend if isinstance(backend, str) else None


def _check_settings(processor: Any, given: Iterable[str]) -> None:
    """Refuses settings that no part of a processor has; transformers takes them in silence."""
    parts = [part for name in _PARTS if (part := getattr(processor, name, None)) is not None]
    declared = [part.valid_kwargs.__annotations__ for part in parts if hasattr(part, "valid_kwargs")]
    held = [vars(part) for part in (processor, *parts)]
    known = {name for names in (*held, *declared) for name in names if not name.startswith("_")}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ModelError(
                "the processor has no such setting",
                field="model.processor",
                value=name,
                remedy=f"did you mean {near[0]!r}?" if near else "its settings stand in its preprocessor_config.json",
            )
