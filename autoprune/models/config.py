"""Configs of models, read from a folder, a file or the hub; code that comes with one runs only if the user says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import AutoConfig

from autoprune.errors import ModelError
from autoprune.models.options import DEFAULTS, ModelOptions
from autoprune.schedule import ModelIdentity
from autoprune.schedule.files import read_json
from autoprune.schedule.validation import explained
from autoprune.sources import NOT_ASKED, hub_or_cache, is_path


def read_config(path: str | Path, layers: int | None = None, options: ModelOptions = DEFAULTS) -> Any:
    """The transformers config of a folder, of a config.json or of a name on the hub.

    Args:
        path: Folder, file or name.
        layers: Keep only the first decoder layers.
        options: How it is loaded: which revision, and whether its code may run.

    Raises:
        ModelError: there is none, it has fewer layers, or its code would have to run.
    """
    place = Path(os.path.expanduser(path))
    local = os.path.exists(place)
    if not local and is_path(str(path)):
        raise no_such_folder(path)
    file = place / "config.json" if os.path.isdir(place) else place
    try:
        if os.path.isfile(file):
            read_json(file)  # transformers reads files of any size and depth
        with hub_or_cache(place):
            config = AutoConfig.from_pretrained(
                place if local else str(path),
                revision=options.revision,
                trust_remote_code=options.trust_remote_code,
            )
        ModelIdentity.from_config(config)
    except ValidationError as error:
        raise explained(error, ModelIdentity, ModelError, root="config.json") from None
    except Exception as error:  # each config class raises its own for values that make no sense
        raise needs_trust(error, path) or _no_config(error, path, local) from error
    cut_depth(config, layers)
    return config


def cut_depth(config: Any, layers: int | None) -> None:
    """Leaves a config the first decoder layers.

    Raises:
        ModelError: it has fewer.
    """
    if layers is None:
        return
    text = config.get_text_config(decoder=True)
    depth = text.num_hidden_layers
    if not 1 <= layers <= depth:
        raise ModelError(f"must be in 1 to {depth}, the layers of this model", field="layers", value=layers)
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:  # said layer by layer, such as layer_types
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers


def no_such_folder(path: str | Path) -> ModelError:
    """The error of a path at which nothing is."""
    return ModelError("no such folder", field="model.path", value=str(path), remedy=NOT_ASKED)


def needs_trust(error: BaseException, path: str | Path) -> ModelError | None:
    """The error of a model whose own code would have to run, if transformers asks for that; None for other errors."""
    if "trust_remote_code" not in str(error):
        return None
    return ModelError(
        "brings code of its own, which does not run unasked",
        field="model.path",
        value=str(path),
        remedy="read the code; if you trust it: --trust-remote-code, or `trust_remote_code: true` in the study's model",
    )


def _no_config(error: BaseException, path: str | Path, local: bool) -> ModelError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if local:
        what, remedy = f"its config.json cannot be used: {reason}", "give the folder of a transformers model"
    else:
        what = "is neither a folder nor a model that the hub or the local cache gives"
        remedy = "check the name; without a network, download the model first and give its folder"
    return ModelError(what, field="model.path", value=str(path), remedy=remedy)
