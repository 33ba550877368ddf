"""The handle: exact undo, replacement, prompt ends, and refusing to be silently inactive."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch
from support.recorded import apply_recorded
from support.reference import MaskedReference
from support.zoo import IMAGE, llama, llava
from torch import nn
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import autoprune
from autoprune import Schedule, presets
from autoprune.errors import ModelError, PatchError, ScheduleError
from autoprune.runtime.patch import active_patch
from autoprune.schedule import ModelIdentity

HIMAP = presets.himap((1, 3), (0.5, 0.25))


def traces(model: nn.Module) -> dict:
    """Everything a patch could leave behind, module by module."""
    seen = {"attention": dict(ALL_ATTENTION_FUNCTIONS._local_mapping)}
    for name, module in model.named_modules():
        hooks = {k: dict(v) for k, v in vars(module).items() if "hook" in k and isinstance(v, dict)}
        seen[name] = (type(module), sorted(vars(module)), hooks)
    return seen


def test_remove_leaves_no_trace() -> None:
    zoo = llava()
    with torch.no_grad():
        dense = zoo.model(**zoo.inputs).logits
    before = traces(zoo.model)
    patch = autoprune.apply(zoo.model, HIMAP)
    assert traces(zoo.model) != before
    with torch.no_grad():
        pruned = zoo.model(**zoo.inputs).logits
        zoo.model.generate(**zoo.inputs, max_new_tokens=2)
    patch.remove()
    patch.remove()
    assert traces(zoo.model) == before
    with torch.no_grad():
        again = zoo.model(**zoo.inputs).logits
    assert torch.equal(again, dense)
    assert not torch.equal(pruned, dense)


def test_a_failed_pass_leaves_no_tap_behind() -> None:
    zoo = llava()
    mapping = dict(ALL_ATTENTION_FUNCTIONS._local_mapping)
    layer = zoo.model.get_decoder().layers[0]
    with autoprune.apply(zoo.model, HIMAP):
        handle = layer.mlp.register_forward_pre_hook(lambda *a: (_ for _ in ()).throw(KeyError("broken")))
        with pytest.raises(KeyError):
            zoo.model(**zoo.inputs)
        handle.remove()
        assert dict(ALL_ATTENTION_FUNCTIONS._local_mapping) == mapping
        zoo.model(**zoo.inputs)


def test_applying_again_replaces_the_earlier_patch() -> None:
    zoo = llava()
    with torch.no_grad():
        zoo.model(**zoo.inputs)  # transformers adds hooks of its own at the first call
    before = traces(zoo.model)
    first = autoprune.apply(zoo.model, HIMAP)
    second = autoprune.apply(zoo.model, presets.vtw(2))
    with torch.no_grad():
        zoo.model(**zoo.inputs)
    assert not first.report.active
    assert sorted(second.report.kept) == [2]
    first.remove()
    with torch.no_grad():
        zoo.model(**zoo.inputs)
    assert second.report.active
    second.remove()
    assert traces(zoo.model) == before


def test_a_patched_model_can_be_freed() -> None:
    zoo = llava()
    autoprune.apply(zoo.model, HIMAP)
    gone: list[bool] = []
    weakref.finalize(zoo.model, gone.append, True)
    del zoo
    gc.collect()
    assert gone


def test_text_only_prompt_runs_dense() -> None:
    zoo = llava()
    ids = torch.randint(10, 100, (2, 9))
    with torch.no_grad():
        dense = zoo.model(input_ids=ids).logits
        with autoprune.apply(zoo.model, HIMAP) as patch:
            logits = zoo.model(input_ids=ids).logits
    assert torch.equal(logits, dense)
    assert not patch.report.active
    assert patch.report.tokens.tolist() == [[9, 9]] * 6


def test_a_batch_may_mix_text_only_and_visual_prompts() -> None:
    zoo = llava([[0], []])
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]), torch.no_grad():
        expected = zoo.model(**zoo.inputs).logits[:, -1]
    with autoprune.apply(zoo.model, HIMAP) as patch, torch.no_grad():
        got = zoo.model(**zoo.inputs).logits[:, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert patch.report.visual_tokens[:, 1].tolist() == [0] * 6


@pytest.mark.parametrize("name", ["himap", "random", "uniform", "pyramiddrop"])
def test_batch_keeps_what_batch_one_keeps(name: str) -> None:
    wanted = presets.for_depth(name, 6)
    both, first, second = llava(), llava([[0, 1]]), llava([[0]])
    pixels = both.inputs["pixel_values"]
    second.inputs["pixel_values"] = pixels[2:]
    row = both.inputs["input_ids"][1]
    second.inputs["input_ids"] = row[both.inputs["attention_mask"][1].bool()][None]
    second.inputs["attention_mask"] = torch.ones_like(second.inputs["input_ids"])
    first.inputs["pixel_values"] = pixels[:2]
    kept = []
    for zoo in (both, first, second):
        with autoprune.apply(zoo.model, wanted) as patch, torch.no_grad():
            zoo.model(**zoo.inputs)
        kept.append(patch.report.kept)
    for k in kept[0]:
        assert torch.equal(kept[0][k][0], kept[1][k][0])
        assert torch.equal(kept[0][k][1], kept[2][k][0])


def test_answers_neither_vote_nor_are_pruned() -> None:
    zoo = llava([[0]])
    ids = zoo.inputs["input_ids"]
    answer = torch.tensor([[IMAGE, 40, IMAGE]])  # even a placeholder id that the model happened to generate
    whole = {"input_ids": torch.cat([ids, answer], 1), "pixel_values": zoo.inputs["pixel_values"]}
    with autoprune.apply(zoo.model, HIMAP) as patch:
        with torch.no_grad():
            zoo.model(**zoo.inputs)
        alone = patch.report.kept
        embeds = zoo.model.get_input_embeddings()(ids)
        features = torch.cat(list(zoo.model.get_image_features(zoo.inputs["pixel_values"]).pooler_output))
        embeds[ids == IMAGE] = features
        full = torch.cat([embeds, zoo.model.get_input_embeddings()(answer)], 1).detach()
    mask = whole["input_ids"] == IMAGE
    with autoprune.apply(zoo.model, HIMAP, visual_mask=mask) as patch, torch.no_grad():
        with patch.prompt(ids.shape[1]):
            zoo.model(inputs_embeds=full)
        by_length = patch.report.kept
        labels = torch.full_like(whole["input_ids"], -100)
        labels[:, -3:] = 40
        zoo.model(inputs_embeds=full, labels=labels)
        by_labels = patch.report.kept
        with patch.prompt(torch.tensor([ids.shape[1]])):
            zoo.model(inputs_embeds=full)
        by_tensor = patch.report.kept
    for k, (positions,) in alone.items():
        wanted = [*positions.tolist(), *range(ids.shape[1], ids.shape[1] + 3)]
        assert by_length[k][0].tolist() == by_labels[k][0].tolist() == by_tensor[k][0].tolist() == wanted


def test_visual_mask_may_be_a_callable() -> None:
    model = llama()
    embeds = torch.randn(2, 20, 64)
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[:, 3:12] = True
    kept = []
    for given in (mask, lambda ids, x: mask):
        with autoprune.apply(model, HIMAP, given) as patch, torch.no_grad():
            model(inputs_embeds=embeds)
        kept.append(patch.report.tokens)
    assert torch.equal(*kept)
    assert kept[0][:, 0].tolist() == [20, 15, 15, 13, 13, 13]


class TestNeverSilentlyInactive:
    def test_images_without_a_visual_token(self) -> None:
        zoo = llava([[0]])
        mask = torch.zeros_like(zoo.visual)
        with autoprune.apply(zoo.model, HIMAP, mask), pytest.raises(PatchError, match="no visual token was found"):
            zoo.model(**zoo.inputs)

    def test_text_model_without_visual_mask(self) -> None:
        with pytest.raises(PatchError, match="visual_mask"):
            autoprune.apply(llama(), HIMAP)

    def test_embeds_without_visual_mask(self) -> None:
        zoo = llava()
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="visual_mask"):
            zoo.model(inputs_embeds=torch.randn(1, 8, 64))

    def test_mask_that_does_not_fit(self) -> None:
        zoo = llava()
        mask = torch.zeros(2, 5, dtype=torch.bool)
        with autoprune.apply(zoo.model, HIMAP, mask), pytest.raises(PatchError, match=r"shape \(2, "):
            zoo.model(**zoo.inputs)

    @pytest.mark.parametrize("mask", [[[True, False]], "image"])
    def test_mask_in_another_form_leaves_the_earlier_patch(self, mask) -> None:
        model = llama()
        earlier = autoprune.apply(model, HIMAP, torch.ones(1, 4, dtype=torch.bool))
        with pytest.raises(PatchError, match=r"visual_mask: must be a bool tensor \[batch, seq\]"):
            autoprune.apply(model, HIMAP, mask)
        assert active_patch(model) is earlier

    @pytest.mark.parametrize("given", [None, [[True]]])
    def test_callable_that_gives_no_mask(self, given) -> None:
        model = llama()
        with (
            autoprune.apply(model, HIMAP, lambda ids, x: given),
            pytest.raises(PatchError, match=rf"visual_mask: .*got '{type(given).__name__}'"),
        ):
            model(inputs_embeds=torch.randn(1, 4, 64))

    def test_layers_that_do_not_run(self) -> None:
        zoo = llava()
        decoder = zoo.model.get_decoder()
        with autoprune.apply(zoo.model, presets.vtw(5)):
            decoder.config.num_hidden_layers = 4
            with pytest.raises(PatchError, match="did not run"):
                zoo.model(**zoo.inputs)
            decoder.config.num_hidden_layers = 6

    def test_attention_that_cannot_be_observed(self) -> None:
        zoo = llava()
        attention = zoo.model.get_decoder().layers[0].self_attn
        plain = attention.forward
        attention.forward = lambda hidden_states, **k: (torch.zeros_like(hidden_states), None)
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="layer 0 could not be observed"):
            zoo.model(**zoo.inputs)
        attention.forward = plain

    def test_no_text_after_the_image(self) -> None:
        zoo = llava([[0]])
        end = int(zoo.visual[0].nonzero().max()) + 1
        zoo.inputs["input_ids"] = zoo.inputs["input_ids"][:, :end]
        zoo.inputs["attention_mask"] = zoo.inputs["attention_mask"][:, :end]
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="rows"):
            zoo.model(**zoo.inputs)

    def test_chunked_prefill_and_continuous_batching(self) -> None:
        zoo = llava()
        with autoprune.apply(zoo.model, HIMAP):
            with pytest.raises(PatchError, match="chunk"):
                zoo.model.generate(**zoo.inputs, max_new_tokens=2, prefill_chunk_size=8)
            with pytest.raises(PatchError, match="continuous batching"):
                zoo.model.generate_batch([[1, 2]])

    def test_a_cache_that_quantises_its_entries(self) -> None:
        zoo = llava()
        cache = DynamicCache(config=zoo.model.config)
        cache.layers[3] = type("SomeQuantizedLayer", (type(cache.layers[3]),), {})()
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="SomeQuantizedLayer"):
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)

    def test_scores_of_another_batch(self) -> None:
        zoo = llava()
        key = (1, HIMAP.stages[0].criterion)
        with (
            apply_recorded(zoo.model, HIMAP, None, {key: torch.rand(1, 9)}),
            pytest.raises(PatchError, match=r"before layer 1.*\[batch, seq\]"),
        ):
            zoo.model(**zoo.inputs)

    def test_zero_scores_hold_no_mass(self) -> None:
        model = llama()
        mask = torch.zeros(1, 10, dtype=torch.bool)
        mask[:, 2:6] = True
        weight = Schedule(
            stages=[{"layer": 1, "keep": {"mass": 0.5}, "criterion": {"name": "attention", "rows": "text"}}]
        )
        scores = {(1, weight.stages[0].criterion): torch.zeros(1, 10)}
        patch = apply_recorded(model, weight, mask, scores)
        with patch, pytest.raises(PatchError, match="all scores of a sample are zero"):
            model(inputs_embeds=torch.randn(1, 10, 64))


class TestRefusals:
    def test_layer_out_of_range(self) -> None:
        with pytest.raises(ModelError, match="layers 0 to 5"):
            autoprune.apply(llava().model, presets.vtw(6))

    def test_schedule_for_another_model(self) -> None:
        zoo = llava()
        identity = ModelIdentity.from_config(zoo.model.config, "some/model")
        for field, value in (("model_type", "qwen2_vl"), ("num_layers", 32), ("hidden_size", 4096)):
            other = Schedule(model=identity.model_copy(update={field: value}), stages=HIMAP.stages)
            with pytest.raises(ModelError, match=field):
                autoprune.apply(zoo.model, other)

    def test_other_structure_warns(self) -> None:
        zoo = llava()
        identity = ModelIdentity.from_config(zoo.model.config).model_copy(update={"config_sha256": "0" * 64})
        with pytest.warns(UserWarning, match="another structure"):
            autoprune.apply(zoo.model, Schedule(model=identity, stages=HIMAP.stages)).remove()

    def test_attention_kernels_that_are_not_proven(self) -> None:
        zoo = llava()
        decoder = zoo.model.get_decoder()
        decoder.config._attn_implementation_internal = "flash_attention_2"
        with pytest.raises(ModelError, match="flash_attention_2"):
            autoprune.apply(zoo.model, HIMAP)

    def test_model_without_decoder_layers(self) -> None:
        with pytest.raises(ModelError, match="get_decoder"):
            autoprune.apply(nn.Linear(2, 2), HIMAP)


def test_recorded_scores_are_those_a_first_stage_uses() -> None:
    from autoprune.runtime import record
    from autoprune.schedule import parse_criterion

    zoo = llava()
    criterion = parse_criterion("text")
    with torch.no_grad():
        dense = zoo.model(**zoo.inputs).logits
        with record(zoo.model, [(1, criterion), (3, criterion)]) as recording:
            logits = zoo.model(**zoo.inputs).logits
    assert torch.equal(logits, dense)
    assert torch.equal(recording.visual_mask, zoo.visual)
    for k in (1, 3):
        wanted = presets.himap((k, 4), (0.5, 0.1))
        kept = []
        for given in (None, recording.scores):
            with apply_recorded(zoo.model, wanted, None, given or {}) as patch, torch.no_grad():
                zoo.model(**zoo.inputs)
            kept.append(patch.report.kept)
        for layer in kept[0]:
            assert all(torch.equal(a, b) for a, b in zip(kept[0][layer], kept[1][layer], strict=True))


def test_two_threads_may_run_two_patched_models() -> None:
    zoos = [llava(seed=0), llava(seed=1)]
    expected, got = [], [[], []]
    for zoo in zoos:
        with autoprune.apply(zoo.model, HIMAP) as patch, torch.no_grad():
            zoo.model(**zoo.inputs)
        expected.append(patch.report.kept)

    def run(i: int) -> None:
        zoo = zoos[i]
        with autoprune.apply(zoo.model, HIMAP) as patch, torch.no_grad():
            for _ in range(10):
                zoo.model(**zoo.inputs)
                got[i].append(patch.report.kept)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(2):
        assert len(got[i]) == 10
        for kept in got[i]:
            assert all(torch.equal(a, b) for k in kept for a, b in zip(kept[k], expected[i][k], strict=True))


def test_deep_copies_of_schedules_apply_alike() -> None:
    assert copy.deepcopy(HIMAP) == HIMAP
    assert copy.deepcopy(HIMAP).key == HIMAP.key


def test_report_before_any_pass_is_inactive() -> None:
    with autoprune.apply(llava().model, HIMAP) as patch:
        assert not patch.report.active


def test_cache_entries_are_reported_as_held() -> None:
    zoo = llava([[0]])
    cache = DynamicCache(config=zoo.model.config)
    with autoprune.apply(zoo.model, HIMAP) as patch, torch.no_grad():
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
    assert patch.report.kv_entries[:, 0].tolist() == [layer.keys.shape[-2] for layer in cache.layers]
    assert patch.report.kv_entries[:, 0].tolist() == patch.report.tokens[:, 0].tolist()


class TestWhatIsApplied:
    def test_a_path_an_object_and_the_file_beside_the_weights(self, tmp_path: Path) -> None:
        zoo = llava()
        HIMAP.save(tmp_path / "pruning_schedule.json")
        zoo.model.config._name_or_path = zoo.model.name_or_path = str(tmp_path)
        path = tmp_path / "pruning_schedule.json"
        for given in (HIMAP, path, str(path), HIMAP.to_json_dict()):
            assert autoprune.apply(zoo.model, given).schedule == HIMAP
        assert autoprune.apply(zoo.model).schedule == HIMAP
        path.unlink()
        with pytest.raises(ScheduleError, match=r"pruning_schedule\.json"):
            autoprune.apply(zoo.model)

    def test_anything_else_is_one_clear_error(self) -> None:
        for given in (7, ["a"], b"x"):
            with pytest.raises(ScheduleError, match="must be a schedule, the path of its file, or its JSON object"):
                autoprune.apply(llava().model, given)

    def test_a_warning_about_the_model_points_at_the_caller(self) -> None:
        zoo = llava()
        identity = ModelIdentity.from_config(zoo.model.config, "other").model_copy(update={"config_sha256": "0"})
        with pytest.warns(UserWarning, match="another structure") as caught:
            autoprune.apply(zoo.model, Schedule(stages=HIMAP.stages, model=identity))
        assert caught[0].filename == __file__

    def test_withdrawing_the_token_that_answers_is_refused_at_once(self) -> None:
        model, prompt = llama(), torch.randn(2, 10, 64)
        with (
            autoprune.apply(model, presets.vtw(1), torch.ones(2, 10, dtype=torch.bool)),
            pytest.raises(PatchError, match="the last prompt token is visual"),
        ):
            model(inputs_embeds=prompt)
