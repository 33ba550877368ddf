"""The static prefill and decode step against autoprune on transformers, before any export."""

from __future__ import annotations

import pytest
import torch
from support.codebooks import with_codebook

from autoprune.engines.export.decode import Decode
from autoprune.engines.export.prefill import Prefill
from autoprune.engines.export.steps import steps_of
from autoprune.engines.export.vision import PIXELS, Vision, settings_of
from autoprune.evaluate.encoding import model_inputs
from autoprune.runtime import apply
from autoprune.runtime.decoder import find_decoder, visual_token_ids
from autoprune.schedule import Schedule


def attention(rows: str, **options: object) -> dict[str, object]:
    return {"name": "attention", "rows": rows, **options}


def stages(*given: tuple[int, float, dict[str, object] | None], merge: bool = False) -> Schedule:
    made = [
        {"layer": layer, "keep": {"ratio": keep}}
        | ({"criterion": criterion} if criterion else {})
        | ({"merge": "mean"} if merge and criterion else {})
        for layer, keep, criterion in given
    ]
    return Schedule.model_validate({"stages": made})


UNIFORM, RANDOM, DIVERSITY = {"name": "uniform"}, {"name": "random", "seed": 3}, {"name": "diversity"}
SCHEDULES = {
    "dense": Schedule(),
    "withdrawal": stages((2, 0.0, None)),
    "withdrawal before the decoder": stages((0, 0.0, None)),
    "last": stages((1, 0.5, attention("last"))),
    "text": stages((1, 0.5, attention("text"))),
    "visual": stages((1, 0.5, attention("visual"))),
    "all": stages((1, 0.5, attention("all"))),
    "raters": stages((1, 0.5, attention("raters"))),
    "rows in turn": stages((1, 0.75, attention("text")), (2, 0.5, attention("visual")), (4, 0.1, attention("all"))),
    "heads": stages((1, 0.5, attention("text", heads="max")), (3, 0.25, attention("last", heads="sum"))),
    "mean": stages((2, 0.5, attention("text", reduce="mean"))),
    "causal": stages((1, 0.5, attention("all", normalize="causal"))),
    "combined": stages((1, 0.5, attention("text", combine="visual"))),
    "layer itself": stages((0, 0.5, attention("last", at="current")), (3, 0.25, attention("all", at="current"))),
    "uniform": stages((0, 0.5, UNIFORM), (3, 0.3, UNIFORM), (5, 0.0, None)),
    "random": stages((0, 0.5, RANDOM), (3, 0.25, RANDOM)),
    "diversity": stages((0, 0.5, DIVERSITY), (2, 0.25, DIVERSITY)),
    "merged": stages((0, 0.5, DIVERSITY), (2, 0.25, attention("raters")), merge=True),
    "compact": stages((0, 0.5, UNIFORM), (2, 0.25, attention("text"))).model_copy(update={"positions": "compact"}),
    "count": Schedule.model_validate(
        {
            "stages": [
                {"layer": 1, "keep": {"count": 9}, "criterion": attention("last")},
                {"layer": 2, "keep": {"ratio": 1.0}},
            ]
        }
    ),
}


def parts_of(loaded, schedule, sample):
    inputs = model_inputs(loaded, [sample])
    features = Vision(loaded.model, settings_of(loaded.model, inputs))(inputs[PIXELS])
    decoder, steps = find_decoder(loaded.model), steps_of(schedule, len(features))
    compact = schedule.positions == "compact"
    prefill = Prefill(loaded.model, decoder, steps, len(features), visual_token_ids(loaded.config), compact)
    return inputs, features, prefill, Decode(loaded.model, decoder, compact)


@pytest.mark.parametrize("row", [0, 2], ids=["one image", "two images"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_prefill_and_decode_are_those_of_autoprune(loaded, data, name, row):
    schedule = SCHEDULES[name]
    inputs, features, prefill, decode = parts_of(loaded, schedule, data[row])
    next_token = torch.tensor([[9]])
    position = torch.tensor([[inputs["input_ids"].shape[1]]])
    with torch.no_grad():
        logits, *cache = prefill(inputs["input_ids"], features)
        after, *_ = decode(next_token, position, cache)
        with apply(loaded.model, schedule) as patch:
            wanted = loaded.model(**inputs, use_cache=True)
            entries = patch.report.kv_entries[:, 0].tolist()
            wanted_after = loaded.model(next_token, past_key_values=wanted.past_key_values)
    assert [key.shape[2] for key in cache[::2]] == entries
    torch.testing.assert_close(logits, wanted.logits[:, -1], atol=1e-4, rtol=0)
    torch.testing.assert_close(after, wanted_after.logits[:, -1], atol=1e-4, rtol=0)


def test_a_codebook(loaded, data, tmp_path):
    width = loaded.config.text_config.hidden_size
    schedule = with_codebook(tmp_path / "book.safetensors", width=width)
    inputs, features, prefill, _ = parts_of(loaded, schedule, data[0])
    with torch.no_grad(), apply(loaded.model, schedule):
        logits, *_ = prefill(inputs["input_ids"], features)
        torch.testing.assert_close(logits, loaded.model(**inputs).logits[:, -1], atol=1e-4, rtol=0)
