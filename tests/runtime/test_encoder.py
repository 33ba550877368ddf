"""Vision-tower attention as a criterion, against maps and patch orders written out by hand for each family."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.recorded import apply_recorded
from support.zoo import FAMILIES, llava
from support.zoo.base import CLIP
from torch import Tensor
from transformers import DynamicCache

import autoprune
from autoprune import Schedule
from autoprune.errors import PatchError
from autoprune.runtime import record
from autoprune.schedule import EncoderCriterion

ENCODER = {"name": "encoder"}
WANTED = Schedule(
    stages=[
        {"layer": 0, "keep": {"ratio": 0.5}, "criterion": ENCODER},
        {"layer": 2, "keep": {"ratio": 0.25}, "criterion": ENCODER},
    ]
)


def last_map(zoo: Any, layers: Any) -> list[Tensor]:
    """Attention [images, heads, n, n] of the last of these tower layers, call by call, from the eager kernel."""
    zoo.model.set_attn_implementation("eager")
    maps: list[Tensor] = []
    attention = next(m for name, m in layers[-1].named_modules() if name in ("self_attn", "attn", "attention"))
    kernel: Any = type(attention)
    module = __import__(kernel.__module__, fromlist=["eager_attention_forward"])
    original = module.eager_attention_forward

    def spy(part: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = original(part, *args, **kwargs)
        if part is attention:
            maps.append(weights)
        return output, weights

    module.eager_attention_forward = spy
    try:
        with torch.no_grad():
            zoo.model(**zoo.inputs)
    finally:
        module.eager_attention_forward = original
    return maps


def of_llava(zoo: Any) -> Tensor:
    """CLIP: the row of the class token; a patch is a token."""
    (weights,) = last_map(zoo, zoo.model.model.vision_tower.encoder.layers)
    return weights.mean(1)[:, 0, 1:].flatten()


def of_gemma3(zoo: Any) -> Tensor:
    """SigLIP, no class token: the mean received; 16 patches stay 16 tokens."""
    (weights,) = last_map(zoo, zoo.model.model.vision_tower.encoder.layers)
    return weights.mean(1).mean(1).flatten()


def of_internvl(zoo: Any) -> Tensor:
    """The row of the class token; a token is a square of two by two patches."""
    (weights,) = last_map(zoo, zoo.model.model.vision_tower.encoder.layer)
    patches = weights.mean(1)[:, 0, 1:].reshape(-1, 4, 2, 4, 2)
    return patches.mean((2, 4)).flatten()


def of_qwen2_vl(zoo: Any) -> Tensor:
    """No class token; patches come in groups of the four that become a token, image by image."""
    maps = last_map(zoo, zoo.model.model.visual.blocks)
    received = torch.cat([weights.mean(1).mean(1).flatten() for weights in maps])
    return received.view(-1, 4).mean(1)


BY_HAND: dict[str, Callable[[Any], Tensor]] = {
    "llava": of_llava,
    "gemma3": of_gemma3,
    "internvl": of_internvl,
    "qwen2_vl": of_qwen2_vl,
}


@pytest.mark.parametrize("frozen", [False, True], ids=["weights with gradients", "frozen weights"])
@pytest.mark.parametrize("family", BY_HAND)
def test_scores_are_those_of_the_tower(family: str, frozen: bool) -> None:
    zoo = FAMILIES[family].build()
    zoo.model.requires_grad_(not frozen)
    expected = BY_HAND[family](zoo)
    for kernel in ("sdpa", "eager"):
        zoo.model.set_attn_implementation(kernel)
        with autoprune.apply(zoo.model, WANTED) as patch:
            for _ in range(2):  # the second call knows the shapes
                with torch.inference_mode():
                    zoo.model(**zoo.inputs)
                (scores, again) = (patch.scores[k, EncoderCriterion()] for k in (0, 2))
                torch.testing.assert_close(scores[zoo.visual], expected, atol=1e-6, rtol=1e-5)
                assert torch.equal(scores, again)
        positions = zoo.inputs["attention_mask"].cumsum(1) - 1
        for b, visual in enumerate(zoo.visual):
            total = int(visual.sum())
            own = scores[b, visual]
            for k, share in ((0, 0.5), (2, 0.25)):
                best = own.argsort(descending=True, stable=True)[: round(share * total)].sort().values
                kept = set(positions[b, visual][best].tolist())
                dropped = set(positions[b, visual].tolist()) - kept
                found = set(patch.report.kept[k][b].tolist())
                assert kept <= found
                assert not dropped & found


def test_a_newline_takes_the_mean_of_its_neighbours() -> None:
    zoo = FAMILIES["llava_next"].build()
    with autoprune.apply(zoo.model, WANTED) as patch, torch.no_grad():
        zoo.model(**zoo.inputs)
    scores = patch.scores[0, EncoderCriterion()]
    newline = zoo.model.model.image_newline
    embeds: list[Tensor] = []
    handle = zoo.model.get_decoder().register_forward_pre_hook(
        lambda m, a, k: embeds.append(k["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        zoo.model(**zoo.inputs)
    handle.remove()
    lines = (embeds[0] == newline).all(-1) & zoo.visual
    assert int(lines.sum()) > 4
    for b, s in lines.nonzero().tolist():
        sides = [scores[b, j] for j in (s - 1, s + 1) if zoo.visual[b, j] and not lines[b, j]]
        torch.testing.assert_close(scores[b, s], torch.stack(sides).mean())


def test_generate_and_recording_agree_with_a_plain_pass() -> None:
    zoo = llava()
    key = (2, EncoderCriterion())
    with record(zoo.model, [key]) as recording, torch.no_grad():
        zoo.model(**zoo.inputs)
    options = {"max_new_tokens": 5, "do_sample": False}
    with autoprune.apply(zoo.model, WANTED) as patch:
        answer = zoo.model.generate(**zoo.inputs, **options)
        torch.testing.assert_close(patch.scores[key], recording.scores[key])
        uncached = zoo.model.generate(**zoo.inputs, **options, use_cache=False)
    given = {(0, EncoderCriterion()): recording.scores[key], key: recording.scores[key]}
    with apply_recorded(zoo.model, WANTED, None, given):
        assert torch.equal(zoo.model.generate(**zoo.inputs, **options), answer)
    assert torch.equal(uncached, answer)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_repeated_samples_keep_the_same_tokens(options: dict[str, Any]) -> None:
    zoo = llava([[0], [1]])  # of several images, older releases hand copies of a sample different ones
    with autoprune.apply(zoo.model, WANTED) as patch:
        zoo.model.generate(**zoo.inputs, max_new_tokens=1)
        once = patch.report.kept[2]
        zoo.model.generate(**zoo.inputs, max_new_tokens=2, **options)
    copies = len(patch.report.kept[2]) // 2
    assert copies > 1
    for i, kept in enumerate(patch.report.kept[2]):
        assert torch.equal(kept, once[i // copies])


def test_images_of_a_later_turn_in_generate_are_refused() -> None:
    zoo = llava([[0]])
    cache = DynamicCache(config=zoo.model.config)
    with autoprune.apply(zoo.model, WANTED), torch.no_grad():
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        with pytest.raises(PatchError, match="later turn"):
            zoo.model.generate(**zoo.inputs, past_key_values=cache, max_new_tokens=2)


def test_embeddings_without_images_are_refused() -> None:
    zoo = llava()
    embeds = torch.randn(*zoo.inputs["input_ids"].shape, 64)
    with autoprune.apply(zoo.model, WANTED, zoo.visual), pytest.raises(PatchError, match="vision tower did not run"):
        zoo.model(inputs_embeds=embeds, attention_mask=zoo.inputs["attention_mask"])


@pytest.mark.parametrize("family", ["aria", "fuyu"])
def test_models_whose_tokens_are_not_made_of_patches_are_refused(family: str) -> None:
    """Aria's projector mixes patches by attention; Fuyu has no tower."""
    zoo = FAMILIES[family].build()
    with autoprune.apply(zoo.model, WANTED), torch.no_grad(), pytest.raises(PatchError, match="use attention"):
        zoo.model(**zoo.inputs)


