from __future__ import annotations

from autoprune import presets
from autoprune.schedule import Schedule


def test_every_preset_is_listed_as_a_schedule_for_the_depth(cli):
    listed = cli("presets", "--layers", "12", "--json").json["presets"]
    assert set(listed) == set(presets.NAMES)
    for name, schedule in listed.items():
        assert Schedule.model_validate(schedule).key == presets.for_depth(name, 12).key


def test_a_model_too_shallow_for_a_preset_is_said(cli):
    result = cli("presets", "--layers", "2", "--json").json
    assert "pyramiddrop" in result["refused"]
    assert "vtw" in result["presets"]


def test_people_get_words(cli):
    out = cli("presets").out
    assert "before layer 16: withdraw all visual tokens" in out
    assert "before layer 2: keep 50 % by attention of the last prompt token" in out
