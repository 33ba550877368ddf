"""What is committed (tower, projector, adapter) and the whole model that is built from it and the package's decoder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from decoder import load_decoder, load_tokenizer
from llava import IMAGE, build_model, build_processor
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPVisionModel, LlamaForCausalLM
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

FIRST_EYES, EYES, ADAPTER, DIGESTS = "eyes-stage1.safetensors", "eyes.safetensors", "adapter", "digests.json"


def save_eyes(tower: CLIPVisionModel, projector: LlavaMultiModalProjector, path: Path) -> None:
    """Write both in bfloat16 as one file."""
    parts = {"tower": tower, "projector": projector}
    tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    save_file({key: value.bfloat16() if value.is_floating_point() else value for key, value in tensors.items()}, path)


def load_eyes(tower: nn.Module, projector: nn.Module, path: Path) -> None:
    """Read what `save_eyes` wrote into two parts of the same shape."""
    tensors = load_file(path)
    for name, part in (("tower", tower), ("projector", projector)):
        start = f"{name}."
        part.load_state_dict({key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)})


def save_adapter(decoder: PeftModel, trained: Path) -> None:
    """Write the adapter alone, without the empty model card that goes with it."""
    decoder.save_pretrained(trained / ADAPTER)
    (trained / ADAPTER / "README.md").unlink()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_digests(trained: Path) -> None:
    """Note the SHA-256 of every trained file."""
    files = [trained / EYES, *sorted((trained / ADAPTER).glob("*.json")), *sorted((trained / ADAPTER).glob("*.safe*"))]
    noted = {str(file.relative_to(trained)): _digest(file) for file in files}
    (trained / DIGESTS).write_text(json.dumps(noted, indent=1) + "\n")


def check_digests(trained: Path) -> None:
    """Refuse trained files that are not those that were measured.

    Raises:
        SystemExit: one differs.
    """
    for name, digest in json.loads((trained / DIGESTS).read_text()).items():
        if (found := _digest(trained / name)) != digest:
            raise SystemExit(f"{trained / name} has SHA-256 {found}, not {digest}: check it out again")


def build(trained: Path, output: Path) -> None:
    """Assemble the model of decoder, adapter, tower and projector, bfloat16, with its processor."""
    check_digests(trained)
    tokenizer, decoder = load_tokenizer(), load_decoder()
    merged = PeftModel.from_pretrained(decoder, str(trained / ADAPTER)).merge_and_unload()
    assert isinstance(merged, LlamaForCausalLM)
    model = build_model(merged.config, tokenizer.convert_tokens_to_ids(IMAGE))
    model.model.language_model.load_state_dict(merged.model.state_dict())
    model.tie_weights()
    load_eyes(model.model.vision_tower, model.model.multi_modal_projector, trained / EYES)
    model.to(torch.bfloat16).save_pretrained(output)
    build_processor(tokenizer).save_pretrained(output)
