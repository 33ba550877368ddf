"""The benchmark with a clock that counts work instead of time: what is compared with what, and are the sums right?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.devices import DEVICES
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

import autoprune
from autoprune import presets
from autoprune.bench import BenchPlan, benchmark
from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.runtime import apply
from autoprune.runtime.criteria import attention
from autoprune.schedule import Schedule

TEXT, VISUAL, LAYERS, STEPS = 8, 16, 4, 3
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
MASS = Schedule.model_validate(
    {"stages": [{"layer": 2, "keep": {"mass": 0.6}, "criterion": {"name": "attention", "rows": "text"}}]}
)


def _llama(attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation=attention)).eval()


def _gemma() -> Any:
    torch.manual_seed(0)
    kinds = ["sliding_attention", "full_attention"] * 2
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=12, layer_types=kinds)).eval()


def _plan(schedules: dict[str, Schedule], **options: Any) -> BenchPlan:
    counts = {"visual_tokens": (VISUAL,), "text_tokens": TEXT, "new_tokens": STEPS + 1, "repeats": 2, "warmup": 1}
    return BenchPlan(schedules, **{**counts, **options})


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that only work moves: 1 ms for each token in each layer, SCORING ms for each scoring."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0] / 1000)
    score = attention.score

    def scored(inputs: Any) -> Any:
        now[0] += SCORING
        return score(inputs)

    monkeypatch.setattr(attention, "score", scored)

    def watch(model: Any) -> Any:
        for layer in model.model.layers:
            layer.mlp.register_forward_hook(lambda m, args, out: now.__setitem__(0, now[0] + args[0].shape[1]))
        return model

    return watch


SCORING = 7.0


def test_every_figure_follows_from_the_work_done(work: Any) -> None:
    model = work(_llama())
    found = benchmark(model, _plan({"himap": presets.himap((1, 3), (0.5, 0.25)), "vtw": presets.vtw(2)}))
    (setting,) = found.settings
    dense, (himap, vtw) = LAYERS * (TEXT + VISUAL), setting.pruned
    assert setting.dense.decoder_ms.median == pytest.approx(dense)
    assert setting.dense.decode_ms is not None
    assert setting.dense.decode_ms.median == pytest.approx(LAYERS)

    rows = LAYERS * TEXT + 16 + 8 + 8 + 4
    assert himap.visual_tokens == [16, 8, 8, 4]
    assert himap.arm.decoder_ms.median == pytest.approx(rows + 2 * SCORING)
    assert himap.time_ratio.median == pytest.approx((rows + 2 * SCORING) / dense)
    assert himap.floor_ratio.median == pytest.approx(rows / dense)
    assert himap.overheads["scorer"].ms.median == pytest.approx(2 * SCORING)
    assert himap.overheads["scorer"].share.median == pytest.approx(2 * SCORING / dense)
    assert himap.overheads["gather"].ms.median == pytest.approx(0)
    assert himap.overheads["keep_all"].ms.median == pytest.approx(2 * SCORING)
    assert himap.overheads["decode"].ms.median == pytest.approx(0)
    assert himap.saved_ratio.median == pytest.approx((1 - himap.time_ratio.median) / (1 - himap.flops_ratio))
    assert himap.floor_saved_ratio.median > himap.saved_ratio.median

    assert vtw.overheads["scorer"] is None
    assert vtw.overheads["keep_all"].ms.median == pytest.approx(0)
    assert [vtw.time_ratio.median, vtw.floor_ratio.median] == pytest.approx(2 * [(dense - 2 * VISUAL) / dense])


def test_a_slow_gather_is_seen(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprune.runtime import pruner

    model = work(_llama())
    choose = pruner.choose

    def slow(*args: Any) -> Any:
        model.model.layers[0].mlp(torch.zeros(1, 5, 32))
        return choose(*args)

    monkeypatch.setattr(pruner, "choose", slow)
    (pruned,) = benchmark(model, _plan({"fastv": presets.fastv(2)})).settings[0].pruned
    assert pruned.overheads["gather"].ms.median == pytest.approx(5)
    assert pruned.overheads["scorer"].ms.median == pytest.approx(SCORING)


@pytest.mark.parametrize("model", [_llama, _gemma])
def test_the_cache_is_what_the_plan_says_and_the_price_is_that_of_cost(model: Any) -> None:
    made = model()
    schedules = {"fastv": presets.fastv(1), "pyramid": presets.pyramiddrop((1, 2, 3)), "vtw": presets.vtw(2)}
    found = benchmark(made, _plan(schedules, batch_sizes=(1, 2), repeats=1, warmup=0))
    assert [s.batch_size for s in found.settings] == [1, 2]
    for setting in found.settings:
        price = autoprune.cost(made.config, Schedule(), VISUAL, TEXT, STEPS + 1, dtype_bytes=4)
        assert setting.dense.kv_bytes == setting.dense.kv_bytes_plan == setting.batch_size * price.kv_bytes
        for pruned in setting.pruned:
            price = autoprune.cost(made.config, schedules[pruned.name], VISUAL, TEXT, STEPS + 1, dtype_bytes=4)
            assert pruned.flops_ratio == price.ratio
            assert pruned.kv_ratio == pytest.approx(price.kv_ratio)
            assert pruned.arm.kv_bytes == pruned.arm.kv_bytes_plan == setting.batch_size * price.kv_bytes


def test_a_count_that_depends_on_the_input_is_priced_by_what_was_kept() -> None:
    model = _llama()
    (setting,) = benchmark(model, _plan({"mass": MASS}, batch_sizes=(1,), repeats=1, warmup=0)).settings
    (pruned,) = setting.pruned
    kept = pruned.visual_tokens[-1]
    assert 0 < kept < VISUAL
    assert pruned.flops_ratio == autoprune.cost(model.config, MASS, VISUAL, TEXT, kept=[kept]).ratio
    assert pruned.arm.kv_bytes == pruned.arm.kv_bytes_plan


def test_stages_that_merge_are_timed_with_variants_that_merge() -> None:
    stage = {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "text"}, "merge": "mean"}
    merging = Schedule.model_validate({"stages": [stage]})
    (setting,) = benchmark(_llama(), _plan({"merging": merging}, repeats=1, warmup=0)).settings
    assert setting.pruned[0].stages[0]["merge"] == "mean"
    assert setting.pruned[0].overheads["scorer"] is not None


@pytest.mark.parametrize("device", DEVICES)
def test_eager_attention_whose_masks_are_tensors(device: str) -> None:
    model = _llama("eager").to(device)
    (setting,) = benchmark(model, _plan({"himap": presets.himap((1, 2))}, repeats=1)).settings
    assert setting.pruned[0].arm.kv_bytes == setting.pruned[0].arm.kv_bytes_plan


@pytest.mark.gpu
def test_memory_on_a_gpu_is_what_its_allocator_handed_out() -> None:
    weights = sum(p.numel() * p.element_size() for p in _llama().parameters())
    report = benchmark(_llama().cuda(), _plan({"vtw": presets.vtw(2)}, repeats=1))
    memory = report.settings[0].dense.memory
    assert report.machine["gpu"] == torch.cuda.get_device_name()
    assert memory.how == "PyTorch's CUDA allocator"
    assert memory.growth_bytes > report.settings[0].dense.kv_bytes // (VISUAL + TEXT)
    assert memory.peak_bytes >= weights + memory.growth_bytes


def test_no_decode_steps_and_no_pruning() -> None:
    (setting,) = benchmark(_llama(), _plan({"none": presets.dense()}, new_tokens=1, repeats=1)).settings
    assert setting.dense.decode_ms is None
    (none,) = setting.pruned
    assert none.overheads["decode"] is none.overheads["scorer"] is none.saved_ratio is none.arm.decode_ms is None
    assert none.flops_ratio == 1


def test_a_decoder_without_a_price_is_timed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.pricing.layers.FEED_FORWARD", {})
    found = benchmark(_llama(), _plan({"vtw": presets.vtw(2)}, repeats=1))
    assert "not known" in found.unpriced
    (pruned,) = found.settings[0].pruned
    assert pruned.flops_ratio is pruned.saved_ratio is pruned.arm.kv_bytes_plan is None
    assert pruned.kv_ratio < 1


def test_nothing_stays_on_the_model_and_a_patch_left_on_it_does_not_pass_for_dense() -> None:
    model = _llama()

    def state() -> list[Any]:
        return [
            (n, sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()
        ]

    clean = state()
    apply(model, presets.vtw(1), torch.zeros(1, TEXT + VISUAL, dtype=torch.bool))
    (setting,) = benchmark(model, _plan({"vtw": presets.vtw(2)}, repeats=1)).settings
    assert setting.dense.kv_bytes == setting.dense.kv_bytes_plan
    assert state() == clean


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_sizes": (0,)}, "batch_sizes"),
        ({"visual_tokens": ()}, "visual_tokens"),
        ({"visual_tokens": (4, 4)}, "visual_tokens"),
        ({"text_tokens": 0}, "text_tokens"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"repeats": 0}, "repeats"),
        ({"warmup": -1}, "warmup"),
    ],
)
def test_bad_counts_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        _plan({}, **options).check(_llama().config)


def test_schedules_that_cannot_run_are_refused_before_any_run() -> None:
    model = _llama()
    model.model.register_forward_hook(lambda *_: pytest.fail("something ran"))
    with pytest.raises(ModelError, match="out of range"):
        benchmark(model, _plan({"deep": presets.vtw(LAYERS)}))
    book = {"name": "codebook", "path": "book.safetensors", "sha256": "00"}
    unpriced = {"stages": [{"layer": 0, "keep": {"ratio": 0.5}, "criterion": book}]}
    with pytest.raises(ScheduleError, match="vision tower"):
        benchmark(model, _plan({"visionzip": presets.visionzip()}))
    with pytest.raises(ScheduleError, match="cannot be priced"):
        benchmark(model, _plan({"book": Schedule.model_validate(unpriced)}))
