from __future__ import annotations

from autoprune.presets import dense, vtw
from autoprune.schedule import Schedule


def test_tokens_entries_and_the_exact_undo(cli, tiny, schedule_file):
    result = cli("apply-check", tiny, schedule_file, "--json").json
    assert result["fired"]
    assert result["undone"]
    assert result["visual_tokens"] == 16
    assert result["visual_alive"] == [16, 8, 8, 4, 4, 4]
    text = result["text_tokens"]
    assert result["tokens"] == result["kv_entries"] == [16 + text, 8 + text, 8 + text, 4 + text, 4 + text, 4 + text]
    assert 0 < result["flops_ratio"] < 1
    assert result["kv_ratio"] == sum(result["tokens"]) / (6 * (16 + text))


def test_a_real_row(cli, tiny, rows, schedule_file):
    shown = cli("apply-check", tiny, schedule_file, "--data", rows)
    assert shown.code == 0, shown.err
    assert "every stage fired" in shown.out
    assert "bit-identical" in shown.out


def test_a_withdrawal_and_no_pruning(cli, tiny, tmp_path):
    vtw(2).save(tmp_path / "vtw.json")
    assert cli("apply-check", tiny, tmp_path / "vtw.json", "--json").json["visual_alive"] == [16, 16, 0, 0, 0, 0]
    Schedule.model_validate(
        {"stages": [{"layer": 1, "keep": {"ratio": 1.0}}, {"layer": 3, "keep": {"ratio": 0.0}}]}
    ).save(tmp_path / "noop.json")
    assert cli("apply-check", tiny, tmp_path / "noop.json", "--json").code == 0
    dense().save(tmp_path / "dense.json")
    shown = cli("apply-check", tiny, tmp_path / "dense.json", "--json")
    assert shown.code == 0
    assert shown.json["flops_ratio"] == 1
    assert shown.json["max_logit_change"] == 0
