"""Models and processors, loaded from disk or the hub, weights from safetensors only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForImageTextToText
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autoprune.errors import ModelError
from autoprune.models.config import needs_trust, no_such_folder
from autoprune.models.generation import check_greedy
from autoprune.models.options import DEFAULTS, ModelOptions
from autoprune.models.processors import load_processor, pixels_by
from autoprune.models.vision import remedy
from autoprune.schedule import ModelIdentity
from autoprune.schedule.files import read_json
from autoprune.schedule.validation import canonical
from autoprune.sources import hub_or_cache, is_path

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")
_WEIGHTS = {
    "mismatched_keys": "have another shape than config.json says",
    "missing_keys": "of the model are not in its files",
    "unexpected_keys": "in its files are not of the model",
}
_SHOWN_KEYS = 5
_HASHED = {".safetensors", ".json", ".jinja", ".model"}


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

    @property
    def measured_in(self) -> dict[str, str]:
        """What its figures are measured in, for the evidence of schedules.

        Number type, kind of device, and what prepares the pixels where that is known.
        """
        pixels = pixels_by(self.processor)
        known = {"dtype": str(self.model.dtype).removeprefix("torch."), "device": self.model.device.type}
        return known if pixels is None else {**known, "pixels": pixels}


def load_model(path: str | Path, options: ModelOptions = DEFAULTS) -> LoadedModel:
    """Loads an image-text-to-text model and its processor; weights from safetensors only.

    Args:
        path: A folder, or a name on the hub; a name that is in the local cache needs no network.
        options: How it is loaded.

    Raises:
        ModelError: it cannot be found, read or run here, or its ``generate`` would not take the plain arg-max.
    """
    place = device_of(options.device)
    dtype = dtype_on(place, options.dtype)
    check_kernel(options.attn_implementation)
    folder = _folder(str(path), options.revision)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            "has no *.safetensors file, and other weight files can run code when they are read",
            field="model.path",
            value=str(path),
            remedy="convert it: load it where you trust it and call save_pretrained()",
        )
    trusted = {"local_files_only": True, "trust_remote_code": options.trust_remote_code}
    given = {"attn_implementation": options.attn_implementation, "device_map": options.device_map}
    kept = {name: value for name, value in given.items() if value is not None}
    _check_generation(folder, path)
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True,
            **trusted, **kept,
        )  # fmt: skip
        model, told = loaded
        _check_weights(told, path)
        processor = load_processor(folder, model.config, options)
    except ModelError:
        raise
    except Exception as error:  # whatever transformers and the tokenizers make of files that are damaged
        raise needs_trust(error, path) or ModelError(
            f"cannot be loaded{_as_asked(kept)}: {' '.join(str(error).split())[:300]}",
            field="model.path",
            value=str(path),
            remedy=remedy(error)
            or "give an image-text-to-text model of transformers with its processor beside the weights",
        ) from error
    model = (model if options.device_map is not None else model.to(place)).eval().requires_grad_(False)
    for name, value in options.generation.items():
        setattr(model.generation_config, name, value)
    check_greedy(model.generation_config)
    return LoadedModel(model, processor, str(path), _fingerprint(folder, model, options), model.config)


def _check_generation(folder: Path, path: str | Path) -> None:
    """Refuses a ``generation_config.json`` that cannot be read, which transformers leaves out in silence."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    try:
        read_json(file)
    except ValueError as error:
        raise ModelError(
            f"its {file.name} {error}", field="model.path", value=str(path), remedy="get it again, or remove it"
        ) from None


def _check_weights(told: Mapping[str, Any], path: str | Path) -> None:
    """Refuses a checkpoint that is not the model of its config: transformers would fill it up with random numbers.

    Args:
        told: What `from_pretrained` tells of the keys; those that a model ties or leaves out are not in it.
        path: As the user gave it.
    """
    for kind, what in _WEIGHTS.items():
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in told.get(kind, ()))
        if names:
            shown = ", ".join(names[:_SHOWN_KEYS]) + (" …" if len(names) > _SHOWN_KEYS else "")
            raise ModelError(
                f"{len(names)} weights {what}: {shown}",
                field="model.path",
                value=str(path),
                remedy="the files are incomplete or of another model: get them again, or correct config.json",
            )


def check_kernel(name: str | None) -> None:
    """Refuses an attention kernel that transformers does not have.

    Raises:
        ModelError: naming those that it has.
    """
    known = ("eager", *ALL_ATTENTION_FUNCTIONS.valid_keys())
    if name is not None and name not in known:
        raise ModelError(
            "no such attention kernel",
            field="model.attn_implementation",
            value=name,
            remedy=f"use {', '.join(dict.fromkeys(known))}, or leave it out",
        )


def _as_asked(kept: Mapping[str, Any]) -> str:
    """The settings that may be why a model cannot be loaded."""
    return f" with {', '.join(f'{name}={value}' for name, value in kept.items())}" if kept else ""


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
    """The dtype of a setting on a device: ``auto`` stays ``auto`` on a GPU and is float32 on a CPU."""
    return "float32" if dtype == "auto" and place.type == "cpu" else dtype


def _folder(path: str, revision: str | None) -> Path:
    folder = Path(os.path.expanduser(path))
    if os.path.isdir(folder):
        return folder
    if is_path(path):
        raise no_such_folder(path)
    try:
        with hub_or_cache(path):
            return Path(snapshot_download(path, revision=revision, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:  # hub and network errors are OSErrors, bad names are ValueErrors
        raise ModelError(
            "no such folder, and the hub does not give a model of that name",
            field="model.path",
            value=path,
            remedy="check the path; without a network, download the model first and give its folder",
        ) from error


def _fingerprint(folder: Path, model: Any, options: ModelOptions) -> str:
    total = hashlib.sha256()
    total.update(ModelIdentity.from_config(model.config, "").config_sha256.encode())
    total.update(str(model.dtype).encode())
    if options.changing:
        total.update(canonical(options.changing))
    for file in sorted(file for file in folder.iterdir() if file.suffix in _HASHED):
        with file.open("rb") as stream:
            total.update(f"\n{file.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return total.hexdigest()
