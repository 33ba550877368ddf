"""Latency: which arms run, in which order, and that nothing stays on the model. Never absolute times."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.data.synthetic import synthetic_sample
from autoprune.errors import DataError, PatchError
from autoprune.evaluate.encoding import encode, model_inputs
from autoprune.evaluate.latency import Latency, time_prefill
from autoprune.evaluate.timing import milliseconds
from autoprune.models.loading import LoadedModel, load_model
from autoprune.runtime import apply
from autoprune.schedule import Schedule

LENGTH, VISUAL = 24, 16


def _model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50, pad_token_id=0, eos_token_id=None)).eval()


def _inputs() -> dict[str, Any]:
    mask = torch.zeros(1, LENGTH, dtype=torch.bool)
    mask[:, 2 : 2 + VISUAL] = True
    return {"inputs_embeds": torch.randn(1, LENGTH, 32), "visual_mask": mask}


def _lengths_seen(model: LlamaForCausalLM) -> list[int]:
    """Tokens of every pass through the last layer's feed-forward block, in the order of the passes."""
    seen: list[int] = []
    model.model.layers[-1].mlp.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[1]))
    return seen


def _state(model: LlamaForCausalLM) -> list[tuple[str, list[str], list[int], list[int]]]:
    return [
        (name, sorted(m.__dict__), list(m._forward_hooks), list(m._forward_pre_hooks))
        for name, m in model.named_modules()
    ]


def test_arms_take_turns_in_every_round() -> None:
    model = _model()
    seen = _lengths_seen(model)
    half, none = presets.fastv(1, 0.5), presets.vtw(2)
    times = time_prefill(model, _inputs(), [None, half, none], repeats=2, warmup=1)
    dense, halved, withdrawn = LENGTH, LENGTH - VISUAL // 2, LENGTH - VISUAL
    assert seen == [n for n in (dense, halved, withdrawn, halved, withdrawn, dense) for _ in ("untimed", "timed")]
    assert [type(t) for t in times] == [Latency] * 3
    assert all(t.prefill_ms > 0 and t.spread >= 0 for t in times)
    assert all(t.end_to_end_ms is None and t.end_to_end_spread is None for t in times)


def test_generation_makes_exactly_the_tokens_asked_for() -> None:
    model = _model()
    seen = _lengths_seen(model)
    (dense,) = time_prefill(model, _inputs(), [None], repeats=1, warmup=0, new_tokens=4)
    assert seen == [LENGTH, LENGTH, 1, 1, 1]
    assert dense.end_to_end_ms is not None
    assert dense.end_to_end_ms > 0
    assert (dense.spread, dense.end_to_end_spread) == (0.0, 0.0)


def test_the_timed_prefill_encodes_the_images_once(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new patch must first learn about the vision tower is not in the figures."""
    inputs = encode(loaded.processor, [synthetic_sample(loaded.config)])
    events: list[str] = []
    handle = loaded.model.get_decoder().register_forward_pre_hook(lambda *_: events.append("decoder"))
    tower = next(m for name, m in loaded.model.named_modules() if name.endswith("vision_tower"))
    watch = tower.register_forward_hook(lambda *_: events.append("tower"))
    monkeypatch.setattr("time.perf_counter", lambda: float(events.append("clock") or 0))
    time_prefill(loaded.model, inputs, [None, presets.visionzip()], repeats=2)
    handle.remove()
    watch.remove()
    marks = [i for i, event in enumerate(events) if event == "clock"]
    timed = [events[start + 1 : end] for start, end in zip(marks[::2], marks[1::2], strict=True)]
    assert timed == 4 * [["tower", "decoder"]]


def test_median_and_interquartile_range(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 0.001, 0.0, 0.002, 0.0, 0.003, 0.0, 0.004, 0.0, 9.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    (dense,) = time_prefill(_model(), _inputs(), [None], repeats=5, warmup=0)
    assert dense.prefill_ms == pytest.approx(3.0)
    assert dense.spread == pytest.approx(2.0)


def test_nothing_stays_on_the_model() -> None:
    model = _model()
    before = _state(model)
    time_prefill(model, _inputs(), [presets.vtw(2), None, presets.himap((1, 2))], repeats=1, new_tokens=2)
    assert _state(model) == before
    with pytest.raises(PatchError, match="visual_mask"):
        time_prefill(model, {"inputs_embeds": torch.randn(1, LENGTH, 32)}, [None, presets.vtw(2)], repeats=1)
    assert _state(model) == before


def test_a_patch_left_on_the_model_does_not_pass_for_dense() -> None:
    model, inputs = _model(), _inputs()
    apply(model, presets.vtw(1), inputs["visual_mask"])
    seen = _lengths_seen(model)
    time_prefill(model, inputs, [None], repeats=1, warmup=0)
    assert seen == [LENGTH]


@pytest.mark.parametrize(("option", "value"), [("repeats", 0), ("warmup", -1), ("new_tokens", -1)])
def test_bad_counts_are_refused(option: str, value: int) -> None:
    with pytest.raises(DataError, match=option):
        time_prefill(_model(), _inputs(), [None], **{option: value})


@pytest.mark.slow
def test_a_method_that_reads_the_tower_shows_the_speed_of_a_served_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of CPU time: dense over `visionzip` in turns, against one patch that stays on for many prefills."""
    folder = Path(__file__).parents[2] / "studies/digit_scenes"
    loaded, rows = load_model(str(folder / "model")), load_samples(str(folder / "calibration.jsonl"))
    inputs, model = model_inputs(loaded, rows[:16]), loaded.model
    schedule = presets.for_depth("visionzip", loaded.config.get_text_config().num_hidden_layers)
    monkeypatch.setattr("time.perf_counter", time.process_time)

    def served(stays: Schedule) -> float:
        with apply(model, stays), torch.no_grad():
            times = [milliseconds(model.device, partial(model, **inputs, logits_to_keep=1)) for _ in range(8)]
        return statistics.median(times[1:])

    steady = served(Schedule()) / served(schedule)
    dense, pruned = time_prefill(model, inputs, [None, schedule], repeats=5)
    assert steady > 1.5
    assert dense.prefill_ms / pruned.prefill_ms > 0.75 * steady
