"""Gradient checkpointing runs the hooks of a layer twice in some releases: there it is refused before the pass."""

from __future__ import annotations

import pytest
from support.zoo import llava
from transformers.modeling_layers import GradientCheckpointingLayer

import autoprune
from autoprune import presets
from autoprune.errors import ModelError


def test_a_release_that_checkpoints_hooks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = llava()
    plain = GradientCheckpointingLayer.__call__
    monkeypatch.setattr(GradientCheckpointingLayer, "__call__", lambda self, *a, **k: plain(self, *a, **k))
    zoo.model.gradient_checkpointing_enable()
    with autoprune.apply(zoo.model, presets.vtw(2)):
        zoo.model(**zoo.inputs)
        zoo.model.train()
        with pytest.raises(ModelError, match="checkpointing"):
            zoo.model(**zoo.inputs)
