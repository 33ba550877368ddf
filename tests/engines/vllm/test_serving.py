"""Which schedule is served, where it acts, and what is refused before anything is loaded."""

from __future__ import annotations

import copy
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from support.zoo.llava import llava

from autoprune.engines.vllm.plugin import SUPPORTED, unsupported
from autoprune.engines.vllm.refusals import ANYWHERE, LAYERS, check_decoder, check_options
from autoprune.engines.vllm.serving import (
    OPTION,
    VARIABLE,
    Serving,
    asked_options,
    named_schedule,
    resolve,
    served,
    serving_of,
)
from autoprune.errors import ModelError, PatchError, ScheduleError
from autoprune.runtime import source
from autoprune.runtime.codebook import write_prototypes
from autoprune.schedule import Schedule
from autoprune.sources import HubError

DIVERSITY = {"layer": 0, "keep": {"count": 5}, "criterion": {"name": "diversity"}}
UNIFORM = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {"name": "uniform"}}
LAST = {"layer": 2, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "last"}}
WITHDRAWAL = {"layer": 3, "keep": {"ratio": 0.0}}


def written(*stages: dict, **more: Any) -> dict:
    return {"format": "autoprune.schedule", "version": 1, "stages": list(stages), **more}


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    config = llava().model.config
    config.name_or_path = str(tmp_path)
    return config


def test_nothing_is_named(config) -> None:
    assert named_schedule(config) is None


def test_named_by_the_variable(config, monkeypatch, tmp_path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(written(WITHDRAWAL)))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.json"))
    found = named_schedule(config)
    assert found is not None
    assert [stage.layer for stage in found.stages] == [3]


def test_named_by_an_option_as_a_path_or_whole(config, tmp_path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(written(WITHDRAWAL)))
    for named in (str(tmp_path / "mine.json"), written(WITHDRAWAL)):
        setattr(config, OPTION, named)
        found = named_schedule(config)
        assert found is not None
        assert found.stages[0].withdraws


def test_taken_from_beside_the_weights(config, tmp_path) -> None:
    (tmp_path / "pruning_schedule.json").write_text(json.dumps(written(LAST)))
    found = named_schedule(config)
    assert found is not None
    assert found.stages[0].layer == 2


def test_named_twice(config, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "one.json")
    setattr(config, OPTION, "other.json")
    with pytest.raises(ScheduleError, match="one way"):
        named_schedule(config)


def test_a_schedule_that_cannot_be_read_is_not_taken_for_none(config, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.json"))
    with pytest.raises(ScheduleError, match="cannot be read"):
        named_schedule(config)
    (tmp_path / "pruning_schedule.json").write_text("{}")
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ScheduleError, match="not an autoprune schedule"):
        named_schedule(config)


@pytest.fixture
def unreachable(config, monkeypatch):
    """A model of a hub that does not answer, whose files are not in the cache."""

    def asked(repo, *rest):
        raise HubError("the hub is not reached", field="repository", value=repo)

    monkeypatch.setattr(source, "hub_file", asked)
    config.name_or_path = "org/name"


def test_a_hub_that_does_not_answer_is_not_taken_for_one_without_a_schedule(config, unreachable, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match=r"not reached.*org/name.*HF_HUB_OFFLINE=1"):
        named_schedule(config)
    setattr(config, OPTION, written(WITHDRAWAL))  # then nobody is asked
    assert named_schedule(config) is not None


def test_offline_it_is_said_that_no_schedule_acts(config, unreachable, monkeypatch, caplog) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with caplog.at_level(logging.WARNING, "autoprune"):
        assert named_schedule(config) is None
    assert "no pruning schedule acts" in caplog.text
    assert "org/name" in caplog.text


