"""What cannot be compiled is refused with the field, and what to do instead."""

from __future__ import annotations

import pytest
from transformers import LlavaConfig

from autoprune.engines.export.refusals import check_config, check_schedule
from autoprune.engines.export.steps import steps_of, visual_alive
from autoprune.errors import ModelError, ScheduleError
from autoprune.schedule import Schedule

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
TEXT = {"name": "attention", "rows": "text"}


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        ({"layer": 2, "keep": {"mass": 0.9}, "criterion": TEXT}, "stages[1].keep.mass"),
        ({"layer": 2, "keep": {"threshold": 0.1}, "criterion": TEXT}, "stages[1].keep.threshold"),
        ({"layer": 2, "keep": {"ratio": 0.1}, "criterion": {"name": "encoder"}}, "stages[1].criterion.name"),
    ],
)
def test_schedules(stage, field):
    first = {"layer": 1, "keep": {"ratio": 0.5}, "criterion": TEXT}
    with pytest.raises(ScheduleError) as refused:
        check_schedule(Schedule.model_validate({"stages": [first, stage]}))
    assert refused.value.field == field
    assert refused.value.remedy


def config(**text):
    return LlavaConfig(text_config={"model_type": "llama", "num_hidden_layers": 4, **text})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (config(model_type="mistral"), "text_config.model_type"),
        (
            config(model_type="qwen2", layer_types=["sliding_attention"] * 4, sliding_window=8),
            "text_config.layer_types",
        ),
        (config(rope_parameters=DYNAMIC), "text_config.rope_parameters.rope_type"),
    ],
)
def test_models(given, field):
    with pytest.raises(ModelError) as refused:
        check_config(given)
    assert refused.value.field == field


def test_llama_and_qwen2_pass():
    check_config(config())
    check_config(config(model_type="qwen2"))


def test_counts_are_those_of_the_schedule():
    schedule = Schedule.model_validate(
        {
            "stages": [
                {"layer": 1, "keep": {"count": 500}, "criterion": TEXT},
                {"layer": 2, "keep": {"ratio": 0.5}, "criterion": TEXT},
                {"layer": 3, "keep": {"count": 7}, "criterion": TEXT},
                {"layer": 4, "keep": {"ratio": 0.0}},
            ]
        }
    )
    steps = steps_of(schedule, 144)
    assert [(step.stage.layer, step.before, step.after) for step in steps] == [(2, 144, 72), (3, 72, 7), (4, 7, 0)]
    assert visual_alive(steps, 144, 6) == [144, 144, 72, 7, 0, 0]
