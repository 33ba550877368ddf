"""Processors that take images and text: without their video part, which transformers makes with torchvision alone.

It imports nothing of autoprune, because compiled models hold a copy of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers

VIDEOS = "video_processor"


def load_for_images(folder: Path) -> Any:
    """The processor that ``save_pretrained`` wrote, with or without its video part, to prepare text and images.

    Args:
        folder: Where its files are.
    """
    name = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))["processor_class"]
    kind: Any = getattr(transformers, name, transformers.AutoProcessor)
    takes_videos = kind is not transformers.AutoProcessor and VIDEOS in kind.get_attributes()
    return (without_videos(kind) if takes_videos else kind).from_pretrained(folder, local_files_only=True)


def without_videos(kind: Any) -> Any:
    """A class of processors without its video part."""
    every = kind.get_attributes()
    parts = [name for name in every if name != VIDEOS]

    def build(cls: Any, given: list[Any], *settings: Any, **options: Any) -> Any:
        found = dict(zip(parts, given, strict=True))
        made = kind.from_args_and_dict.__func__(cls, [found.get(name) for name in every], *settings, **options)
        # How the class hands its parts on goes by their places, which are others now.
        for name, part in found.items():
            setattr(made, name, part)
        return made

    overrides = {
        "from_args_and_dict": classmethod(build),
        "get_attributes": classmethod(lambda cls: parts),
        "check_argument_for_proper_class": lambda self, name, part: type(part),
        # An override of it is there for videos, and reads settings of the missing part.
        "apply_chat_template": transformers.ProcessorMixin.apply_chat_template,
    }
    return type(kind.__name__, (kind,), overrides)