def test_a_schedule_is_looked_for_once_and_carried_by_the_config(config, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    codebook = write_prototypes(tmp_path / "words.safetensors", torch.randn(4, 8), None).to_json_dict()
    named = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {**codebook, "path": "words.safetensors"}}
    (tmp_path / "mine.json").write_text(json.dumps(written(named)))
    monkeypatch.setenv(VARIABLE, "mine.json")
    resolve(config)
    monkeypatch.delenv(VARIABLE)  # as in a worker on another machine
    monkeypatch.chdir("/")
    (tmp_path / "mine.json").write_text(json.dumps(written(WITHDRAWAL)))
    carried = copy.deepcopy(config)
    assert json.loads(json.dumps(getattr(carried, OPTION)))["stages"][0]["criterion"]["path"] == str(
        tmp_path / "words.safetensors"
    )
    images = SimpleNamespace(get_limit_per_prompt=lambda modality: 1)
    found = served(SimpleNamespace(hf_config=carried, multimodal_config=images, architecture=""))
    assert found is not None
    assert found[0].stages[0].criterion.path == str(tmp_path / "words.safetensors")


def test_processes_do_not_look_for_a_schedule_by_themselves(config, monkeypatch, tmp_path) -> None:
    resolve(config)
    (tmp_path / "pruning_schedule.json").write_text(json.dumps(written(LAST)))  # too late
    monkeypatch.setenv(VARIABLE, str(tmp_path / "pruning_schedule.json"))
    assert served(SimpleNamespace(hf_config=config)) is None


def test_a_schedule_for_another_model(config) -> None:
    schedule = Schedule.model_validate(written(LAST)).with_model(config, "other")
    setattr(config, OPTION, schedule.to_json_dict())
    config.text_config.num_hidden_layers += 1
    with pytest.raises(ModelError, match="num_layers"):
        named_schedule(config)


def test_stages_that_keep_everything_are_none(config) -> None:
    setattr(config, OPTION, written({"layer": 1, "keep": {"ratio": 1.0}}))
    assert named_schedule(config) is None


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        ({"layer": 2, "keep": {"mass": 0.5}, "criterion": {"name": "attention", "rows": "text"}}, "keep.mass"),
        ({"layer": 2, "keep": {"threshold": 0.5}, "criterion": {"name": "encoder"}}, "keep.threshold"),
        ({"layer": 2, "keep": {"ratio": 0.5}, "criterion": {"name": "encoder"}}, "vision tower"),
        (
            {"layer": 2, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "last", "at": "current"}},
            "layer itself",
        ),
    ],
    ids=["mass", "threshold", "encoder", "current"],
)
def test_stages_that_an_engine_cannot_serve(config, stage, field) -> None:
    setattr(config, OPTION, written(stage))
    with pytest.raises(ScheduleError, match=field):
        named_schedule(config)


@pytest.mark.parametrize(
    ("stages", "positions", "images", "shortens", "expected"),
    [
        ([UNIFORM], "compact", 999, "compact", Serving.PROMPTS),
        ([DIVERSITY], "compact", 1, "compact", Serving.PROMPTS),
        ([DIVERSITY], "compact", 2, "compact", Serving.LAYERS),
        ([{**UNIFORM, "merge": "mean"}], "compact", 2, "compact", Serving.LAYERS),
        ([{**UNIFORM, "merge": "mean"}], "compact", 1, "compact", Serving.PROMPTS),
        ([UNIFORM], "keep", 1, "compact", Serving.LAYERS),
        ([UNIFORM], "compact", 1, None, Serving.LAYERS),
        ([UNIFORM], "keep", 2, "keep", Serving.PROMPTS),
        ([UNIFORM], "compact", 2, "keep", Serving.LAYERS),
        ([DIVERSITY], "keep", 1, "keep", Serving.LAYERS),
        ([UNIFORM, WITHDRAWAL], "compact", 1, "compact", Serving.LAYERS),
        ([LAST], "compact", 1, "compact", Serving.LAYERS),
        ([{"layer": 0, "keep": {"ratio": 0.0}}], "compact", 1, "compact", Serving.LAYERS),
    ],
)
def test_where_a_schedule_acts(stages, positions, images, shortens, expected) -> None:
    schedule = Schedule.model_validate(written(*stages, positions=positions))
    assert serving_of(schedule, images, shortens) is expected


