"""Tiny random models built from configs, with a ragged, left-padded, multi-image batch for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf

IMAGE, PAD, VOCAB, LAYERS = 5, 0, 128, 6
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 2048,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": None,
    "initializer_range": 0.12,
    "tie_word_embeddings": False,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass
class Zoo:
    """A model, a batch of two samples (two images; one image and left padding) and the batch's visual mask."""

    model: Any
    inputs: dict[str, torch.Tensor]

    @property
    def visual(self) -> torch.Tensor:
        return self.inputs["input_ids"] == IMAGE


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(
    tokens: list[int], plan: list[list[int]], before: list[int] | None = None, after: list[int] | None = None
) -> dict[str, torch.Tensor]:
    """Left-padded ids: for each sample, text, then its images (by index into `tokens`) with text between, then text."""
    generator = torch.Generator().manual_seed(0)

    def words(n: int) -> list[int]:
        return torch.randint(10, VOCAB, (n,), generator=generator).tolist()

    rows = []
    for number, images in enumerate(plan):
        row = [1, *words(3)]
        for i in images:
            row += [*(before or []), *[IMAGE] * tokens[i], *(after or []), *words(2 + number)]
        rows.append(row + words(4))
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (length - len(r)) + [1] * len(r) for r in rows])
    return {"input_ids": ids, "attention_mask": mask}


PLAN = [[0, 1], [2]]


def finish(model: Any) -> Any:
    return model.float().eval()


def llava(plan: list[list[int]] = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {"model_type": "clip_vision_model", **TOWER, "image_size": 16, "patch_size": 4, "projection_dim": 32}
    text = {"model_type": "llama", **TEXT}
    config = hf.LlavaConfig(vision_config=tower, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1)
    images = sum(map(len, plan))
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.LlavaForConditionalGeneration(config)), inputs)


def qwen2_5_vl(plan: list[list[int]] = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
    config = hf.Qwen2_5_VLConfig(
        vision_config=tower,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=6,
        vision_start_token_id=7,
        vision_end_token_id=8,
    )
    grid = torch.tensor([[1, 8, 8], [1, 4, 8], [1, 8, 4]])
    used = grid[: sum(map(len, plan))]
    batch = prompts((used.prod(1) // 4).tolist(), plan, before=[7], after=[8])
    width = 3 * config.vision_config.temporal_patch_size * 16
    inputs = {
        **batch,
        "pixel_values": noise(int(used.prod(1).sum()), width),
        "image_grid_thw": used,
        "mm_token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.Qwen2_5_VLForConditionalGeneration(config)), inputs)


def internvl(plan: list[list[int]] = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.InternVLConfig(
        vision_config={**TOWER, "image_size": [16, 16], "patch_size": [2, 2]},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_id=IMAGE,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    images = sum(map(len, plan))
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.InternVLForConditionalGeneration(config)), inputs)


def gemma3(plan: list[list[int]] = PLAN, seed: int = 0) -> Zoo:
    """Sliding windows shorter than the prompt, and image blocks that see both ways."""
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "head_dim": 16,
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
    }
    tower = {"model_type": "siglip_vision_model", **TOWER, "image_size": 16, "patch_size": 4}
    config = hf.Gemma3Config(
        vision_config=tower,
        text_config=text,
        image_token_id=IMAGE,
        mm_tokens_per_image=16,
        boi_token_index=7,
        eoi_token_index=8,
        tie_word_embeddings=True,
    )
    images = sum(map(len, plan))
    batch = prompts([16] * images, plan, before=[7], after=[8])
    inputs = {
        **batch,
        "pixel_values": noise(images, 3, 16, 16),
        "token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.Gemma3ForConditionalGeneration(config)), inputs)


def llama(seed: int = 0, heads: int = 2, layers: int = LAYERS) -> Any:
    """A text-only decoder, to be fed with inputs_embeds."""
    torch.manual_seed(seed)
    text = {**TEXT, "num_key_value_heads": heads, "num_hidden_layers": layers}
    return finish(hf.LlamaForCausalLM(hf.LlamaConfig(**text)))


FAMILIES: dict[str, Callable[..., Zoo]] = {
    "llava": llava,
    "qwen2_5_vl": qwen2_5_vl,
    "internvl": internvl,
    "gemma3": gemma3,
}
