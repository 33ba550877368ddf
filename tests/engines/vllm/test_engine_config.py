"""What schedules ask of a real config of vLLM: that options are where they are looked for, and that images have room.

Needs vLLM; `.ci/run engines` makes an environment with it.
"""

from __future__ import annotations

import importlib.util
import json
import operator
from types import SimpleNamespace
from typing import Any

import pytest
from support.vllm_runs import DEEP, DIGITS

from autoprune.engines.vllm import plugin
from autoprune.engines.vllm.refusals import ANYWHERE, LAYERS, PROMPTS
from autoprune.engines.vllm.serving import OPTION, VARIABLE, Serving, served

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: .ci/run engines"),
    pytest.mark.slow,
    pytest.mark.timeout(900),  # vLLM takes long to import where others use the machine
]
SCHEDULE = DIGITS / "schedule.json"
TOKENS = 1024


def config_of(**options: Any) -> Any:
    from vllm.engine.arg_utils import EngineArgs

    plugin.register()
    arguments = EngineArgs(
        str(DIGITS / "model"), dtype="float32", max_model_len=512, max_num_batched_tokens=TOKENS, **options
    )
    return arguments.create_engine_config()


@pytest.fixture(scope="module")
def deep() -> Any:
    return config_of(hf_overrides={OPTION: str(SCHEDULE)}, **DEEP)


def test_every_option_is_where_it_is_looked_for(deep) -> None:
    from vllm.config import LoRAConfig

    for row in ANYWHERE + PROMPTS + LAYERS:
        owner, _, name = row.path.rpartition(".")
        value: Any = operator.attrgetter(owner)(deep) if owner else deep
        if owner == "lora_config":  # None unless adapters are asked for
            value = LoRAConfig()
        assert hasattr(value, name), row.path


def test_the_schedule_is_in_the_config_that_workers_are_handed(deep, monkeypatch) -> None:
    import pickle

    monkeypatch.setenv(VARIABLE, "elsewhere.json")  # of another process
    handed = pickle.loads(pickle.dumps(deep))
    found = served(handed.model_config)
    assert found is not None
    assert found[1] is Serving.LAYERS
    assert [stage.layer for stage in found[0].stages] == [
        stage["layer"] for stage in json.loads(SCHEDULE.read_text())["stages"]
    ]


def test_a_step_that_is_scheduled_before_the_last_one_is_over_has_room_for_its_images(deep) -> None:
    from vllm.v1.core.encoder_cache_manager import EncoderCacheManager, compute_mm_encoder_budget

    budget, room = compute_mm_encoder_budget(deep.scheduler_config, {"image": 100})
    cache = EncoderCacheManager(cache_size=room)
    before: list[Any] = []
    for step in range(4):
        requests = [request(f"{step}-{i}", TOKENS // 4) for i in range(4)]
        left = budget
        for one in requests:
            assert cache.can_allocate(one, 0, left, 0)
            cache.allocate(one, 0)
            left -= TOKENS // 4
        for one in before:
            cache.free_encoder_input(one, 0)
        before = requests


def request(name: str, n: int) -> Any:
    feature = SimpleNamespace(identifier=f"image of {name}")
    return SimpleNamespace(request_id=name, mm_features=[feature], get_num_encoder_embeds=lambda _: n)


def test_without_a_schedule_nothing_is_changed() -> None:
    plain = config_of()
    assert served(plain.model_config) is None
    assert plain.scheduler_config.encoder_cache_size == TOKENS