@pytest.mark.parametrize(
    ("architecture", "positions", "videos", "expected"),
    [
        ("LlavaForConditionalGeneration", "compact", 999, Serving.PROMPTS),
        ("Qwen2_5_VLForConditionalGeneration", "keep", 0, Serving.PROMPTS),
        ("Qwen2_5_VLForConditionalGeneration", "keep", 999, Serving.LAYERS),
    ],
)
def test_the_model_says_whether_prompts_can_be_shortened(config, architecture, positions, videos, expected) -> None:
    setattr(config, OPTION, written(UNIFORM, positions=positions))
    limits = SimpleNamespace(get_limit_per_prompt={"image": 2, "video": videos}.__getitem__)
    found = served(SimpleNamespace(hf_config=config, multimodal_config=limits, architecture=architecture))
    assert found is not None
    assert found[1] is expected


def engine(**values: Any) -> SimpleNamespace:
    """An engine's config with all that deep stages ask for, but for some values by path."""
    config = SimpleNamespace()
    served_well = {
        "cache_config.enable_prefix_caching": False,
        "scheduler_config.enable_chunked_prefill": False,
        "parallel_config.tensor_parallel_size": 1,
        "parallel_config.pipeline_parallel_size": 1,
        "model_config.runner_type": "generate",
        "compilation_config.cudagraph_mode": SimpleNamespace(name="NONE"),
        "use_v2_model_runner": False,
        "speculative_config": None,
    }
    for path, value in {**served_well, **{path.replace("__", "."): value for path, value in values.items()}}.items():
        part, *rest = path.split(".")
        at = config
        for name in rest:
            if not hasattr(at, part):
                setattr(at, part, SimpleNamespace())
            at, part = getattr(at, part), name
        setattr(at, part, value)
    return config


REFUSED = [
    ("--enable-prefix-caching", "cache_config__enable_prefix_caching", True),
    ("--enable-chunked-prefill", "scheduler_config__enable_chunked_prefill", True),
    ("--long-prefill-token-threshold", "scheduler_config__long_prefill_token_threshold", 512),
    ("--speculative-config", "speculative_config", object()),
    ("--pipeline-parallel-size", "parallel_config__pipeline_parallel_size", 2),
    ("--tensor-parallel-size", "parallel_config__tensor_parallel_size", 2),
    ("--prefill-context-parallel-size", "parallel_config__prefill_context_parallel_size", 2),
    ("--decode-context-parallel-size", "parallel_config__decode_context_parallel_size", 2),
    ("--enable-dbo", "parallel_config__enable_dbo", True),
    ("--worker-cls", "parallel_config__worker_cls", "my.worker.Worker"),
    ("--scheduler-cls", "scheduler_config__scheduler_cls", "my.scheduler.Scheduler"),
    ("--kv-transfer-config", "kv_transfer_config", object()),
    ("--kv-sharing-fast-prefill", "cache_config__kv_sharing_fast_prefill", True),
    ("--enable-lora", "lora_config", object()),
    ("--enable-prompt-embeds", "model_config__enable_prompt_embeds", True),
    ("VLLM_USE_V2_MODEL_RUNNER", "use_v2_model_runner", True),
    ("--compilation-config cudagraph_mode", "compilation_config__cudagraph_mode", SimpleNamespace(name="FULL")),
    ("--enable-mm-embeds", "model_config__multimodal_config__enable_mm_embeds", True),
    ("--video-pruning-rate", "model_config__multimodal_config__video_pruning_rate", 0.5),
    ("--runner", "model_config__runner_type", "pooling"),
]


@pytest.mark.parametrize(("name", "path", "value"), REFUSED, ids=[row[0] for row in REFUSED])
def test_options_with_which_deep_stages_are_not_exact(name, path, value) -> None:
    check_options(engine(), Serving.LAYERS)
    with pytest.raises(PatchError) as caught:
        check_options(engine(**{path: value}), Serving.LAYERS)
    assert name in caught.value.value
    assert f"{name}: " in str(caught.value)


def test_no_refusal_is_left_out_above() -> None:
    assert {name for name, _, _ in REFUSED} == {row.name for row in ANYWHERE + LAYERS}


class AsyncScheduler:
    """A scheduler with a name that vLLM uses too."""


