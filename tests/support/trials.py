"""What the database of a study holds, read with Optuna alone."""

from __future__ import annotations

import optuna
from sqlalchemy import create_engine, text

from autoprune.search.spec import StudySpec


def stored(spec: StudySpec) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.RDBStorage(spec.storage_url)
    trials = optuna.load_study(study_name=spec.name, storage=storage).trials
    storage.engine.dispose()
    return trials


def assert_all_ended(spec: StudySpec, waiting: bool = False) -> None:
    """All trials have ended, their numbers have no gap, and complete ones have all values."""
    trials = stored(spec)
    assert [t.number for t in trials] == list(range(len(trials)))
    open_states = {t.state.name for t in trials if not t.state.is_finished()}
    assert open_states <= ({"WAITING"} if waiting else set())
    for trial in trials:
        assert (trial.values is not None) == (trial.state == optuna.trial.TrialState.COMPLETE)


def ended_twice(spec: StudySpec) -> list[str]:
    """Schedules of which more than one trial says that it was the first; one left unfinished may be taken up again."""
    whole = [t for t in stored(spec) if not t.user_attrs.get("measured", {}).get("unfinished")]
    keys = [t.user_attrs["candidate"]["key"] for t in whole if "duplicate_of" not in t.user_attrs]
    return sorted({k for k in keys if keys.count(k) > 1})


def attempts(spec: StudySpec) -> list[tuple[int, str]]:
    """(trial, outcome) of every attempt that the ledger has."""
    engine = create_engine(spec.storage_url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT trial, outcome FROM autoprune_attempts ORDER BY id")).all()
    engine.dispose()
    return [(int(trial), str(outcome)) for trial, outcome in rows]
