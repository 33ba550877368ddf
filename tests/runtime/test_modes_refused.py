"""Ways to run a model that cannot be pruned exactly: one clear refusal each, before compute is spent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from support.zoo import Zoo, llava
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, EncoderDecoderCache
from transformers.cache_utils import Cache, DynamicCache, QuantizedLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import autoprune
from autoprune import presets
from autoprune.errors import ModelError, PatchError

HIMAP = presets.himap((1, 3), (0.5, 0.25))


def spent(zoo: Zoo) -> list[int]:
    """Grows when any layer of the model computes."""
    calls: list[int] = []
    for module in zoo.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


class TestKernels:
    """Only eager and sdpa attention, whatever the name: flash, flex, paged, hub kernels, own functions."""

    NAMES = (
        "flash_attention_2",
        "flash_attention_3",
        "flex_attention",
        "paged|sdpa",
        "paged|eager",
        "paged|flash_attention_2",
        "kernels-community/flash-attn2",
        "kernels-community/vllm-flash-attn3:flash_attn_varlen_func",
        None,
    )

    @pytest.mark.parametrize("name", NAMES)
    def test_at_apply_and_after_it(self, name: str | None) -> None:
        zoo = llava([[0]])
        config = zoo.model.get_decoder().config
        with autoprune.apply(zoo.model, HIMAP):
            calls = spent(zoo)
            config._attn_implementation_internal = name  # as set_attn_implementation, whose kernels are not installed
            with pytest.raises(ModelError, match="exact with eager and sdpa attention only"):
                zoo.model(**zoo.inputs)
            with pytest.raises(ModelError, match="attn_implementation"):
                zoo.model.generate(**zoo.inputs, max_new_tokens=1)
        assert not calls
        with pytest.raises(ModelError, match="attn_implementation"):
            autoprune.apply(zoo.model, HIMAP)

    def test_an_own_function_set_the_public_way(self) -> None:
        AttentionInterface.register("mine", sdpa_attention_forward)
        AttentionMaskInterface.register("mine", AttentionMaskInterface()["sdpa"])
        zoo = llava([[0]])
        try:
            with autoprune.apply(zoo.model, HIMAP):
                zoo.model.set_attn_implementation("mine")
                with pytest.raises(ModelError, match="'mine'"):
                    zoo.model(**zoo.inputs)
                zoo.model.set_attn_implementation("eager")  # may be switched between those two at any time
                zoo.model(**zoo.inputs)
        finally:
            del AttentionInterface._global_mapping["mine"]
            del AttentionMaskInterface._global_mapping["mine"]

    def test_a_model_that_names_no_kernel_runs_sdpa(self) -> None:
        zoo = llava([[0]])
        assert zoo.model.get_decoder().config._attn_implementation == "sdpa"
        with autoprune.apply(zoo.model, HIMAP) as patch:
            zoo.model(**zoo.inputs)
        assert patch.report.active


class Int8Layer(QuantizedLayer):
    """Keys and values as integers; the backends that transformers knows need packages of their own."""

    def _quantize(self, tensor: torch.Tensor, axis: int) -> torch.Tensor:
        return (tensor * 16).to(torch.int8)

    def _dequantize(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float() / 16


class TestCaches:
    @pytest.mark.parametrize("kind", ["quantised", "quantised, made later", "encoder-decoder", "own"])
    def test_refused_before_the_vision_tower_runs(self, kind: str) -> None:
        zoo = llava([[0]])
        text = zoo.model.config.text_config
        cache = {
            "quantised": lambda: Cache(layers=[Int8Layer() for _ in range(6)]),
            "quantised, made later": lambda: Cache(layer_class_to_replicate=Int8Layer),
            "encoder-decoder": lambda: EncoderDecoderCache(DynamicCache(config=text), DynamicCache(config=text)),
            "own": lambda: {"keys": None},
        }[kind]()
        with autoprune.apply(zoo.model, HIMAP):
            calls = spent(zoo)
            with pytest.raises(PatchError, match="past_key_values: this kind of cache cannot be pruned"):
                zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        assert not calls

    def test_quantised_through_generate(self) -> None:
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, HIMAP):
            calls = spent(zoo)
            with pytest.raises(PatchError, match="cache_implementation: survivors"):
                zoo.model.generate(**zoo.inputs, cache_implementation="quantized", max_new_tokens=2)
        assert not calls


class TestPrograms:
    def test_export(self) -> None:
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="exported program"):
            torch.export.export(zoo.model, (), zoo.inputs, strict=False)

    def test_trace(self) -> None:
        model, embeds = llava([[0]]).model, torch.randn(1, 8, 64)
        mask = torch.zeros(1, 8, dtype=torch.bool)
        mask[:, 2:5] = True

        def run(x: torch.Tensor) -> torch.Tensor:
            return model(inputs_embeds=x, use_cache=False).logits

        with autoprune.apply(model, HIMAP, mask), pytest.raises(PatchError, match="exported program"):
            torch.jit.trace(run, embeds)

    def test_packed_sequences(self) -> None:
        zoo = llava([[0]])
        starts = torch.tensor([0, 10, zoo.inputs["input_ids"].shape[1]], dtype=torch.int32)
        with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="cu_seq_lens_q: packed"):
            zoo.model(**zoo.inputs, cu_seq_lens_q=starts)


class TestParallel:
    @pytest.fixture
    def group(self) -> Iterator[None]:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        yield
        dist.destroy_process_group()

    def test_wrappers_name_the_model_inside(self, group: None) -> None:
        zoo = llava([[0]])
        for wrapper in (nn.DataParallel(zoo.model), nn.parallel.DistributedDataParallel(zoo.model)):
            with pytest.raises(ModelError, match=r"its \.module"):
                autoprune.apply(wrapper, HIMAP)
            with autoprune.apply(zoo.model, HIMAP) as patch:
                wrapper(**zoo.inputs)  # in one process, both call the model inside
            assert patch.report.active

    def test_replicas(self) -> None:
        """What DataParallel makes of each module when there is more than one device."""
        zoo = llava([[0]])
        with autoprune.apply(zoo.model, HIMAP):
            for module in (zoo.model, zoo.model.get_decoder()):
                with pytest.raises(PatchError, match="DataParallel"):
                    module._replicate_for_data_parallel()
        zoo.model._replicate_for_data_parallel()

    def test_tensor_parallel(self) -> None:
        zoo = llava([[0]])
        zoo.model._tp_size = 2  # as from_pretrained(tp_plan="auto") leaves it
        with pytest.raises(ModelError, match="sharded"):
            autoprune.apply(zoo.model, HIMAP)

    def test_fully_sharded(self, group: None) -> None:
        from torch.distributed.fsdp import fully_shard

        zoo = llava([[0]])
        for layer in zoo.model.get_decoder().layers:
            fully_shard(layer, mesh=dist.init_device_mesh("cpu", (1,)))
        with pytest.raises(ModelError, match="sharded"):
            autoprune.apply(zoo.model, HIMAP)
