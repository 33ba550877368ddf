"""Texts without a picture, on which the tuned decoder should stay what the original one is.

The original's own answers to `practice_prompts` are trained on beside the questions, with its distribution as the
target. The `STATED` prompts are never trained on: they are asked afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from llava import END
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

STATED = (
    "What is the capital of France?",
    "Who wrote Romeo and Juliet?",
    "What is the largest planet in our solar system?",
    "How many days are in a week?",
    "What color is the sky on a clear day?",
    "Name three fruits.",
    "What is 2 + 2?",
    "Which digit is larger, 3 or 8?",
    "List the colors of the rainbow.",
    "Describe a circle in one sentence.",
    "What is the opposite of hot?",
    "Where is the Eiffel Tower?",
    "What do bees make?",
    "Write a short sentence about a dog.",
    "What language is spoken in Brazil?",
    "How do you say hello in Spanish?",
    "What is water made of?",
    "Give me a synonym for happy.",
    "What is the boiling point of water?",
    "Who painted the Mona Lisa?",
)
# What stands in the gap of each prompt; underscores are spaces.
_PATTERNS = {
    "What is the capital of {}?": "Spain Italy Japan Canada Egypt Norway Peru Kenya Greece Poland",
    "Tell me something about {}.": "cats rivers music winter trains bread history gardens stars whales glass coffee",
    "Write one sentence about {}.": "summer friendship a_bridge a_horse the_moon a_teacher rain a_book a_city tea",
    "What is {} used for?": "a_hammer salt a_compass soap a_telescope paper a_ladder steel wool a_pencil",
    "What color is {}?": "grass snow a_banana coal a_tomato the_sun an_orange blood a_lemon chocolate",
    "How many {} are there?": "months_in_a_year continents legs_on_a_spider letters_in_the_alphabet hours_in_a_day",
    "Name two {}.": "animals countries metals sports tools vegetables flowers cities birds colors shapes numbers",
    "Explain {} in simple words.": "gravity photosynthesis electricity democracy evolution a_computer inflation",
    "What is the opposite of {}?": "big fast light early rich loud left full hard young",
    "What is {}?": "3_+_4 10_-_6 5_+_9 a_triangle a_square a_volcano 7_+_1 a_poem a_star an_island",
    "Is {} an animal?": "a_dog a_stone a_fish a_tree a_spoon an_eagle",
    "Where is {}?": "the_Great_Wall the_Sahara Mount_Everest the_Amazon London the_Colosseum",
}


def practice_prompts() -> list[str]:
    """The prompts whose answers are kept, in a fixed order."""
    return [text.format(word.replace("_", " ")) for text, words in _PATTERNS.items() for word in words.split()]


@torch.no_grad()
def greedy_answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], new_tokens: int
) -> list[list[int]]:
    """Tokens of prompt and greedy answer of each, in the decoder's own chat template."""
    rows = []
    for start in range(0, len(prompts), 16):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[start : start + 16]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
        lengths = inputs["attention_mask"].sum(1)
        width = inputs["input_ids"].shape[1]
        end = tokenizer.convert_tokens_to_ids(END)
        for row, length in zip(ids.tolist(), lengths.tolist(), strict=True):
            answer = row[width:]
            answer = answer[: answer.index(end) + 1] if end in answer else answer
            rows.append(row[width - length : width] + answer)
    return rows


def stacked(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows padded on the right: ids and mask, int64 [rows, longest]."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask
