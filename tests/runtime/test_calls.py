"""However a patched model is called, the same tokens are kept; what cannot be exact is refused."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import pytest
import torch
from support.versions import needs
from support.zoo import IMAGE, llama, llava
from torch import nn
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

import autoprune
from autoprune import presets
from autoprune.errors import AutopruneError, ModelError, PatchError
from autoprune.runtime import record

HIMAP = presets.himap((1, 3), (0.5, 0.25))
MASK = torch.zeros(2, 20, dtype=torch.bool)
MASK[0, 3:12] = MASK[1, 6:9] = True
IDS = torch.randint(10, 100, (2, 20), generator=torch.Generator().manual_seed(7))


class Wrapper(nn.Module):
    """As adapter libraries wrap a model: calls pass through, generate() runs on the model inside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model
        self.config = model.config
        self.get_decoder = model.get_decoder

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def generate(self, *args, **kwargs):
        return self.inner.generate(*args, **kwargs)


class TestArguments:
    def test_labels_and_masks_may_be_positional(self) -> None:
        model = llama()
        labels = IDS.clone()
        labels[:, :15] = -100
        visual, padding = MASK.clone(), torch.ones_like(IDS)
        visual[:, 18] = True  # in the answer
        padding[1, :3] = 0
        tokens = []
        with autoprune.apply(model, HIMAP, visual) as patch, torch.no_grad():
            model(input_ids=IDS, attention_mask=padding, labels=labels)
            tokens.append(patch.report.visual_tokens)
            model(IDS, padding, None, None, None, labels)
            tokens.append(patch.report.visual_tokens)
        assert tokens[0][:, 0].tolist() == [9, 4, 4, 2, 2, 2]
        assert torch.equal(*tokens)

    def test_the_decoder_may_be_called_with_positions(self) -> None:
        model = llama()
        padding = torch.ones_like(IDS)
        padding[1, :3] = 0
        with autoprune.apply(model, HIMAP, MASK) as patch, torch.no_grad():
            model.get_decoder()(IDS, padding)
        assert patch.report.tokens[0].tolist() == [20, 17]

    def test_labels_after_a_cached_turn(self) -> None:
        model = llama()
        labels = IDS.clone()
        labels[:, :15] = -100
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(IDS[:, :12], past_key_values=cache, use_cache=True)
            with autoprune.apply(model, presets.vtw(2), MASK) as patch:
                model(input_ids=IDS, labels=labels, past_key_values=cache, use_cache=True)
        assert patch.report.visual_tokens.T.tolist() == [[9, 9, 0, 0, 0, 0], [3, 3, 0, 0, 0, 0]]


class TestInnerModels:
    def test_a_call_of_the_inner_model_knows_nothing_of_an_earlier_outer_call(self) -> None:
        zoo = llava()
        ids = zoo.inputs["input_ids"]
        full = {**zoo.inputs, "input_ids": ids.masked_fill(ids == 0, 11), "attention_mask": torch.ones_like(ids)}
        tokens = []
        for before in ([], [full]):
            with autoprune.apply(zoo.model, presets.vtw(2)) as patch, torch.no_grad():
                for inputs in before:
                    zoo.model(**inputs)
                zoo.model.model(**zoo.inputs)
            tokens.append(patch.report.tokens)
        assert torch.equal(*tokens)

    def test_wrapper_and_inner_model_share_one_patch(self) -> None:
        zoo = llava()
        wrapper = Wrapper(zoo.model)
        answers = []
        with torch.no_grad():
            for model in (zoo.model, wrapper, zoo.model.model):
                patch = autoprune.apply(model, HIMAP)  # replaces the one before
                zoo.model(**zoo.inputs)
                assert patch.report.visual_tokens[:, 0].tolist() == [32, 16, 16, 8, 8, 8]
                if model is not zoo.model.model:
                    answers.append(model.generate(**zoo.inputs, max_new_tokens=4, do_sample=False))
            patch.remove()
        assert torch.equal(*answers)

    def test_compiled_models(self) -> None:
        zoo = llava([[0]])
        got = []
        for model in (zoo.model, torch.compile(zoo.model, backend="eager")):
            with autoprune.apply(model, presets.vtw(2)) as patch, torch.no_grad():
                got.append((model(**zoo.inputs).logits, patch.report.tokens))
        torch.testing.assert_close(got[0][0], got[1][0], atol=1e-5, rtol=0)
        assert torch.equal(got[0][1], got[1][1])


class TestGenerate:
    @pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"use_cache": False}])
    def test_a_mask_tensor_is_as_good_as_placeholder_ids(self, options: dict) -> None:
        zoo = llava()
        answers = []
        for mask in (None, zoo.visual):
            with autoprune.apply(zoo.model, HIMAP, mask):
                answers.append(zoo.model.generate(**zoo.inputs, max_new_tokens=5, do_sample=False, **options))
        assert torch.equal(*answers)

    @pytest.mark.parametrize("how", ["argument", "config", "positional config", "model's config"])
    def test_chunked_prefill_is_refused_however_it_is_asked_for(self, how: str) -> None:
        zoo = llava([[0]])
        config = GenerationConfig(prefill_chunk_size=12, max_new_tokens=2)
        ids, rest = zoo.inputs["input_ids"], {k: v for k, v in zoo.inputs.items() if k != "input_ids"}
        args, options = {
            "argument": ((ids,), {"prefill_chunk_size": 12}),
            "config": ((ids,), {"generation_config": config}),
            "positional config": ((ids, config), {}),
            "model's config": ((ids, GenerationConfig(max_new_tokens=2)), {}),
        }[how]
        if how == "model's config":
            zoo.model.generation_config.prefill_chunk_size = 12
        with autoprune.apply(zoo.model, presets.uniform(2, 0.3)), pytest.raises(PatchError, match="chunk"):
            zoo.model.generate(*args, **rest, **options)

    def test_a_call_within_a_call_does_not_move_the_end_of_the_prompt(self) -> None:
        zoo = llava([[0]])
        inner = {**zoo.inputs, "max_new_tokens": 1, "do_sample": False}

        class Push(LogitsProcessor):
            """Generates within, once, and forces a token that the mask below takes for a visual one."""

            def __call__(self, ids, scores):
                if ids.shape[1] == length:
                    zoo.model.generate(**inner)
                return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([40]), 0)

        def either(ids, embeds):
            return (ids == IMAGE) | (ids == 40)

        length = zoo.inputs["input_ids"].shape[1]
        with autoprune.apply(zoo.model, presets.fastv(2, 0.5), either) as patch:
            zoo.model.generate(
                **{**inner, "max_new_tokens": 4},
                use_cache=False,
                logits_processor=LogitsProcessorList([Push()]),
            )
        assert patch.visual.shape[1] == length + 3
        assert not patch.visual[:, length:].any()


class TestRefusals:
    def test_a_last_prompt_token_that_would_be_dropped(self) -> None:
        model = llama()
        mask = torch.zeros(2, 20, dtype=torch.bool)
        mask[:, 10:] = True
        with autoprune.apply(model, presets.vtw(2), mask), pytest.raises(PatchError, match="question after the image"):
            model.generate(input_ids=IDS, max_new_tokens=2)

    def test_attention_changed_after_the_patch(self) -> None:
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, presets.vtw(2)):
            zoo.model.get_decoder().config._attn_implementation_internal = "flash_attention_2"
            with pytest.raises(ModelError, match="flash_attention_2"):
                zoo.model(**zoo.inputs)

    def test_copies_of_a_patched_model(self) -> None:
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, HIMAP) as patch:
            with pytest.raises(PatchError, match="copied"):
                copy.deepcopy(zoo.model)
            with pytest.raises(PatchError, match="pickled"):
                pickle.dumps(patch)
        copy.deepcopy(zoo.model)

    def test_recording_a_patched_model(self) -> None:
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, HIMAP) as patch:
            with pytest.raises(PatchError, match="not dense"), record(zoo.model, []):
                pass
            with pytest.raises(AutopruneError, match="not dense"):
                autoprune.analysis.withdrawal_kl(zoo.model, [zoo.inputs])
            zoo.model(**zoo.inputs)
            assert patch.report.active

    def test_nothing_recorded(self) -> None:
        with record(llava().model, []) as recording, pytest.raises(PatchError, match="one forward pass"):
            _ = recording.visual_mask

    def test_as_many_prompt_ends_as_samples(self) -> None:
        zoo = llava()
        three = torch.tensor([5, 6, 7])
        with (
            autoprune.apply(zoo.model, HIMAP) as patch,
            patch.prompt(three),
            pytest.raises(PatchError, match="each of"),
        ):
            zoo.model(**zoo.inputs)


