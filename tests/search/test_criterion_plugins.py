"""A study whose space names a criterion of another package: it is drawn, evaluated, priced, saved and shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.plugins import install
from support.scenes import save_rows, save_tiny
from support.studies import tiny_spec, write_study

from autoprune.errors import StudyError
from autoprune.report.page import render_page
from autoprune.schedule import parse_criterion
from autoprune.search.driver import run_study
from autoprune.search.front import FrontFile
from autoprune.search.spec import StudySpec

SPACE = {"layers": [1, 2], "keep": [0.25, 0.5], "criteria": ["acme/norm"], "max_stages": 1}


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "site")


@pytest.mark.usefixtures("acme")
def test_a_study_searches_with_a_criterion_of_another_package(tmp_path: Path) -> None:
    model, rows = save_tiny(tmp_path / "model", eos_bias=2.5), save_rows(tmp_path)
    spec = tiny_spec(
        tmp_path / "study",
        model={"path": str(model)},
        data={"calibration": {"path": str(rows), "samples": 2}},
        space=SPACE,
        baselines=[],
        search={"trials": 10, "racing": False},
        objectives=["flops", "kl"],
    )
    assert spec.space.criteria[0] == parse_criterion("acme/norm")
    (tmp_path / "again.yaml").write_text(spec.to_yaml())
    assert StudySpec.load(tmp_path / "again.yaml") == spec

    front = run_study(spec).front
    drawn = [s.criterion for p in front.points for s in p.schedule.stages if s.criterion]
    assert {criterion.label for criterion in drawn} == {"acme/norm"}
    assert drawn[0].to_json_dict() == {"name": "acme/norm", "requires": "acme-pruning>=1.2"}
    assert FrontFile.load(spec.output_path) == front
    page = render_page(front)
    assert "length of the hidden state" in page
    assert drawn[0].color.light in page


def test_a_study_file_that_names_a_missing_criterion_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        StudySpec.load(write_study(tmp_path, space=SPACE))
    assert "space.criteria[0]" in str(caught.value)
    assert "install the package of 'acme'" in str(caught.value)
