"""Evidence of a schedule: the command that chose it, the rows, model and packages it was measured with, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def measured_evidence(
    made_by: str,
    *,
    data: str,
    data_digest: str,
    samples: int,
    model_fingerprint: str,
    versions: Mapping[str, str],
    **facts: Any,
) -> dict[str, Any]:
    """The `evidence` of a schedule that was chosen by measuring; one set of keys, whichever command chose it.

    Args:
        made_by: The command that chose the schedule.
        data: Name of the rows that were measured.
        data_digest: Their digest.
        samples: How many rows.
        model_fingerprint: Of the model that was measured.
        versions: {package: version} of what was measured with.
        facts: Settings and figures of this command, by name; JSON values.
    """
    return {
        "made_by": made_by,
        **facts,
        "data": data,
        "data_digest": data_digest,
        "samples": samples,
        "model_fingerprint": model_fingerprint,
        "versions": dict(versions),
    }
