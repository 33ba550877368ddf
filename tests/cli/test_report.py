from __future__ import annotations


def test_it_draws_the_page_and_the_picture_and_prints_the_front(cli, study_folder):
    result = cli("report", study_folder)
    assert result.code == 0, result.err
    assert (study_folder / "report.html").stat().st_size > 1_000_000
    assert (study_folder / "front.png").stat().st_size > 10_000
    for name in ("dense", "trial 26", "vtw", "himap"):
        assert name in result.out


def test_json(cli, study_folder):
    result = cli("report", study_folder, "--json").json
    assert [p.rsplit("/", 1)[1] for p in result["written"]] == ["report.html", "front.png"]
