from pathlib import Path

import pytest
from support.scenes import save_rows, save_tiny

from autoprune.data.samples import load_samples
from autoprune.evaluate.abilities import refused_criteria
from autoprune.models.loading import load_model
from autoprune.schedule import parse_criterion
from autoprune.search.methods import every_criterion


def test_what_the_loaded_model_refuses_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the tower hides its attention, as one of another library would."""
    save_tiny(tmp_path / "model")
    loaded = load_model(str(tmp_path / "model"))
    data = load_samples(str(save_rows(tmp_path, count=4, seed=0)))
    stale = parse_criterion({"name": "codebook", "path": str(tmp_path / "gone.safetensors"), "sha256": "0" * 64})
    assert refused_criteria(loaded, data, every_criterion()) == {}
    refused = refused_criteria(loaded, data, [*every_criterion(), stale])
    assert list(refused) == [stale.label]
    assert "no such codebook" in refused[stale.label]
    monkeypatch.setattr("autoprune.runtime.encoder._attentions", lambda layer: [])
    refused = refused_criteria(loaded, data, every_criterion())
    assert list(refused) == ["encoder"]
    assert "vision tower" in refused["encoder"]
