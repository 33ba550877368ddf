"""A zoo model with its batch as rows of data: what the evaluator takes, without a processor of the family."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from support.zoo import PAD, VOCAB, WORDS, Zoo

from autoprune.data.samples import SampleSet, load_samples
from autoprune.models.loading import LoadedModel

ENDS = (WORDS, WORDS + 1)
"""Words that end an answer, so that some answers are shorter than others."""


class BatchProcessor:
    """Knows the rows of one batch: the prompt ``row 1`` is encoded as its second row; words ``w17`` are ids.

    Args:
        inputs: The batch, [B, S], left-padded.
    """

    chat_template = "the text alone"

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs, self.tokenizer = inputs, self
        self.pad_token_id, self.bos_token = PAD, None

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> str:
        content = messages[-1]["content"]
        return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content).strip()

    def decode(self, tokens: list[int], **options: Any) -> str:
        return " ".join(f"w{token}" for token in tokens)

    def __call__(self, text: str | list[str], images: Any = None, **options: Any) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": self._ids(text)}
        rows = [self._row(one) for one in text]
        if rows == list(range(len(self._inputs["input_ids"]))):
            return dict(self._inputs)
        (row,) = rows  # to know how long it is
        ids = torch.tensor([self._ids(f"row {row}")])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _ids(self, text: str) -> list[int]:
        """Of the whole row, padding too: rows of one length keep their order in a batch."""
        ids = self._inputs["input_ids"][self._row(text)].tolist()
        return ids + [int(word) for word in re.findall(r"\bw(\d+)", text)]

    def _row(self, text: str) -> int:
        return int(re.search(r"row (\d+)", text)[1])


def loaded_batch(zoo: Zoo, folder: Path, **extra: Any) -> tuple[LoadedModel, SampleSet]:
    """The model, which answers with words alone, and the rows of its batch; to be evaluated as one batch.

    Args:
        zoo: The model and its batch.
        folder: Where the rows go.
        extra: What each row holds besides.
    """
    settings = zoo.model.generation_config
    settings.suppress_tokens, settings.eos_token_id = None, list(ENDS)

    def words_alone(module: torch.nn.Module, args: tuple[torch.Tensor, ...], logits: torch.Tensor) -> torch.Tensor:
        ids = torch.arange(logits.shape[-1])
        return logits.masked_fill((ids < WORDS) | (ids >= VOCAB), torch.finfo(logits.dtype).min / 4)

    zoo.model.get_output_embeddings().register_forward_hook(words_alone)
    Image.new("RGB", (4, 4)).save(folder / "image.png")
    rows = [{"image": "image.png", "prompt": f"row {row}", **extra} for row in range(len(zoo.inputs["input_ids"]))]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = LoadedModel(zoo.model, BatchProcessor(zoo.inputs), "zoo", "zoo", zoo.model.config)
    return loaded, load_samples(folder / "rows.jsonl")
