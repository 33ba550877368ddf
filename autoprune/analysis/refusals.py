"""Refusals that the analyses of this room share: of models in training mode, and of prompts they cannot use."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.errors import DataError, ModelError


def check_eval(model: nn.Module) -> None:
    """Refuse a model in training mode.

    Raises:
        ModelError: some part of it is.
    """
    if any(module.training for module in model.modules()):
        raise ModelError(
            "is in training mode, in which dropout changes every pass",
            field="model",
            value=type(model).__name__,
            remedy="call model.eval() first",
        )


def check_prompt(visual: Tensor, valid: Tensor | None = None) -> None:
    """Refuse a prompt that is not one sample with visual tokens, text at its end, and no padding.

    Args:
        visual: BoolTensor[B, S], visual tokens.
        valid: [B, S], zero at padding; None = there is none, or it does not matter.

    Raises:
        DataError: naming what is missing.
    """
    if visual.shape[0] != 1:
        raise DataError("must hold one sample, not a batch", field="samples", value=tuple(visual.shape))
    if valid is not None and not bool(valid.all()):
        raise DataError("must not be padded", field="samples", value=tuple(valid.shape))
    if not bool(visual.any()):
        raise DataError("has no visual token", field="samples", remedy="give samples with an image, or a visual_mask")
    if bool(visual[0, -1]):
        raise DataError("must end in text", field="samples", remedy="put the question after the image")