def test_nothing_is_left_on_the_tower() -> None:
    zoo = llava()
    with torch.no_grad():
        dense = zoo.model(**zoo.inputs).logits
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in zoo.model.modules()]
    with autoprune.apply(zoo.model, WANTED), torch.no_grad():
        zoo.model(**zoo.inputs)
        zoo.model.generate(**zoo.inputs, max_new_tokens=2)
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in zoo.model.modules()] == hooks
    with torch.no_grad():
        assert torch.equal(zoo.model(**zoo.inputs).logits, dense)


def scored(patch: autoprune.Patch, zoo: Any, **options: Any) -> Tensor:
    zoo.model(**zoo.inputs, **options)
    return patch.scores[0, EncoderCriterion()]


def test_another_tower_layer_in_a_call_is_another_map() -> None:
    zoo = llava()
    with autoprune.apply(zoo.model, WANTED) as patch, torch.no_grad():
        fresh = scored(patch, zoo, vision_feature_layer=-2)
    with autoprune.apply(zoo.model, WANTED) as patch, torch.no_grad():
        last, before = scored(patch, zoo), scored(patch, zoo, vision_feature_layer=-2)
    assert torch.equal(before, fresh)
    assert not torch.allclose(last, before)


def test_sizes_given_as_lists_are_told_apart() -> None:
    """Two images with as many tiles as each other, one wide and one high."""
    zoo = FAMILIES["llava_next"].build(plan=[[0]])
    sizes = zoo.inputs.pop("image_sizes").tolist()
    with autoprune.apply(zoo.model, WANTED) as patch, torch.no_grad():
        encoder = patch._encoder
        keys = [encoder.patches({**zoo.inputs, "image_sizes": s})[0] for s in (sizes, [s[::-1] for s in sizes])]
    assert sizes != [s[::-1] for s in sizes]
    assert keys[0] != keys[1]


