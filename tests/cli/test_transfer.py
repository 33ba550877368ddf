from __future__ import annotations

import json

from autoprune.presets import himap
from autoprune.schedule import ModelIdentity, Schedule

BIG = ModelIdentity(name="big", model_type="llava", num_layers=24, hidden_size=64, config_sha256="0" * 64)


def of_another_model(folder, layers=(4, 12)):
    file = folder / "big.json"
    himap(layers=layers, keep=(0.5, 0.25)).model_copy(update={"model": BIG}).save(file)
    return file


def test_a_schedule_is_carried_over_and_says_how_far_it_moved(cli, tiny, rows, tmp_path):
    target = tmp_path / "small.json"
    argv = ("transfer", of_another_model(tmp_path), tiny, "--data", rows, "--rows", 8, "--local-search", 6)
    found = cli(*argv, "-o", target, "--json").json
    schedule = Schedule.load(target)
    assert found["source"] == {"model": "big", "depth": 24, "layers": [4, 12]}
    assert found["mapped"]["layers"] == [1, 3]
    assert found["found"]["layers"] == [s.layer for s in schedule.stages]
    assert found["found"]["flops_ratio"] <= found["mapped"]["flops_ratio"]
    assert found["samples"] == schedule.evidence["samples"] == 8
    assert schedule.model.num_layers == 6
    assert schedule.evidence["made_by"] == "autoprune transfer"
    assert cli("apply-check", tiny, target).code == 0
    again = cli(*argv, "-o", target)
    assert again.code == 2
    assert "--force" in again.err
    people = cli(*argv[:-1], 0, "-o", target, "--force")
    assert "From big, 24 layers; 8 rows" in people.out
    assert "autoprune verify" in people.err


def test_bad_input_is_named(cli, tiny, rows, tmp_path):
    target = tmp_path / "small.json"
    deep = of_another_model(tmp_path, layers=(22, 23))
    result = cli("transfer", deep, tiny, "--data", rows, "-o", target, "--json")
    assert result.code == 2
    assert "the model has layers 0 to 5" in result.json["error"]["message"]
    (tmp_path / "empty.jsonl").write_text("")
    empty = cli("transfer", of_another_model(tmp_path), tiny, "--data", tmp_path / "empty.jsonl", "-o", target)
    assert empty.code == 2
    assert "give a file with at least one row" in empty.err
    (tmp_path / "text.jsonl").write_text(json.dumps({"prompt": "what?", "answers": ["1"]}) + "\n")
    blind = cli("transfer", of_another_model(tmp_path), tiny, "--data", tmp_path / "text.jsonl", "-o", target)
    assert blind.code == 2
    assert "no row has an image" in blind.err
    assert not target.exists()
