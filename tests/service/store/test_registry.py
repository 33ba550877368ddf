"""The registry on both databases: versions never change, aliases move, and nobody's version is lost."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from sqlalchemy import Engine

from autoprune.errors import ScheduleError
from autoprune.schedule import Schedule
from autoprune.schedule.validation import canonical
from autoprune.service.store.audit import Audit
from autoprune.service.store.lineage import Lineage, lineage_of
from autoprune.service.store.registry import Registry, UnknownScheduleError, Version


def schedule(layer: int = 2, **evidence: Any) -> Schedule:
    return Schedule.model_validate({"stages": [{"layer": layer, "keep": {"ratio": 0.0}}], "evidence": evidence})


def published(registry: Registry, name: str = "a", layer: int = 2) -> Version:
    return registry.publish(name, schedule(layer), Lineage(trial=layer), by="ann")[0]


@pytest.fixture
def registry(engine: Engine) -> Registry:
    return Registry(engine)


def test_versions_count_up_and_keep_their_content(registry: Registry) -> None:
    assert [published(registry, "a", layer).version for layer in (2, 3, 4)] == [1, 2, 3]
    assert published(registry, "b", 3).version == 1
    second = registry.version("a", 2)
    assert (second.by, second.lineage.trial, second.verdict) == ("ann", 3, None)
    assert registry.content(second) == schedule(3).to_json_dict()
    assert second.sha256 == hashlib.sha256(canonical(schedule(3).to_json_dict())).hexdigest()


def test_the_same_content_is_the_same_version(registry: Registry) -> None:
    first, new = registry.publish("a", schedule(), Lineage(), by="ann")
    published(registry, "a", 3)
    again, also_new = registry.publish("a", schedule(), Lineage(trial=7), by="bob")
    assert (new, also_new, again) == (True, False, first)
    assert len(registry.versions("a")) == 2
    assert registry.publish("a", schedule(accuracy=0.5), Lineage())[0].version == 3  # its evidence counts


def test_publishers_at_once_get_versions_of_their_own(registry: Registry) -> None:
    start = threading.Barrier(4)
    taken: list[int] = []
    failed: list[Exception] = []

    def publish(first: int) -> None:
        start.wait()
        try:
            for layer in range(first, first + 8):
                taken.append(published(registry, "a", layer).version)
        except Exception as error:  # noqa: BLE001 - a thread's error must reach the test
            failed.append(error)

    threads = [threading.Thread(target=publish, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(taken) == list(range(1, 33))


def test_the_same_content_published_at_once_is_one_version(registry: Registry) -> None:
    start = threading.Barrier(4)
    taken: list[tuple[int, bool]] = []

    def publish() -> None:
        start.wait()
        version, new = registry.publish("a", schedule(), Lineage())
        taken.append((version.version, new))

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [(1, False), (1, False), (1, False), (1, True)]


def test_aliases_move(registry: Registry) -> None:
    for layer in (2, 3):
        published(registry, "a", layer)
    assert registry.set_alias("a", "champion", 1, by="ann").aliases == {"champion": 1}
    assert registry.version("a", "champion").version == 1
    assert registry.set_alias("a", "champion", 2).aliases == {"champion": 2}
    assert registry.version("a", "champion").version == 2
    with pytest.raises(UnknownScheduleError, match="no such version"):
        registry.set_alias("a", "champion", 3)
    registry.drop_alias("a", "champion")
    for unknown in (lambda: registry.version("a", "champion"), lambda: registry.drop_alias("a", "champion")):
        with pytest.raises(UnknownScheduleError):
            unknown()


def test_tags(registry: Registry) -> None:
    published(registry)
    registry.set_tag("a", "owner", "ann")
    assert registry.set_tag("a", "owner", "bob").tags == {"owner": "bob"}
    registry.drop_tag("a", "owner")
    assert registry.get("a").tags == {}
    with pytest.raises(UnknownScheduleError, match="no such tag"):
        registry.drop_tag("a", "owner")


def test_a_verdict_changes_nothing_else(registry: Registry) -> None:
    before = published(registry)
    assert registry.record_verdict("a", 1, {"holds": True}).verdict == {"holds": True}
    after = registry.record_verdict("a", 1, {"holds": False, "drop": 0.1})
    assert after.verdict == {"holds": False, "drop": 0.1}
    assert (after.sha256, after.created, registry.content(after)) == (
        before.sha256,
        before.created,
        registry.content(before),
    )


def test_what_nobody_published(registry: Registry) -> None:
    published(registry)
    for unknown in (
        lambda: registry.get("b"),
        lambda: registry.versions("b"),
        lambda: registry.version("b", 1),
        lambda: registry.version("a", 2),
        lambda: registry.set_tag("b", "x", "y"),
        lambda: registry.set_alias("b", "x", 1),
        lambda: registry.record_verdict("a", 2, {}),
    ):
        with pytest.raises(UnknownScheduleError):
            unknown()
    with pytest.raises(ScheduleError, match="no text"):
        registry.publish("a", schedule(note="\ud800"), Lineage())


def test_pages(registry: Registry) -> None:
    for name in "cab":
        published(registry, name)
    first = registry.names(limit=2)
    assert [one.name for one in first] == ["a", "b"]
    assert [one.name for one in registry.names(after="b")] == ["c"]
    for layer in (3, 4):
        published(registry, "a", layer)
    assert registry.get("a").latest == 3
    assert [one.version for one in registry.versions("a", limit=2)] == [3, 2]
    assert [one.version for one in registry.versions("a", after=2)] == [1]


def test_changes_are_in_the_audit_log(registry: Registry, engine: Engine) -> None:
    published(registry)
    published(registry)  # changes nothing
    registry.set_alias("a", "champion", 1, by="bob")
    registry.set_tag("a", "owner", "ann", by="bob")
    registry.drop_tag("a", "owner", by="bob")
    registry.drop_alias("a", "champion", by="bob")
    registry.record_verdict("a", 1, {"holds": True})
    log = [(entry.who, entry.what) for entry in reversed(Audit(engine).page(on="a"))]
    verbs = [("ann", "publish"), *(("bob", verb) for verb in ("alias", "tag", "tag.delete", "alias.delete"))]
    assert log == [(who, f"schedule.{verb}") for who, verb in [*verbs, ("operator", "verdict")]]
    assert Audit(engine).page(what="schedule.alias")[0].detail == {"alias": "champion", "version": 1}


def test_evidence_of_any_form_has_a_lineage() -> None:
    told = {"study": "s", "trial": 4, "data": "validation", "data_digest": "abc", "versions": {"torch": "2", "odd": 5}}
    found = lineage_of(schedule(**told, model_fingerprint="f"))
    assert (found.study, found.trial, found.model_fingerprint) == ("s", 4, "f")
    assert (found.data, found.versions) == ({"validation": "abc"}, {"torch": "2"})
    odd = {"study": 1, "trial": "x", "data": [], "data_digest": {}, "versions": [], "made_by": None}
    assert lineage_of(schedule(**odd)) == Lineage()