def test_inputs_made_in_inference_mode() -> None:
    zoo = llava()
    with autoprune.apply(zoo.model, WANTED) as patch, torch.inference_mode():
        expected = scored(patch, zoo)
    zoo = llava()
    with torch.inference_mode(), autoprune.apply(zoo.model, WANTED) as patch:
        zoo.inputs = {name: value.clone() for name, value in zoo.inputs.items()}
        assert torch.equal(scored(patch, zoo), expected)


def test_following_gradients_takes_the_memory_of_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    most = []
    for depth in (2, 6):
        monkeypatch.setitem(CLIP, "num_hidden_layers", depth)
        zoo = llava()
        alive: weakref.WeakSet[Kept] = weakref.WeakSet()
        peak = [0]

        def pack(tensor: Tensor, alive: Any = alive, peak: list[int] = peak) -> Kept:
            kept = Kept(tensor)
            alive.add(kept)
            peak[0] = max(peak[0], len(alive))
            return kept

        with (
            autoprune.apply(zoo.model, WANTED),
            torch.no_grad(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor),
        ):
            zoo.model(**zoo.inputs)
        most.append(peak[0])
    assert 0 < most[1] <= most[0]


class Kept:
    """A tensor that a graph holds."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def test_another_thread_may_run_the_model_while_gradients_are_followed() -> None:
    zoo = llava()
    answers: list[Tensor] = []

    def run() -> None:
        with torch.no_grad():
            answers.append(zoo.model(**zoo.inputs).logits)

    def meanwhile(*_: Any) -> None:
        handle.remove()
        other = threading.Thread(target=run)
        other.start()
        other.join()

    with autoprune.apply(zoo.model, WANTED):
        handle = zoo.model.model.vision_tower.encoder.register_forward_hook(meanwhile)
        run()
    assert len(answers) == 2
    assert torch.equal(*answers)
