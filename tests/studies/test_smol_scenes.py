"""Scenes and questions of smol_scenes: answers found another way, and questions that do not see each other."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from asking import HELD_OUT, TASKS, TRAINED, ask
from llava import VISUAL_TOKENS, build_model, eyes
from packed import IGNORE, Packer
from pictures import COLORS, KINDS, PATCHES, Scene, Thing, paint, random_scene
from scans import scan_pool
from scenes import to_pixel_values
from transformers import LlamaConfig, LlamaForCausalLM
from tuning import MasteredAdam, packed_logits


def scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(3)
    return [random_scene(rng) for _ in range(count)]


def named(scene: Scene, text: str) -> list[Thing]:
    """Things that a text names by colour, kind or both, in the order of the text."""
    found = []
    for word in re.findall(r"[a-z]+|\d", text.lower()):
        found += [thing for thing in scene if word in (thing.color, thing.kind)]
    return list(dict.fromkeys(found))


def answer(scene: Scene, task: str, prompt: str) -> str:
    """The answer as a reader of the prompt would find it."""
    digits = [thing for thing in scene if thing.kind.isdigit()]
    asked = named(scene, prompt)
    if task == "present":
        kind = next(word for word in re.findall(r"\w+", prompt) if word in KINDS)
        color = next(word for word in re.findall(r"\w+", prompt) if word in COLORS)
        return "yes" if any((thing.kind, thing.color) == (kind, color) for thing in scene) else "no"
    if task == "count":
        return str(
            len(digits) if "digits" in prompt else len(scene) - len(digits) if "shapes" in prompt else len(scene)
        )
    if task == "side":
        ordered = asked[0].column < asked[1].column
        return "yes" if ordered == ("left" in prompt.split()) else "no"
    if task == "neighbor":
        places = sorted(scene, key=lambda thing: thing.column)
        other = places[places.index(asked[0]) + (1 if "right" in prompt else -1)]
        return f"{other.color} {other.kind}"
    if task in ("larger", "sum"):
        values = [int(thing.kind) for thing in asked]
        return str(max(values) if task == "larger" else sum(values))
    if task == "extreme":
        return sorted(digits, key=lambda thing: int(thing.kind))[-1 if "largest" in prompt else 0].color
    if task == "successor":
        return next(thing.color for thing in digits if int(thing.kind) == int(asked[0].kind) + 1)
    if task == "ascending":
        return ", ".join(sorted(thing.kind for thing in digits))
    across = sorted(scene, key=lambda thing: thing.column)
    if task == "colors":
        return ", ".join(thing.color for thing in across)
    if task == "caption":
        said = [f"{'an' if thing.color == 'orange' else 'a'} {thing.color} {thing.kind}" for thing in across]
        return f"{', '.join(said[:-1])} and {said[-1]}.".capitalize()
    (thing,) = asked
    down, aside = ("top", "middle", "bottom")[thing.row // 2], ("left", "center", "right")[thing.column // 2]
    return {"color": thing.color, "kind": thing.kind, "place": f"{down} {aside}"}[task]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("wordings", [TRAINED, HELD_OUT], ids=["trained", "held out"])
def test_answers_are_right_in_every_wording(task: str, wordings: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    questions = [(scene, ask(scene, task, wordings, rng)) for scene in scenes(120)]
    found = [(scene, question) for scene, question in questions if question is not None]
    assert len(found) > 30
    assert {question.wording for _, question in found} == set(wordings)
    for scene, question in found:
        assert question.answer == answer(scene, task, question.prompt), question


def test_patches_know_whose_they_are() -> None:
    drawn = scenes(8)
    images, owners = paint(drawn, scan_pool("validation"), np.random.default_rng(0))
    assert images.shape == (8, 192, 192, 3)
    for scene, owner in zip(drawn, owners.reshape(8, PATCHES, PATCHES), strict=True):
        for place, thing in enumerate(scene):
            rows, columns = np.nonzero(owner == place)
            assert len(rows) >= 2
            assert np.abs(rows / 2 - 0.5 - thing.row + 0.25).max() <= 1.25
            assert np.abs(columns / 2 - 0.5 - thing.column + 0.25).max() <= 1.25


def letters(text: str, **_: Any) -> SimpleNamespace:
    """A tokenizer of one token for each letter."""
    return SimpleNamespace(input_ids=[ord(letter) for letter in text])


def test_packed_questions_see_the_picture_and_themselves() -> None:
    packed = Packer(letters, {"color": 1.0, "sum": 1.0}, 900).pack(scenes(2), np.random.default_rng(2))
    prefix = 7
    mask = packed.mask(prefix)[:, 0]
    assert packed.question.max() >= 3
    for row, question in zip(mask, packed.question, strict=True):
        for number in range(int(question.max()) + 1):
            (at,) = np.nonzero(question.numpy() == number)
            seen = row[prefix + at[-1]]
            assert seen[:prefix].all()
            assert np.nonzero(seen[prefix:].numpy())[0].tolist() == at.tolist()
    for ids, question, target in zip(packed.ids, packed.question, packed.target, strict=True):
        first = question == 0
        text = "".join(map(chr, ids[first].tolist()))
        said = "".join(map(chr, target[first][target[first] != IGNORE].tolist()))
        assert text.split("<|im_end|>")[0].endswith(("?", "."))
        assert said.endswith("<|im_end|>")
        assert text.endswith(said[:-1])


def test_packed_questions_have_the_logits_of_the_whole_model_on_each_alone() -> None:
    """Else a question could see its own next words, which training would learn to copy."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    decoder = LlamaForCausalLM(LlamaConfig(vocab_size=300, tie_word_embeddings=True, **sizes)).eval()
    tower, projector = eyes(decoder.config)
    drawn, opening = scenes(2), torch.tensor([65, 66, 67])
    pixels = to_pixel_values(paint(drawn, scan_pool("validation"), np.random.default_rng(0))[0])
    packed = Packer(letters, {"color": 1.0, "sum": 1.0}, 400).pack(drawn, np.random.default_rng(2))
    with torch.no_grad():
        together = packed_logits(decoder, tower.eval(), projector, opening, pixels, packed)

    model = build_model(decoder.config, 299).eval()
    model.model.language_model.load_state_dict(decoder.model.state_dict())
    model.tie_weights()
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.multi_modal_projector.load_state_dict(projector.state_dict())
    alone, before = [], len(opening) + VISUAL_TOKENS
    for row, (ids, question, target) in enumerate(zip(packed.ids, packed.question, packed.target, strict=True)):
        for number in range(int(question.max()) + 1):
            mine = question == number
            given = torch.cat([opening, torch.full((VISUAL_TOKENS,), 299), ids[mine]])[None]
            with torch.no_grad():
                logits = model(input_ids=given, pixel_values=pixels[row : row + 1]).logits[0, before:]
            alone.append(logits[target[mine] != IGNORE])
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been() -> None:
    def trained(interrupted_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 8, bias=False).bfloat16()
        optimizer, x = MasteredAdam((layer.parameters(), 1e-4)), torch.randn(16, 8).bfloat16()
        for step in range(20):
            if step == interrupted_at:
                saved = optimizer.state()
                layer.weight.data.zero_()  # as in another process, which has but the checkpoint
                optimizer = MasteredAdam((layer.parameters(), 1e-4))
                optimizer.load(saved)
            layer(x).float().square().mean().backward()
            optimizer.step(1.0)  # smaller than what bfloat16 can tell apart at 1
        return layer.weight.detach()

    assert torch.equal(trained(None), trained(11))
