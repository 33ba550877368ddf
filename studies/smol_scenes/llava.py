"""The network: a LLaVA of stock transformers parts with the pretrained decoder, and its processor."""

from __future__ import annotations

from copy import deepcopy

from decoder import IMAGE
from pictures import CELL, CELLS, PATCH, PATCHES
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

SIDE = CELL * CELLS
VISUAL_TOKENS = PATCHES * PATCHES
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
OPENING = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
CLOSING = "<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"
# As the decoder's own template, which knows no images, writes a conversation.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}" + IMAGE + "{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_config() -> CLIPVisionConfig:
    """The tower: 4 layers, 192 wide, 144 patches and a class token."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=192,
        hidden_act="gelu",
    )


def model_config(text: LlamaConfig, image_token: int) -> LlavaConfig:
    return LlavaConfig(
        vision_config=vision_config(),
        text_config=deepcopy(text),  # it becomes part of the new one, which takes its kind of attention away
        image_token_index=image_token,
        image_seq_length=VISUAL_TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )


def eyes(text: LlamaConfig) -> tuple[CLIPVisionModel, LlavaMultiModalProjector]:
    """A fresh tower and a fresh projector."""
    return CLIPVisionModel(vision_config()), LlavaMultiModalProjector(model_config(text, 0))


def build_model(text: LlamaConfig, image_token: int) -> LlavaForConditionalGeneration:
    """The whole model with fresh weights."""
    model = LlavaForConditionalGeneration(model_config(text, image_token))
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=48,
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )
    return model


def build_processor(tokenizer: PreTrainedTokenizerBase) -> LlavaProcessor:
    """Tokenizer, image processor and chat template as one; loads without torchvision."""
    size = {"height": SIDE, "width": SIDE}
    image_processor = CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=_CHAT_TEMPLATE,
    )
