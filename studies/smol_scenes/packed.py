"""Many questions behind one picture, whose tokens are paid once.

A sequence is the opening of a conversation, the visual tokens, then the questions with their answers. Each begins at
the same position, sees opening, picture and itself, and nothing of the other questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from asking import TASKS, TRAINED, Question, ask
from llava import CLOSING, END
from pictures import Scene
from torch import Tensor
from transformers import PreTrainedTokenizerBase

IGNORE = -100


@dataclass(frozen=True)
class Packed:
    """Questions of a batch of scenes, int64 [scenes, tokens] each.

    Attributes:
        ids: Tokens.
        offset: Place of a token within its question.
        question: Number of the question that a token belongs to, -1 where empty.
        target: Next token where it is supervised, else `IGNORE`.
        task: Number of the task where supervised, else -1.
    """

    ids: Tensor
    offset: Tensor
    question: Tensor
    target: Tensor
    task: Tensor

    def mask(self, prefix: int) -> Tensor:
        """Which token sees which: bool [scenes, 1, prefix + tokens, prefix + tokens]."""
        rows, tokens = self.question.shape
        whole = torch.ones(prefix + tokens, prefix + tokens, dtype=torch.bool).tril().repeat(rows, 1, 1)
        whole[:, prefix:, prefix:] &= self.question[:, :, None] == self.question[:, None, :]
        return whole[:, None]


class Packer:
    """Draws questions and lays them behind one another.

    Args:
        weights: How often each task is asked, relative to the others.
        tokens: Length of what is laid behind one picture.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, weights: dict[str, float], tokens: int) -> None:
        self._tokenizer, self._names, self._tokens = tokenizer, list(weights), tokens
        self._shares = np.cumsum(list(weights.values()))
        self._closing, self._end = self._ids(CLOSING), self._ids(END)

    def pack(self, scenes: list[Scene], rng: np.random.Generator, wordings: tuple[int, ...] = TRAINED) -> Packed:
        """Questions behind each scene, in these wordings, until one that is drawn does not fit."""
        fields = np.zeros((5, len(scenes), self._tokens), np.int64)
        fields[[2, 4]], fields[3] = -1, IGNORE
        for scene, row in zip(scenes, fields.swapaxes(0, 1), strict=True):
            used, number = 0, 0
            while True:
                question = self._drawn(scene, wordings, rng)
                prompt, answer = self._encoded(question)
                length = len(prompt) + len(answer) - 1
                if used + length > self._tokens:
                    break
                supervised = slice(used + len(prompt) - 1, used + length)
                row[0, used : used + length] = (prompt + answer)[:-1]
                row[1, used : used + length] = np.arange(length)
                row[2, used : used + length] = number
                row[3, supervised], row[4, supervised] = answer, list(TASKS).index(question.task)
                used, number = used + length, number + 1
        return Packed(*torch.from_numpy(fields))

    def _drawn(self, scene: Scene, wordings: tuple[int, ...], rng: np.random.Generator) -> Question:
        while True:
            place = int(np.searchsorted(self._shares, rng.random() * self._shares[-1], side="right"))
            question = ask(scene, self._names[place], wordings, rng)
            if question is not None:
                return question

    def _encoded(self, question: Question) -> tuple[list[int], list[int]]:
        return self._ids(question.prompt) + self._closing, self._ids(question.answer) + self._end

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)
