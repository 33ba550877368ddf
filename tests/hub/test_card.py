"""The card of a schedule: front matter that the hub understands, and the figures of its evidence, if any."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

from autoprune import presets
from autoprune.hub.card import card_of, is_hub_name, is_ours
from autoprune.schedule import Schedule

MODEL = {
    "name": "llava-hf/llava-1.5-7b-hf",
    "model_type": "llava",
    "num_layers": 32,
    "hidden_size": 4096,
    "config_sha256": "ab" * 32,
}
EVIDENCE = {
    "study": "digits",
    "data": "validation",
    "data_digest": "d" * 64,
    "samples": 512,
    "calibration_samples": 300,
    "flops_ratio": 0.2921,
    "accuracy": 0.957,
    "drop": 0.0149,
    "drop_ci": [0.0032, 0.0281],
    "model_fingerprint": "f" * 64,
    "model_revision": "e" * 40,
    "versions": {"torch": "2.13.0"},
}


def schedule(**evidence: Any) -> Schedule:
    return Schedule(model=MODEL, stages=presets.himap().stages, evidence=evidence)


def test_the_front_matter() -> None:
    data = ModelCard(card_of(schedule(**EVIDENCE), "me/pruned", "llava-hf/llava-1.5-7b-hf")).data
    assert (data.library_name, data.base_model, data.base_model_relation) == ("autoprune", MODEL["name"], "adapter")
    assert "visual-token-pruning" in data.tags
    found = {result.metric_type: result for result in data.eval_results}
    assert {name: one.metric_value for name, one in found.items()} == {
        "accuracy": 0.957,
        "flops_ratio": 0.2921,
        "drop": 0.0149,
    }
    low, high = found["accuracy"].metric_args["low"], found["accuracy"].metric_args["high"]
    assert 0.93 < low < 0.957 < high < 0.98
    assert (found["drop"].metric_args["low"], found["drop"].metric_args["high"]) == (0.0032, 0.0281)
    assert found["drop"].dataset_split == "validation"
    assert found["drop"].dataset_args == {"samples": 512, "calibration_samples": 300, "digest": "d" * 64}


def test_the_text() -> None:
    card = card_of(schedule(**EVIDENCE), "me/pruned", "llava-hf/llava-1.5-7b-hf")
    for said in (
        "# me/pruned",
        "before layer 2: keep 50 %",
        "| share of the prefill FLOPs | 29.2 % |",
        "| accuracy [95 % interval] | 95.7 % [93.",
        "| points lost against dense [95 % interval] | 1.5 [0.3, 2.8] |",
        "| validation rows | 512 |",
        "| calibration rows of the search | 300 |",
        f'from_pretrained("llava-hf/llava-1.5-7b-hf", revision="{"e" * 40}")',
        'autoprune.apply(model, "pruning_schedule.json")',
        "f" * 64,
        "e" * 40,
        "torch 2.13.0",
    ):
        assert said in card


@pytest.mark.parametrize(
    "given",
    [presets.himap(), schedule(), schedule(accuracy="high", samples=[], drop_ci=[1], drop=0.1, versions=3, study=5)],
)
def test_evidence_is_free_form(given: Schedule) -> None:
    card = card_of(given, "pruned", None)
    assert "base_model" not in card
    assert is_ours(card)


@pytest.mark.parametrize(
    "card", ["", "# A model", "---\nlibrary_name: peft\n---\n", "---\n[\n---\nlibrary_name: autoprune"]
)
def test_cards_of_others(card: str) -> None:
    assert not is_ours(card)


def test_names_of_models() -> None:
    assert is_hub_name("llava-hf/llava-1.5-7b-hf")
    for name in ("/data/models/llava", "./llava", "llava", "a/b/c", "a b/c", ""):
        assert not is_hub_name(name)
