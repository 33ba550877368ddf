"""What is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec
from transformers import OPTConfig

from autoprune.errors import ModelError
from autoprune.search.inputs import read_inputs


def test_a_decoder_without_a_price_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = OPTConfig(num_hidden_layers=fake_backend.LAYERS, hidden_size=16, num_attention_heads=2)
    config.model_type = "not_known"
    monkeypatch.setattr(fake_backend, "_config", lambda: config)
    with pytest.raises(ModelError, match=r"no price.*whatever the objectives are.*autoprune bench") as caught:
        read_inputs(tiny_spec(tmp_path), BACKEND)
    assert (caught.value.field, caught.value.value) == ("model.model_type", "not_known")
