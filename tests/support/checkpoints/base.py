"""A tiny checkpoint: a random model of the zoo, with the family's own processor, in a folder that loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support.zoo.base import Zoo, finish

EOS_BIAS = 2.5
"""How much likelier than other tokens the end is, in standard deviations: answers have a handful of tokens."""


@dataclass(frozen=True)
class Checkpoint:
    """A family as a user has it on disk.

    Attributes:
        zoo: Builds the family's tiny model, whose shape is taken.
        tokenizer: Makes the tokenizer, with all tokens that the processor asks for.
        template: The chat template; None = the family has none.
        images: ``preprocessor_config.json``.
        videos: ``video_preprocessor_config.json``; None = the family takes no videos.
        processor: ``processor_config.json``, with the name of the class.
        ids: Fields of the model's config that hold the id of a token, each with the token.
    """

    zoo: Callable[[], Zoo]
    tokenizer: Callable[[], Any]
    template: str | None
    images: Mapping[str, Any]
    processor: Mapping[str, Any]
    ids: Mapping[str, str]
    videos: Mapping[str, Any] | None = None

    def save(self, folder: Path) -> Path:
        """Writes processor and model."""
        tokenizer = self.tokenizer()
        self._save_processor(folder, tokenizer)
        shape = self.zoo().model
        torch.manual_seed(0)
        model = finish(type(shape)(self._config(shape.config, tokenizer)))
        _finish_vocabulary(model, tokenizer, [tokenizer.convert_tokens_to_ids(token) for token in self.ids.values()])
        model.save_pretrained(folder)
        return folder

    def _save_processor(self, folder: Path, tokenizer: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template)
        files = {
            "preprocessor_config.json": self.images,
            "video_preprocessor_config.json": self.videos,
            "processor_config.json": self.processor,
        }
        for name, values in files.items():
            if values is not None:
                (folder / name).write_text(json.dumps(values))

    def _config(self, shape: Any, tokenizer: Any) -> Any:
        config = copy.deepcopy(shape)
        for name, token in self.ids.items():
            setattr(config, name, tokenizer.convert_tokens_to_ids(token))
        for part in (config, config.get_text_config()):
            if getattr(part, "vocab_size", None):
                part.vocab_size = len(tokenizer)
            part.pad_token_id = tokenizer.pad_token_id
            part.bos_token_id, part.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        return config


def _finish_vocabulary(model: Any, tokenizer: Any, placeholders: list[int]) -> None:
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        head[tokenizer.eos_token_id] += EOS_BIAS * head.std()
        head[placeholders] = 0  # no answer holds them
    generation = model.generation_config
    generation.suppress_tokens = None
    generation.pad_token_id, generation.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
