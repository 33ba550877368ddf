"""What the built model does: exact match by type and wording, and whether its text answers are still the decoder's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from asking import TASKS
from decoder import load_decoder, load_tokenizer
from evaluation import answers_of, read_rows
from texts import STATED, greedy_answers
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration

_WORDINGS = ("trained", "held-out")
_ANSWER_TOKENS = 32


def evaluation(model_folder: Path, path: Path) -> str:
    """Two Markdown tables: exact match beside the majority answer, and the stated prompts that are answered alike."""
    return f"{_exact_match(model_folder, path)}\n\n{_texts_kept(model_folder)}"


def _exact_match(model_folder: Path, path: Path) -> str:
    rows = read_rows(path)
    answers = answers_of(model_folder, path)
    right = [answer.strip() in row["answers"] for row, answer in zip(rows, answers, strict=True)]
    lines = ["| type | rows | majority answer | trained wordings | held-out wordings |", "|---|---|---|---|---|"]
    for task in (*TASKS, "all"):
        places = [place for place, row in enumerate(rows) if task in (row["task"], "all")]
        common = Counter(rows[place]["answers"][0] for place in places).most_common(1)[0][1]
        shares = [_share([right[p] for p in places if rows[p]["wording"] == wording]) for wording in _WORDINGS]
        lines.append(f"| {task} | {len(places)} | {common / len(places):.3f} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _share(hits: Sequence[bool]) -> str:
    return f"{sum(hits) / len(hits):.3f} of {len(hits)}" if hits else "none"


@torch.no_grad()
def _texts_kept(model_folder: Path) -> str:
    """The first tokens of the greedy answers to the stated prompts, of the original decoder and of the tuned one."""
    tokenizer, original = load_tokenizer(), load_decoder()
    whole = LlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    tuned = LlamaForCausalLM(original.config)
    tuned.model.load_state_dict(whole.model.language_model.state_dict())
    tuned.tie_weights()
    both = [greedy_answers(model.eval(), tokenizer, STATED, _ANSWER_TOKENS) for model in (original, tuned)]
    same = [before == after for before, after in zip(*both, strict=True)]
    lines = [f"{sum(same)} of {len(STATED)} text answers are the original's to the last of {_ANSWER_TOKENS} tokens."]
    for prompt, before, after, alike in zip(STATED, *both, same, strict=True):
        if not alike:
            said = [tokenizer.decode(row).split("assistant\n")[-1] for row in (before, after)]
            lines.append(f"* {prompt} Original: {said[0]!r}. Tuned: {said[1]!r}.")
    return "\n".join(lines)
