"""Peak memory of an evaluation by number of rows: ``python studies/evaluation_memory/measure.py [ROWS ...]``.

Each number of rows runs in a process of its own: a small LLaVA whose images are 1,024 visual tokens answers all rows,
two schedules are scored on all of them, and one on every fifth row. Printed is the peak of the resident set.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.models.loading import LoadedModel

SIDE, PATCH, BATCH, BUDGET = 128, 4, 8, 64 * 1024**2
WORDS = ["<pad>", "<image>", "<unk>", "what", "is", "it", "USER:", *(f"w{i}" for i in range(25))]
TEMPLATE = (
    "{% for m in messages %}USER: {% for p in m['content'] %}{% if p['type'] == 'image' %}<image> "
    "{% else %}{{ p['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def small_model() -> LoadedModel:
    """A random LLaVA of four layers whose images are 1,024 visual tokens."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{**sizes, "num_hidden_layers": 2}, image_size=SIDE, patch_size=PATCH),
        text_config=LlamaConfig(**sizes, vocab_size=len(WORDS), max_position_embeddings=2048, initializer_range=0.3),
        image_token_index=1,
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight[1] = 0  # an answer never holds the image token
    model.generation_config.pad_token_id = 0
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", additional_special_tokens=["<image>"]
    )
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip
    return LoadedModel(model, processor, "small", "0" * 64, config)


def save_rows(folder: Path, count: int) -> Path:
    """Rows with an image each."""
    noise = np.random.default_rng(0)
    rows = []
    for i in range(count):
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append(f'{{"image": "{i}.png", "prompt": "what is{" w1" * (i % 7)} it"}}\n')
    path = folder / "rows.jsonl"
    path.write_text("".join(rows))
    return path


def run(count: int) -> None:
    """Evaluates `count` rows, and prints the peak of the resident set in MiB."""
    torch.set_num_threads(1)
    loaded: Any = small_model()
    with tempfile.TemporaryDirectory() as folder:
        data = load_samples(save_rows(Path(folder), count))
        evaluator = Evaluator(loaded, data, batch_size=BATCH, max_new_tokens=2, cache_bytes=BUDGET)
        evaluator.evaluate_many([presets.vtw(2), presets.fastv(2, 0.5)])
        evaluator.evaluate(presets.vtw(1), range(0, count, 5))
    print(f"{count} rows: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        run(int(sys.argv[2]))
    else:
        for rows in sys.argv[1:] or ["100", "1000"]:
            subprocess.run([sys.executable, __file__, "--one", rows], check=True)
