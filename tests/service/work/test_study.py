"""The work of a job that is a study, beside what the search itself does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from support.codebooks import with_codebook
from support.fronts import make_front

from autoprune.schedule.bundle import codebooks_of
from autoprune.search.driver import RunOutcome
from autoprune.search.front import FrontFile
from autoprune.search.workers.protocol import ignore
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import Jobs
from autoprune.service.work import study as work


def test_codebooks_of_a_front_are_kept_as_the_study_used_them(
    engine: Engine, settings: Settings, study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    schedule = with_codebook(settings.roots[0] / "book.safetensors")
    front = make_front()
    front["points"][0]["schedule"]["stages"] = schedule.to_json_dict()["stages"]
    outcome = RunOutcome(FrontFile.model_validate(front), tmp_path, None, {})
    monkeypatch.setattr(work, "run_study", lambda spec, on_event: outcome)
    monkeypatch.setattr(work, "load_samples", lambda *_, **__: [])
    monkeypatch.setattr(work, "write_report", lambda *_: None)
    job, _ = Jobs(engine).submit("study", "digits", study)
    assert work.work_on_study(job, settings, ignore)
    (book,) = codebooks_of(schedule)
    assert settings.codebook_file(book.sha256).read_bytes() == (settings.roots[0] / "book.safetensors").read_bytes()
