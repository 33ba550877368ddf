from __future__ import annotations

from autoprune.cli.progress import StudyView
from autoprune.search.workers.protocol import Event


def trial(number, flops, accuracy, state="COMPLETE", **more):
    values = [flops, accuracy] if state == "COMPLETE" else None
    return Event("trial", "told", number, 10, {"trial": number, "state": state, "name": "", "values": values, **more})


def test_a_log_names_phases_counts_and_the_best_so_far(capsys, monkeypatch):
    monkeypatch.setattr("autoprune.cli.progress._PLAIN_EVERY", 0.0)
    with StudyView(["flops", "accuracy"]) as view:
        view.listen(Event("phase", "searching", 0, 10))
        view.listen(trial(1, 0.5, 0.9))
        view.listen(trial(2, 0.4, 0.95))
        view.listen(trial(3, 0.2, 0.8))
        view.listen(trial(4, 0.1, 0.0, state="PRUNED"))
        view.listen(trial(5, 0.4, 0.95, duplicate_of=2))
        view.listen(Event("warning", "a worker died [really]"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "searching 0/10"
    assert "searching 5/10" in lines[-2]
    assert lines[-2].endswith("best so far: 0.950 at 40.0% (trial 2) · 0.800 at 20.0% (trial 3)")
    assert lines[-1] == "warning: a worker died [really]"


def test_kl_ranks_the_other_way_round(capsys, monkeypatch):
    monkeypatch.setattr("autoprune.cli.progress._PLAIN_EVERY", 0.0)
    with StudyView(["kv_bytes", "kl"]) as view:
        view.listen(Event("phase", "searching", 0, 10))
        view.listen(trial(1, 0.5, 0.3))
        view.listen(trial(2, 0.4, 0.1))
    assert "best so far: 0.100 nats at 40.0% (trial 2)" in capsys.readouterr().err
