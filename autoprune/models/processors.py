"""Processors, loaded with all of their parts, or without the video part where torchvision is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoProcessor, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.import_utils import is_torchvision_available

_VIDEOS = "video_processor"


def load_processor(folder: str | Path, config: Any, **options: Any) -> Any:
    """The processor of a checkpoint.

    transformers prepares images with torchvision or, where that is missing, with Pillow. Videos it prepares with
    torchvision alone: where that is missing, the processor comes without its video part and takes images and text.

    Args:
        folder: Where its files are, or a name on the hub.
        config: The model's config.
        options: As `AutoProcessor.from_pretrained` takes them.

    Raises:
        OSError, ValueError, ImportError: as transformers raises them.
    """
    kind: Any = None if is_torchvision_available() else PROCESSOR_MAPPING.get(type(config), None)
    if kind is None or _VIDEOS not in kind.get_attributes():
        return AutoProcessor.from_pretrained(folder, **options)
    return _without_videos(kind).from_pretrained(folder, **options)


def _without_videos(kind: Any) -> Any:
    parts = [name for name in kind.get_attributes() if name != _VIDEOS]
    overrides = {
        "get_attributes": classmethod(lambda cls: parts),
        # An override of it is there for videos, and reads settings of the missing part.
        "apply_chat_template": ProcessorMixin.apply_chat_template,
    }
    return type(kind.__name__, (kind,), overrides)