class TestCaches:
    def test_a_pruned_cache_needs_the_patch_wherever_the_plain_mask_would_be_wrong(self) -> None:
        model = llama()

        def prefill() -> DynamicCache:
            cache = DynamicCache(config=model.config)
            with autoprune.apply(model, presets.vtw(2), MASK), torch.no_grad():
                model(input_ids=IDS, past_key_values=cache, use_cache=True)
            return cache

        with pytest.raises(PatchError, match="no longer patched"):  # a filler would be seen
            model(input_ids=IDS[:, :1], past_key_values=prefill(), use_cache=True)
        with pytest.raises(PatchError, match="no longer patched"):
            model(input_ids=IDS[:, :4], past_key_values=prefill(), use_cache=True)

    def test_fillers_of_a_batch_without_padding_are_not_seen(self) -> None:
        model = llama()
        logits = []
        for rows in (slice(None), slice(0, 1), slice(1, 2)):
            cache = DynamicCache(config=model.config)
            with autoprune.apply(model, presets.vtw(2), MASK[rows]), torch.no_grad():
                prefill = model(input_ids=IDS[rows], past_key_values=cache, use_cache=True).logits[:, -1]
                step = model(input_ids=IDS[rows, :1], past_key_values=cache, use_cache=True).logits[:, -1]
            logits.append(torch.stack([prefill, step], 1))
        torch.testing.assert_close(logits[0], torch.cat(logits[1:]), atol=1e-4, rtol=0)

    def test_decoding_without_padding_goes_on_without_the_patch(self) -> None:
        zoo = llava([[0]])
        logits = []
        for keep in (True, False):
            cache = DynamicCache(config=zoo.model.config)
            patch = autoprune.apply(zoo.model, HIMAP)
            with torch.no_grad():
                zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
                if not keep:
                    patch.remove()
                for token in (40, 41):
                    step = zoo.model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            patch.remove()
            logits.append(step.logits)
        assert torch.equal(*logits)

    def test_another_patch_may_go_on_with_a_cache(self) -> None:
        """The cache alone says what it holds: later turns do not depend on the schedule that is applied then."""
        zoo = llava()
        more = torch.randint(10, 100, (2, 4), generator=torch.Generator().manual_seed(1))
        mask = torch.cat([zoo.inputs["attention_mask"], torch.ones_like(more)], 1)
        logits = []
        for later in (HIMAP, presets.vtw(5)):
            cache = DynamicCache(config=zoo.model.config)
            with torch.no_grad():
                with autoprune.apply(zoo.model, HIMAP):
                    zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
                with autoprune.apply(zoo.model, later):
                    out = zoo.model(input_ids=more, attention_mask=mask, past_key_values=cache, use_cache=True)
            logits.append(out.logits)
        assert torch.equal(*logits)

    @needs("5.23", "reset() zeroes the entries of a dense layer, but keeps their number")
    def test_a_reset_cache_is_as_good_as_new(self) -> None:
        zoo = llava([[0]])
        cache = DynamicCache(config=zoo.model.config)
        with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
            first = zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits
            cache.reset()
            assert cache.get_seq_length() == cache.layers[5].get_seq_length() == 0
            second = zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits
        assert torch.equal(first, second)
        cache.reset()
        with torch.no_grad():
            dense = zoo.model(**zoo.inputs).logits
            assert torch.equal(zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits, dense)

    def test_nothing_of_a_pass_stays_in_memory(self) -> None:
        zoo = llava([[0]])
        cache = DynamicCache(config=zoo.model.config)
        alive: list[weakref.ref] = [weakref.ref(cache)]

        def note(module, args, output) -> None:
            alive.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

        with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
            for layer in zoo.model.get_decoder().layers:
                layer.mlp.register_forward_hook(note)
                layer.register_forward_hook(note)
            during: list[int] = []
            zoo.model.get_decoder().layers[5].register_forward_pre_hook(
                lambda *_: during.append(sum(ref() is not None for ref in alive[1:]))
            )
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
            del cache
            gc.collect()
            assert [ref() for ref in alive] == [None] * 13
        assert during == [1]  # the hidden states that enter the last layer, none of those before


def test_scores_are_fp32_under_autocast() -> None:
    zoo = llava()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen: list[torch.dtype] = []
        matmul = torch.Tensor.__matmul__

        def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            result = matmul(a, b)
            seen.append(result.dtype)
            return result

        torch.Tensor.__matmul__ = watched
        try:
            with autoprune.apply(zoo.model, HIMAP):
                zoo.model(**zoo.inputs)
        finally:
            torch.Tensor.__matmul__ = matmul
    assert seen
    assert set(seen) == {torch.float32}


def test_two_threads_may_run_one_patched_model() -> None:
    zoo = llava()
    single = llava([[0]])
    prompts = [zoo.inputs, single.inputs]
    with autoprune.apply(zoo.model, HIMAP):

        def answer(i: int) -> torch.Tensor:
            return zoo.model.generate(**prompts[i], max_new_tokens=4, do_sample=False)

        expected = [answer(0), answer(1)]
        got: list[list[torch.Tensor]] = [[], []]
        threads = [threading.Thread(target=lambda i=i: got[i].extend(answer(i) for _ in range(6))) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i in range(2):
        assert len(got[i]) == 6
        assert all(torch.equal(tokens, expected[i]) for tokens in got[i])