@pytest.mark.parametrize("name", ["scheduler.Scheduler", "async_scheduler.AsyncScheduler"])
def test_schedulers_of_vllm_and_others(name) -> None:
    known = f"vllm.v1.core.sched.{name}"
    module, _, own = known.rpartition(".")
    for scheduler in (None, known, type(own, (), {"__module__": module})):
        check_options(engine(scheduler_config__scheduler_cls=scheduler), Serving.LAYERS)
    for scheduler in (AsyncScheduler, own, f"my.{own}"):
        with pytest.raises(PatchError, match="--scheduler-cls: it may run a prompt in parts"):
            check_options(engine(scheduler_config__scheduler_cls=scheduler), Serving.LAYERS)


def test_the_options_that_are_asked_for_are_enough() -> None:
    config = engine(
        cache_config__enable_prefix_caching=True,
        scheduler_config__enable_chunked_prefill=True,
        compilation_config__cudagraph_mode=SimpleNamespace(name="FULL_AND_PIECEWISE"),
    )
    asked = asked_options(Serving.LAYERS)
    config.cache_config.enable_prefix_caching = asked["enable_prefix_caching"]
    config.scheduler_config.enable_chunked_prefill = asked["enable_chunked_prefill"]
    with pytest.raises(PatchError, match="cudagraph_mode"):
        check_options(config, Serving.LAYERS)
    assert asked["enforce_eager"]  # which turns graphs off
    assert asked_options(Serving.PROMPTS) == {}


def test_shorter_prompts_go_with_what_deep_stages_do_not() -> None:
    config = engine(
        cache_config__enable_prefix_caching=True,
        scheduler_config__enable_chunked_prefill=True,
        speculative_config=object(),
        use_v2_model_runner=True,
        scheduler_config__scheduler_cls="my.scheduler.Scheduler",
        parallel_config__pipeline_parallel_size=2,
    )
    check_options(config, Serving.PROMPTS)
    with pytest.raises(PatchError, match=r"--enable-prefix-caching.*--enable-chunked-prefill.*shortens prompts"):
        check_options(config, Serving.LAYERS)
    with pytest.raises(PatchError, match="cudagraph_mm_encoder"):
        check_options(engine(compilation_config__cudagraph_mm_encoder=True), Serving.PROMPTS)


def decoder_of(kind: str, *windows: int | None) -> Any:
    """A stand-in for a decoder of vLLM, by the name of its class."""
    module, name = kind.split(".")
    made = type(name, (), {"__module__": f"vllm.model_executor.models.{module}"})()
    made.layers = [
        SimpleNamespace(self_attn=SimpleNamespace(attn=SimpleNamespace(sliding_window=window))) for window in windows
    ]
    return made


@pytest.mark.parametrize("kind", ["llama.LlamaModel", "mistral.MistralModel", "qwen2.Qwen2Model"])
def test_decoders_that_can_be_shortened(kind) -> None:
    check_decoder(decoder_of(kind, None, -1), compact=True, mrope=False)
    check_decoder(decoder_of(kind, None, None), compact=False, mrope=True)


def test_decoders_that_cannot_be_shortened() -> None:
    with pytest.raises(ScheduleError, match="renumbered"):
        check_decoder(decoder_of("qwen2.Qwen2Model", None), compact=True, mrope=True)
    with pytest.raises(PatchError, match=r"sliding window.*\[1\]"):
        check_decoder(decoder_of("llama.LlamaModel", None, 64), compact=False, mrope=False)
    for other in ("granite.GraniteModel", "llama_eagle.LlamaModel"):
        with pytest.raises(ModelError, match=other):
            check_decoder(decoder_of(other, None), compact=False, mrope=False)


def test_one_minor_version_is_supported() -> None:
    assert unsupported(f"{SUPPORTED}.0") is None
    assert unsupported(f"{SUPPORTED}.1+cpu") is None
    for version in ("0.31.4", "0.33.0", "1.32.0", "0.320.0"):
        assert f"pip install 'vllm=={SUPPORTED}.*'" in str(unsupported(version))
