"""Each check fails when the runtime is broken in the way that it is there for, and passes when it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.devices import DEVICES

from autoprune.doctor import default_schedules, examine, model_under_test
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.runtime import cache_layers, masks, patch, pruner, shortened, survivors
from autoprune.runtime.criteria import attention

BREAKAGES: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {}


def breaks(check: str) -> Callable[..., Callable[[pytest.MonkeyPatch], None]]:
    def add(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
        BREAKAGES[function.__name__] = (check, function)
        return function

    return add


@breaks("identity")
def one_token_too_few(monkeypatch):
    counts = pruner.Pruner._fixed_counts
    monkeypatch.setattr(pruner.Pruner, "_fixed_counts", lambda self, stage: tuple(n - 1 for n in counts(self, stage)))


@breaks("pruning fired")
def a_stage_does_nothing(monkeypatch):
    run = pruner.Pruner._run_stage

    def lazy(self, k, layer, args, kwargs):
        if k != 3:
            return run(self, k, layer, args, kwargs)
        return args, kwargs

    monkeypatch.setattr(pruner.Pruner, "_run_stage", lazy)


@breaks("masked reference")
def neighbours_are_gathered(monkeypatch):
    init = survivors.Survivors.__init__

    def shifted(self, alive, counts):
        init(self, alive, counts)
        self.index = (self.index - 1).clamp(min=0)

    monkeypatch.setattr(survivors.Survivors, "__init__", shifted)


@breaks("masked reference")
def results_are_not_written_back(monkeypatch):
    monkeypatch.setattr(survivors.Survivors, "put", lambda self, compact, full: full)


@breaks("decisions")
def the_worst_tokens_are_kept(monkeypatch):
    score = attention.score
    monkeypatch.setattr(attention, "score", lambda inputs: -score(inputs))


@breaks("KV lengths")
def the_cache_reports_its_physical_length(monkeypatch):
    monkeypatch.setattr(cache_layers.PrunedLayer, "get_seq_length", lambda self: self.keys.shape[-2])


@breaks("positions")
def survivors_are_rotated_as_their_neighbours(monkeypatch):
    arguments = shortened.ShortenedCalls.arguments

    def wrong(self, i, args, kwargs):
        args, kwargs = arguments(self, i, args, kwargs)
        if self._state.survivors is not None:
            kwargs = {**kwargs, "position_embeddings": tuple(t.roll(1, -2) for t in kwargs["position_embeddings"])}
        return args, kwargs

    monkeypatch.setattr(shortened.ShortenedCalls, "arguments", wrong)


@breaks("positions")
def later_tokens_are_rotated_otherwise(monkeypatch):
    entry = patch.Patch._layer_entry

    def wrong(self, i):
        before = entry(self, i)

        def shifted(layer, args, kwargs):
            args, kwargs = before(layer, args, kwargs) or (args, kwargs)
            if args[0].shape[1] == 1:
                kwargs = {**kwargs, "position_embeddings": tuple(reversed(kwargs["position_embeddings"]))}
            return args, kwargs

        return shifted

    monkeypatch.setattr(patch.Patch, "_layer_entry", wrong)


@breaks("padded batch")
def fillers_are_seen(monkeypatch):
    init = survivors.Survivors.__init__

    def unmasked(self, alive, counts):
        init(self, alive, counts)
        self.valid, self.all_valid = torch.ones_like(self.valid), True

    monkeypatch.setattr(survivors.Survivors, "__init__", unmasked)


@breaks("without cache")
def answers_vote(monkeypatch):
    monkeypatch.setattr(patch, "prompt_length", lambda call: None)


@breaks("other kernel")
def additive_masks_are_forgotten(monkeypatch):
    def forgetful(base, *rest):
        additive = base is not None and base.is_floating_point()
        return None if additive else masks.pruned_mask(base, *rest)

    monkeypatch.setattr(shortened, "pruned_mask", forgetful)


@breaks("undo")
def a_hook_stays(monkeypatch):
    install = patch.Patch._install

    def careless(self):
        install(self)
        self._model.register_forward_hook(lambda *_: None)

    monkeypatch.setattr(patch.Patch, "_install", careless)


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_runtime_is_found(name, tested, schedules, monkeypatch):
    check, break_it = BREAKAGES[name]
    hooks = dict(tested.model._forward_hooks)
    with monkeypatch.context() as patched:
        break_it(patched)
        report = examine(tested, {"by attention": schedules["by attention"]})
    tested.model._forward_hooks.clear()
    tested.model._forward_hooks.update(hooks)
    failed = {result.check for result in report.results if result.status == "fail"}
    assert check in failed, report.results
    assert not report.passed


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_sees_less_but_still_sees(model_folder, device, monkeypatch):
    half = model_under_test(load_model(model_folder, ModelOptions(dtype="bfloat16", device=str(device))))
    schedules = default_schedules(half.model, half.prompts.rows[0])
    report = examine(half, schedules)
    assert report.passed, report.results
    assert report.tolerance > 1e-2
    neighbours_are_gathered(monkeypatch)
    broken = examine(half, {"by attention": schedules["by attention"]})
    failed = {result.check for result in broken.results if result.status == "fail"}
    assert {"masked reference", "positions", "padded batch"} <= failed


def test_an_unbroken_one_passes_every_check(tested, schedules):
    report = examine(tested, schedules)
    assert [r for r in report.results if r.status == "fail"] == []
    assert {r.check for r in report.results if r.status == "pass"} == {"identity", *_checks()}
    assert report.passed


def _checks() -> set[str]:
    return {check for check, _ in BREAKAGES.values()}
