"""Models and processors, loaded from disk or the hub, weights from safetensors only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageTextToText

from autoprune.errors import ModelError
from autoprune.models.processors import load_processor
from autoprune.models.vision import remedy
from autoprune.schedule import ModelIdentity

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_HASHED = {".safetensors", ".json", ".jinja", ".model"}
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its processor.

    Attributes:
        model: The transformers model, in eval mode, without gradients.
        processor: Its processor.
        name: Path or hub name, as the user gave it.
        fingerprint: sha256 over the structure, the dtype and the content of all files that can change an answer.
        config: The model's config.
    """

    model: Any
    processor: Any
    name: str
    fingerprint: str
    config: Any


def load_model(
    path: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads an image-text-to-text model and its processor; weights from safetensors only.

    Args:
        path: A folder, or a name on the hub; a name that is in the local cache needs no network.
        revision: Of a hub name.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto``: the checkpoint's on a GPU, float32 on a CPU, where
            half precision is slower and less exact.
        device: A torch device, or ``auto``: the first CUDA device if there is one, else the CPU.
        trust_remote_code: Run code that the checkpoint brings.

    Raises:
        ModelError: it cannot be found, read or run here.
    """
    place = device_of(device)
    dtype = dtype_on(place, dtype)
    folder = _folder(str(path), revision)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            "has no *.safetensors file, and other weight files can run code when they are read",
            field="model.path",
            value=str(path),
            remedy="convert it: load it where you trust it and call save_pretrained()",
        )
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options)
        processor = load_processor(folder, model.config, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"cannot be loaded: {' '.join(str(error).split())[:300]}",
            field="model.path",
            value=str(path),
            remedy=remedy(error)
            or "give an image-text-to-text model of transformers with its processor beside the weights",
        ) from error
    model = model.to(place).eval().requires_grad_(False)
    return LoadedModel(model, processor, str(path), _fingerprint(folder, model), model.config)


def device_of(device: str) -> torch.device:
    """The torch device of a setting; ``auto`` is the first CUDA device if there is one, else the CPU.

    Raises:
        ModelError: this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            "this device is not available", field="model.device", value=device, remedy="use auto, cpu or cuda:<number>"
        ) from error


def dtype_on(place: torch.device, dtype: str) -> str:
    """The dtype of a setting on a device: ``auto`` stays ``auto`` on a GPU and is float32 on a CPU.

    Raises:
        ModelError: it is not one that a model can run in.
    """
    if dtype not in _DTYPES:
        raise ModelError("no such dtype", field="model.dtype", value=dtype, remedy=f"use {', '.join(_DTYPES)}")
    return "float32" if dtype == "auto" and place.type == "cpu" else dtype


def _folder(path: str, revision: str | None) -> Path:
    if Path(path).is_dir():
        return Path(path)
    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:  # hub and network errors are OSErrors, bad names are ValueErrors
        raise ModelError(
            "no such folder, and the hub does not give a model of that name",
            field="model.path",
            value=path,
            remedy="check the path; without a network, download the model first and give its folder",
        ) from error


def _fingerprint(folder: Path, model: Any) -> str:
    total = hashlib.sha256()
    total.update(ModelIdentity.from_config(model.config, "").config_sha256.encode())
    total.update(str(model.dtype).encode())
    for file in sorted(file for file in folder.iterdir() if file.suffix in _HASHED):
        with file.open("rb") as stream:
            total.update(f"\n{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return total.hexdigest()
