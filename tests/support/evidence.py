"""What the evidence of every schedule that was chosen by measuring must say."""

from __future__ import annotations

from importlib.metadata import version

from autoprune.data.samples import SampleSet
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Schedule


def check_evidence(schedule: Schedule, command: str, loaded: LoadedModel, data: SampleSet) -> None:
    expected = {
        "made_by": command,
        "data": data.name,
        "data_digest": data.digest,
        "samples": len(data),
        "model_fingerprint": loaded.fingerprint,
    }
    assert {name: schedule.evidence.get(name) for name in expected} == expected
    assert schedule.evidence["versions"]["torch"] == version("torch")
