"""Settings of ``generation_config.json`` that change logits: refused, because answers are checked by plain greedy
decoding, unless the user sets them to values that leave the logits alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from autoprune.errors import ModelError

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "repetition_penalty": (1.0, None),
    "encoder_repetition_penalty": (1.0, None),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "bad_words_ids": (None,),
    "min_length": (0, None),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0),
    "watermarking_config": (None,),
}
"""Values of each setting that leave the logits alone, the one to suggest first."""

_TOKENS = ("eos_token_id", "pad_token_id")
_KNOWN = (*NEUTRAL, *_TOKENS)


def check_setting(name: str) -> None:
    """Refuses a setting that no answer depends on: decoding is greedy, and its length is an option of its own.

    Raises:
        ModelError: naming the settings that may be given.
    """
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, _KNOWN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(_KNOWN)}"
        raise ModelError("is no setting that greedy answers depend on", value=name, remedy=hint)


def check_greedy(generation_config: Any) -> None:
    """Refuses a model whose `generate` would not take the plain arg-max.

    Raises:
        ModelError: naming the setting, and how to override it.
    """
    _check_tokens(generation_config)
    for name, neutral in NEUTRAL.items():
        value = getattr(generation_config, name, None)
        if value not in neutral:
            plain = "null" if neutral[0] is None else neutral[0]
            raise ModelError(
                "changes the logits, so an answer could not be checked by plain greedy decoding",
                field=f"generation_config.{name}",
                value=value,
                remedy=f"override it: `generation: {{{name}: {plain}}}` under `model` in the study file, "
                f"--generation {name}={plain} on the command line",
            )


def _check_tokens(generation_config: Any) -> None:
    for name in _TOKENS:
        value = getattr(generation_config, name, None)
        each = value if isinstance(value, list) else [value]
        if not all(one is None or type(one) is int for one in each):
            raise ModelError(
                "must be the number of a token, or a list of them",
                field=f"generation_config.{name}",
                value=value,
                remedy=f"override it: `generation: {{{name}: 2}}` under `model` in the study file, "
                f"--generation {name}=2 on the command line",
            )


def settings_found(generation_config: Any) -> dict[str, Any]:
    """The settings of a model that its greedy answers depend on, those that change nothing left out."""
    found = {name: getattr(generation_config, name, None) for name in _KNOWN}
    return {name: value for name, value in found.items() if value not in NEUTRAL.get(name, (None,))}
