"""Teacher forcing with windows, chunks, recurrent states and prefixes that see both ways, against ``generate()``.

Answers are longer than the windows (24, chunks of 16) and go on behind rejected tokens.
"""

from __future__ import annotations

import pytest
import torch
from support.family_table import CALIBRATE, kind_of
from support.versions import needs
from support.zoo import FAMILIES, HYBRIDS, Zoo
from support.zoo_rows import loaded_batch

import autoprune
from autoprune import presets
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
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
GENERATED = ("blip-2", "instructblipvideo", "kosmos-2", "kosmos-2.5")
"""Families of which one pass over prompt and answer does not give what `generate` sees."""
SCHEDULES = [
    presets.vtw(5),
    presets.vtw(1),
    presets.uniform(2, 0.5),
    presets.himap((2, 5), (0.9, 0.6)),
]
COMPACT = Schedule(stages=presets.uniform(3, 0.7).stages, positions="compact")


@pytest.fixture(autouse=True)
def towers_without_price(monkeypatch):
    """A row by itself comes without pixels here."""
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
@pytest.mark.parametrize("family", GENERATED)
def test_models_that_one_pass_cannot_follow_are_scored_by_generating(family, tmp_path):
    check(family, tmp_path, SCHEDULES[::2], forced=False)


CHOICES = {"w20 w30 w40": [20, 30, 40], "w50": [50], "w60 w70": [60, 70]}


def walked(zoo: Zoo, schedule: Schedule) -> list[torch.Tensor]:
    """What `generate` sees along each choice: log-probabilities [rows, tokens, vocabulary]."""
    found = []
    for tokens in CHOICES.values():
        steps = [iter(tokens) for _ in zoo.inputs["input_ids"]]
        with autoprune.apply(zoo.model, schedule), torch.no_grad():
            out = zoo.model.generate(
                **zoo.inputs,
                max_new_tokens=len(tokens),
                do_sample=False,
                prefix_allowed_tokens_fn=lambda row, ids, steps=steps: [next(steps[row])],
                output_logits=True,
                return_dict_in_generate=True,
            )
        found.append(torch.stack(out.logits, 1).log_softmax(-1))
    return found


def chosen(seen: list[torch.Tensor], row: int) -> int:
    sums = [
        logs[row].gather(-1, torch.tensor(t)[:, None]).sum() for logs, t in zip(seen, CHOICES.values(), strict=True)
    ]
    return int(torch.stack(sums).argmax())


def check_choices(family: str, folder, forced: bool = True) -> None:
    """By both ways of scoring, on rows that all have choices, so that nothing is ever generated."""
    zoo = ZOO[family].build(plan=[[0], [1]])
    loaded, data = loaded_batch(zoo, folder, choices=list(CHOICES), answer=0)
    evaluator = Evaluator(loaded, data, batch_size=6, max_new_tokens=LENGTH)
    assert (evaluator.by_generating is None) == forced
    dense = walked(zoo, Schedule())
    for schedule in SCHEDULES[1:3]:
        pruned = walked(zoo, schedule)
        for results in (evaluator.evaluate(schedule), generate_and_score(loaded, data, schedule, 6)):
            for row, result in enumerate(results):
                assert result.text == list(CHOICES)[chosen(pruned, row)]
                own, other = (logs[chosen(dense, row)][row] for logs in (dense, pruned))
                kl = (own.exp() * (own - other)).sum(-1).mean()
                assert result.kl == pytest.approx(float(kl), abs=1e-4)
            assert max(result.kl for result in results) > 1e-3


@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", [*CORE, "internvl", "llava", "qwen2_5_vl", "qwen3_vl"])
def test_choices_are_those_of_generate(family, tmp_path):
    check_choices(family, tmp_path)


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", GENERATED)
def test_choices_of_models_that_one_pass_cannot_follow_are_those_of_generate(family, tmp_path):
    check_choices(family, tmp_path, forced=False)


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("family", ["gemma3", *GENERATED])
def test_verification_gives_the_figures_of_the_search(family, tmp_path):
    """Answers, and how far each is from the dense model's along its answer."""
    loaded, data = loaded_batch(ZOO[family].build(), tmp_path)
    evaluator = Evaluator(loaded, data, batch_size=2, max_new_tokens=LENGTH)
    for schedule in SCHEDULES[1:3]:
        verified = generate_and_score(loaded, data, schedule, 2, max_new_tokens=LENGTH)
        for one, other in zip(evaluator.evaluate(schedule), verified, strict=True):
            assert one.text == other.text
            assert one.kl == pytest.approx(other.kl, abs=1e-4)
            assert one.flops == other.flops


@pytest.mark.wide
@needs("5.23", "the families are those of the pinned release")
@pytest.mark.parametrize("row", ZOO)
def test_the_table_of_families_says_how_schedules_are_scored(row, tmp_path):
    zoo = ZOO[row].build()
    loaded, data = loaded_batch(zoo, tmp_path)
    forced = Evaluator(loaded, data, batch_size=2, max_new_tokens=6).by_generating is None
    text = zoo.model.config.get_text_config(decoder=True).model_type
    assert CALIBRATE[kind_of(row), text] == ("forced" if forced else "generating")
