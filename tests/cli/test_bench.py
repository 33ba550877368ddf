"""``autoprune bench``: one object, tables for people, and what is refused before anything runs."""

from __future__ import annotations

import json

import pytest

import autoprune
from autoprune.models.config import read_config
from autoprune.schedule import Schedule

SMALL = ("--visual-tokens", 12, "--text-tokens", 6, "--new-tokens", 3, "--repeats", 2)


def test_one_object_with_all_settings(cli, tiny, schedule_file):
    result = cli("bench", tiny, schedule_file, "vtw", *SMALL, "--visual-tokens", 20, "--batch-size", 2, "--json").json
    assert [(s["batch_size"], s["visual_tokens"]) for s in result["settings"]] == [(2, 12), (2, 20)]
    config, schedule = read_config(tiny), Schedule.load(schedule_file)
    for setting in result["settings"]:
        first, second = setting["pruned"]
        assert (first["name"], second["name"]) == (str(schedule_file), "vtw")
        price = autoprune.cost(config, schedule, setting["visual_tokens"], 6, 3, dtype_bytes=4)
        assert first["flops_ratio"] == price.ratio
        assert first["arm"]["kv_bytes"] == first["arm"]["kv_bytes_plan"] == 2 * price.kv_bytes
        for arm in (setting["dense"], first["arm"], second["arm"]):
            assert arm["prefill_ms"]["median"] >= arm["decoder_ms"]["median"] > 0
            assert arm["decode_ms"]["median"] > 0
        assert set(first["overheads"]) == {"scorer", "gather", "keep_all", "decode"}
    assert result["machine"]["threads"] > 0
    assert result["dtype"] == "float32"
    assert not result["random_init"]
    assert "saved_ratio" in result["definitions"]


def test_a_config_alone_cut_to_a_few_layers(cli, tiny, tmp_path):
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = ("--random-init", "--layers", 4, "--dtype", "bfloat16", *SMALL)
    shown = cli("bench", tmp_path / "config.json", "fastv", *options)
    assert shown.code == 0, shown.err
    for words in ("time saved ÷ FLOPs saved", "fastv", "4 decoder layers, random weights, bfloat16", "saved ÷"):
        assert words in shown.out
    once = ("--repeats", 1, "--warmup", 0, "--new-tokens", 1, "--visual-tokens", 6)
    assert cli("bench", tmp_path, "vtw", "--random-init", "--layers", 4, *once, "--json").json["layers"] == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("vtww",), "preset"),
        (("vtw", "--layers", 2), "--random-init"),
        (("vtw", "--layers", 9, "--random-init"), "1 to 6"),
        (("vtw", "--dtype", "int3"), "dtype"),
        (("vtw", "--device", "cuda:77"), "device"),
        (("vtw", "--repeats", 0), "--repeats"),
        (("pyramiddrop", "--random-init", "--layers", 2), "needs layer"),
    ],
)
def test_what_is_refused(cli, tiny, arguments, named):
    result = cli("bench", tiny, *arguments)
    assert result.code == 2
    assert result.out == ""
    assert named in result.err
    assert result.err.strip().splitlines()[-1].startswith("error: ")


def test_no_such_model(cli, tmp_path):
    assert cli("bench", tmp_path, "vtw").code == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("vtw", "--engine-option", "seed=1"), "--engine-option"),
        (("vtw", "--engine", "vllm", "--visual-tokens", 9), "--visual-tokens"),
        (("vtw", "--engine", "vllm", "--layers", 2), "--layers"),
        (("--engine", "vllm"), "SCHEDULE"),
        (("vtw", "fastv", "--engine", "vllm"), "SCHEDULE"),
    ],
)
def test_options_that_are_not_of_the_engine(cli, tiny, options, field):
    found = cli("bench", tiny, *options, "--json")
    assert (found.code, found.json["error"]["field"]) == (2, field)


def test_rounds_in_vllm_as_a_table_and_as_an_object(cli, tiny, monkeypatch):
    from autoprune.engines.vllm.comparison import timing
    from autoprune.evaluate.timing import Spread

    asked = []

    def measured(model, loading, plan, given, say):
        asked.append((plan, given))
        arm = timing.EngineArm(Spread(123.0, 4.0), Spread(2.5, 0.25), Spread(40.0, 1.0))
        setting = timing.EngineSetting(8, arm, arm, Spread(0.75, 0.5), Spread(1.5, 0.1))
        machine = {"cpu": "a CPU", "gpu": None, "cores": 2, "threads": 1}
        missing = {"GPU": "none was used"}
        return timing.EngineBenchmark(
            "0.32.0", "layers", 90, [90, 9], machine, {"dtype": "float32"}, missing, [setting]
        )

    monkeypatch.setattr(timing, "benchmark_engine", measured)
    line = ("bench", tiny, "vtw", "--engine", "vllm", "--batch-size", 8, "--engine-option", "max_model_len=64")
    shown = cli(*line)
    assert shown.code == 0, shown.err
    for words in ("8 requests at once", "123 [4]", "2.50 [0.25]", "0.75 [0.50]", "Medians of 20 rounds", "[90, 9]"):
        assert words in shown.out
    assert "GPU: not measured: none was used." in shown.out
    found = cli(*line, "--repeats", 30, "--json").json
    assert (found["engine"], found["repeats"], found["settings"][0]["requests_ratio"]["median"]) == ("vllm", 30, 1.5)
    assert [plan.repeats for plan, _ in asked] == [20, 30]
    assert asked[0][1] == {"max_model_len": 64}
