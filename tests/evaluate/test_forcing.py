"""Teacher forcing with windows, chunks, recurrent states and prefixes that see both ways, against ``generate()``.

Answers are longer than the windows (24, chunks of 16) and go on behind rejected tokens.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.family_table import CALIBRATE, kind_of
from support.versions import needs
from support.zoo import FAMILIES, HYBRIDS, Zoo
from support.zoo_rows import loaded_batch

import autoprune
from autoprune import presets
from autoprune.evaluate.evaluator import Evaluator
from autoprune.schedule import Schedule

LENGTH = 40
ZOO = {**FAMILIES, **HYBRIDS}
CORE = ("gemma3", "lfm2_vl", "qwen3_5", "paligemma")
OTHERS = (
    "cohere2_vision",
    "cohere_compass",
    "exaone4_5",
    "shieldgemma2",
    "janus",
    "llama4",
    "lfm3_vl",
    "qwen3_5_moe",
    "gemma4",
)
SCHEDULES = [
    presets.vtw(5),
    presets.vtw(1),
    presets.uniform(2, 0.5),
    presets.himap((2, 5), (0.9, 0.6)),
]
COMPACT = Schedule(stages=presets.uniform(3, 0.7).stages, positions="compact")


class Free:
    """A pricer for which nothing costs anything: answers do not depend on prices."""

    def __init__(self, *args):
        pass

    def price(self, *args):
        return SimpleNamespace(
            decoder_flops=0, decoder_flops_dense=1, end_to_end_flops=0, end_to_end_flops_dense=1, kv_bytes=0,
            kv_bytes_dense=1,
        )  # fmt: skip


@pytest.fixture(autouse=True)
def free(monkeypatch):
    monkeypatch.setattr("autoprune.evaluate.evaluator.Pricer", Free)
    monkeypatch.setattr("autoprune.evaluate.vision.vision_flops", lambda *args: None)


def generated(zoo: Zoo, schedule: Schedule, ends: set[int]) -> list[str]:
    """What a user gets, from the whole batch."""
    with autoprune.apply(zoo.model, schedule), torch.no_grad():
        out = zoo.model.generate(**zoo.inputs, max_new_tokens=LENGTH, do_sample=False)
    rows = out[:, zoo.inputs["input_ids"].shape[1] :].tolist()
    lengths = [next((n for n, token in enumerate(row, 1) if token in ends), len(row)) for row in rows]
    return [" ".join(f"w{t}" for t in row[:length]) for row, length in zip(rows, lengths, strict=True)]


def check(family: str, folder, schedules=SCHEDULES, forced: bool = True) -> None:
    zoo = ZOO[family].build()
    loaded, data = loaded_batch(zoo, folder)
    ends = set(zoo.model.generation_config.eos_token_id)
    evaluator = Evaluator(loaded, data, batch_size=2, max_new_tokens=LENGTH)
    assert (evaluator.by_generating is None) == forced
    found = evaluator.evaluate_many(schedules)
    for schedule, results in zip(schedules, found, strict=True):
        assert [result.text for result in results] == generated(zoo, schedule, ends), schedule
    assert not all(result.decided for results in found for result in results)
    alone = evaluator.evaluate(schedules[0], [1])  # where the model allows it, a batch of this row only
    assert alone[0].text == found[0][1].text


@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", CORE)
def test_forced_answers_are_those_of_generate(family, tmp_path):
    check(family, tmp_path, [*SCHEDULES, COMPACT] if family == "paligemma" else SCHEDULES)


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", OTHERS)
def test_forced_answers_are_those_of_generate_in_every_kind(family, tmp_path):
    check(family, tmp_path)


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", ["blip-2", "instructblipvideo", "kosmos-2", "kosmos-2.5"])
def test_models_that_one_pass_cannot_follow_are_scored_by_generating(family, tmp_path):
    check(family, tmp_path, SCHEDULES[::2], forced=False)


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("row", ZOO)
def test_the_table_of_families_says_how_schedules_are_scored(row, tmp_path):
    zoo = ZOO[row].build()
    loaded, data = loaded_batch(zoo, tmp_path)
    forced = Evaluator(loaded, data, batch_size=2, max_new_tokens=6).by_generating is None
    text = zoo.model.config.get_text_config(decoder=True).model_type
    assert CALIBRATE[kind_of(row), text] == ("forced" if forced else "generating")
