"""Threads: what one observes or prunes, no other sees."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.zoo import Zoo, llama, llava
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import autoprune
from autoprune import presets
from autoprune.errors import PatchError
from autoprune.runtime.patch import active_patch
from autoprune.runtime.tap import tapped
from autoprune.schedule import Schedule

HIMAP = presets.himap((1, 3), (0.5, 0.25))
ENCODER = presets.visionzip(keep=0.5)


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(*works: Callable[[], None]) -> None:
    """Run all at once; the first failure of any is raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def registry() -> dict[str, object]:
    return {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}


def logits(zoo: Zoo) -> Tensor:
    with torch.no_grad():
        return zoo.model(**zoo.inputs).logits


def test_a_patched_and_an_unpatched_model_of_one_class() -> None:
    pruned, dense = llava(seed=0), llava(seed=1)
    before = registry()
    expected_dense = logits(dense)
    with autoprune.apply(pruned.model, HIMAP):
        expected_pruned = logits(pruned)

        def same(zoo: Zoo, expected: Tensor) -> None:
            for _ in range(8):
                assert torch.equal(logits(zoo), expected)

        in_threads(*[lambda: same(pruned, expected_pruned), lambda: same(dense, expected_dense)] * 2)
    assert registry() == before


def test_applying_and_removing_beside_a_running_model() -> None:
    """The kernels of the other model never see whose turn it is."""
    changing, running = llava(seed=0), llava(seed=1)
    before = registry()
    with autoprune.apply(running.model, HIMAP):
        expected = logits(running)

        def change() -> None:
            for _ in range(6):
                with autoprune.apply(changing.model, HIMAP) as patch:
                    logits(changing)
                    assert patch.report.active

        def run() -> None:
            for _ in range(12):
                assert torch.equal(logits(running), expected)

        in_threads(change, run)
    assert registry() == before


def test_where_the_prompt_ends_is_never_guessed_in_another_thread() -> None:
    """A plain call beside `patch.prompt` in another thread would let the answer vote, without a word."""
    zoo = llava([[0]])
    with autoprune.apply(zoo.model, HIMAP) as patch:
        expected = logits(zoo)
        with patch.prompt(zoo.inputs["input_ids"].shape[1]), pytest.raises(PatchError, match="another thread"):
            in_threads(lambda: logits(zoo))

        def own() -> None:
            with patch.prompt(zoo.inputs["input_ids"].shape[1]):
                assert torch.equal(logits(zoo), expected)

        in_threads(own, own)
        in_threads(lambda: logits(zoo))


def in_the_middle(zoo: Zoo, place: nn.Module, change: Callable[[], object]) -> Tensor:
    """Logits of a pass in another thread, during which this thread makes a change when a module is about to run."""
    inside, go_on, answers = threading.Event(), threading.Event(), []

    def wait(*_: object) -> None:
        inside.set()
        assert go_on.wait(60)

    handle = place.register_forward_pre_hook(wait)
    thread = threading.Thread(target=lambda: answers.append(logits(zoo)), name="server")
    thread.start()
    try:
        assert inside.wait(60)
        change()
    finally:
        go_on.set()
        thread.join()
        handle.remove()
    return answers[0]


def refused(change: Callable[[], object]) -> Callable[[], None]:
    def attempt() -> None:
        with pytest.raises(PatchError, match=r"another thread is running this model.*'server'"):
            change()

    return attempt


def places(zoo: Zoo) -> dict[str, nn.Module]:
    return {
        "layer": zoo.model.get_decoder().layers[2].mlp,
        "first layer": zoo.model.get_decoder().layers[0],
        "vision tower": zoo.model.model.vision_tower.encoder.layers[0],
    }


@pytest.mark.parametrize("place", ["layer", "first layer", "vision tower"])
@pytest.mark.parametrize("schedule", [HIMAP, presets.fastv(1), ENCODER], ids=["himap", "fastv", "encoder"])
def test_a_pass_that_runs_is_never_pruned_in_half(place: str, schedule: Schedule) -> None:
    zoo = llava()
    dense, where = logits(zoo), places(zoo)[place]
    assert torch.equal(in_the_middle(zoo, where, lambda: autoprune.apply(zoo.model, schedule)), dense)
    patch = active_patch(zoo.model)
    pruned = logits(zoo)
    assert not torch.equal(pruned, dense)
    assert torch.equal(in_the_middle(zoo, where, refused(patch.remove)), pruned)
    assert torch.equal(in_the_middle(zoo, where, refused(lambda: autoprune.apply(zoo.model, presets.vtw(3)))), pruned)
    assert torch.equal(logits(zoo), pruned)
    patch.remove()
    assert torch.equal(logits(zoo), dense)


