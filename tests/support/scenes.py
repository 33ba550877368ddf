"""A random LLaVA with a processor, and questions about random images: all that `autoprune.measure` needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from autoprune.data.samples import load_samples
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model

SIDE, PATCH = 24, 6
WORDS = [
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:", "what", "color", "digit", "is", "the", "count",
    "red", "green", "blue", "left", "right", "of", "and", "yes", "no", *"0123456789", *(f"w{i}" for i in range(28)),
]  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tiny_processor(chat_template: str | None = TEMPLATE) -> LlavaProcessor:
    """A word-level processor; its images become (SIDE / PATCH)² tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    )  # fmt: skip
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    return LlavaProcessor(
        image_processor=images, tokenizer=fast, patch_size=PATCH, vision_feature_select_strategy="default",
        chat_template=chat_template, image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip


def tiny_model(
    layers: int = 6, seed: int = 0, scale: float = 0.25, eos_bias: float = 0.0
) -> LlavaForConditionalGeneration:
    """A random model whose attention is sharp enough for pruning to change its answers."""
    torch.manual_seed(seed)
    text = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(WORDS), max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=scale, tie_word_embeddings=False,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, projection_dim=16,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-2)
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if "vision" in name or "projector" in name:
                parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
        model.lm_head.weight[2] += eos_bias * model.lm_head.weight.std()
        model.lm_head.weight[4] = 0  # an answer never holds the image token
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 2
    return model


def save_tiny(folder: Path, **model_options: float) -> Path:
    """Writes model and processor as a loadable folder."""
    tiny_model(**model_options).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_rows(folder: Path, count: int = 12, seed: int = 0, **extra: object) -> Path:
    """Writes ``data.jsonl`` and its images: prompts of ragged length, every third row with two images."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        names = [f"{number}-{k}.png" for k in range(2 if number % 3 == 2 else 1)]
        for name in names:
            Image.fromarray(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name)
        words = generator.choice(WORDS[7:22], 2 + int(generator.integers(6)))
        rows.append(
            {"images": names, "prompt": " ".join(words), "answers": [str(number % 4)], "task": f"t{number % 2}",
             "group": f"g{number // 2}", **extra}
        )  # fmt: skip
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_answered_rows(folder: Path, model: Path, count: int = 12, seed: int = 0, **extra: object) -> Path:
    """Rows as `save_rows` writes them, of which the model in a folder gets every second one right."""
    path = save_rows(folder, count, seed, **extra)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, result in zip(rows[::2], generate_and_score(load_model(model), load_samples(path))[::2], strict=True):
        row["answers"].append(result.text or "nothing")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