def test_a_pass_with_labels_that_began_before_the_patch_stays_dense() -> None:
    """What it was called with was not seen, so that its answer would vote."""
    zoo = llava([[0]])
    ids = zoo.inputs["input_ids"]
    zoo.inputs["labels"] = torch.cat([torch.full_like(ids[:, :-2], -100), ids[:, -2:]], dim=1)
    dense = logits(zoo)
    assert torch.equal(
        in_the_middle(zoo, places(zoo)["vision tower"], lambda: autoprune.apply(zoo.model, HIMAP)), dense
    )


def test_a_patch_stays_between_the_steps_of_a_generation() -> None:
    zoo = llava([[0]])
    patch = autoprune.apply(zoo.model, HIMAP)
    answers: list[Tensor] = []

    def answer(**options: Any) -> None:
        answers.append(zoo.model.generate(**zoo.inputs, max_new_tokens=3, do_sample=False, **options))

    answer()
    inside, go_on = threading.Event(), threading.Event()

    def between(ids: Tensor, scores: Tensor) -> Tensor:
        inside.set()
        assert go_on.wait(60)
        return scores

    thread = threading.Thread(target=answer, kwargs={"logits_processor": [between]}, name="server")
    thread.start()
    assert inside.wait(60)
    refused(patch.remove)()
    go_on.set()
    thread.join()
    assert torch.equal(*answers)
    patch.remove()


@pytest.mark.parametrize("after", [1, 5, 9, 13])
def test_a_pass_that_begins_while_hooks_go_is_dense(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = llava()
    dense, answers = logits(zoo), []
    remove, removed = RemovableHandle.remove, []

    def removing(handle: RemovableHandle) -> None:
        removed.append(handle)
        if len(removed) == after:
            in_threads(lambda: answers.append(logits(zoo)))
        remove(handle)

    monkeypatch.setattr(RemovableHandle, "remove", removing)
    patch = autoprune.apply(zoo.model, HIMAP)
    removed.clear()
    patch.remove()
    assert len(removed) > after
    assert torch.equal(answers[0], dense)


def test_a_thread_that_failed_runs_nothing_any_more() -> None:
    zoo = llava()
    patch = autoprune.apply(zoo.model, HIMAP)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    for place in places(zoo).values():
        handle = place.register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            in_threads(lambda: logits(zoo))
        handle.remove()
    patch.remove()


def test_observers_come_and_go_at_once() -> None:
    """Fails when the lock in tap.py is removed: the count of observers goes wrong, and with it the registry."""
    model, before = llama(layers=2), registry()
    query = torch.zeros(1, 4, 3, 16)
    kernel = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def observe(i: int) -> Callable[[], None]:
        attention = model.get_decoder().layers[i % 2].self_attn

        def work() -> None:
            for k in range(6000):
                seen: list[Tensor] = []
                with tapped(attention, lambda call, seen=seen: seen.append(call.query)):
                    found = ALL_ATTENTION_FUNCTIONS.get_interface("sdpa", None)
                    if k % 100 == 0:
                        found(attention, query, query[:, :2], query[:, :2], None, scaling=1.0, is_causal=True)
                        assert len(seen) == 1
                assert found is not kernel

        return work

    in_threads(*[observe(i) for i in range(4)])
    assert registry() == before


def test_the_name_of_a_kernel_is_never_missing() -> None:
    """Another thread may stand between "is the name here" and "take it", and would go on with the eager kernel."""

    class Kept(dict):
        def __delitem__(self, name: str) -> None:
            raise AssertionError(f"{name} was missing for a moment")

    local, shared = ALL_ATTENTION_FUNCTIONS._local_mapping, AttentionInterface._global_mapping
    attention = llama(layers=1).get_decoder().layers[0].self_attn
    ALL_ATTENTION_FUNCTIONS._local_mapping, AttentionInterface._global_mapping = Kept(local), Kept(shared)
    try:
        with tapped(attention, lambda *_: None):
            assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not shared["sdpa"]
        assert registry() == {**shared, **local}
    finally:
        ALL_ATTENTION_FUNCTIONS._local_mapping, AttentionInterface._global_mapping = local, shared
