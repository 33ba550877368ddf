"""The registry: schedules published under a name and a version that never changes, aliases that move, and tags."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from autoprune.errors import AutopruneError, ScheduleError
from autoprune.schedule import Schedule
from autoprune.schedule.validation import canonical
from autoprune.service.store.audit import OPERATOR, record
from autoprune.service.store.lineage import Lineage
from autoprune.service.store.tables import ALIASES, SCHEDULES, TAGS, VERSIONS, now


class UnknownScheduleError(AutopruneError, KeyError):
    """There is no such schedule, version, alias or tag."""


@dataclass(frozen=True)
class ScheduleName:
    """A name under which schedules are published.

    Attributes:
        created: Seconds since 1970.
        latest: The newest version.
        aliases: Version of each alias.
        tags: Value of each tag.
    """

    name: str
    created: float
    latest: int
    aliases: Mapping[str, int]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Version:
    """A published schedule, without its content.

    Attributes:
        name: What it is published under.
        version: 1, 2, 3 … of the name.
        sha256: Of its canonical JSON, in hex.
        lineage: Where it comes from.
        by: Who published it.
        created: Seconds since 1970.
        verdict: What the last verification found, JSON values; None before the first.
    """

    name: str
    version: int
    sha256: str
    lineage: Lineage
    by: str
    created: float
    verdict: Mapping[str, Any] | None


_SHOWN = (*(column for column in VERSIONS.c if column.name != "content"), SCHEDULES.c.name)
_NAMED = VERSIONS.join(SCHEDULES, VERSIONS.c.schedule == SCHEDULES.c.number)


class Registry:
    """The registry in a database; every method is one transaction, and what is changed is in the audit log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = now(engine.dialect)

    def publish(self, name: str, schedule: Schedule, lineage: Lineage, by: str = OPERATOR) -> tuple[Version, bool]:
        """Adds a version of a name, which is made if it is new.

        Args:
            name: The name.
            schedule: As it is to be handed out: codebooks named from its own folder.
            lineage: Where it comes from.
            by: Who publishes it.

        Returns:
            The version that holds this content, and whether it is new.

        Raises:
            ScheduleError: its evidence holds what is no text.
        """
        try:
            content = canonical(schedule.to_json_dict())
        except UnicodeEncodeError:
            raise ScheduleError("is no text", field="evidence", remedy="write it as UTF-8") from None
        try:
            return self._publish(name, content, lineage, by)
        except IntegrityError:  # somebody made the name at the same moment
            return self._publish(name, content, lineage, by)

    def names(self, limit: int = 50, after: str = "") -> Sequence[ScheduleName]:
        """Names in their order, in pages.

        Args:
            limit: Most names of a page.
            after: The last name of the page before.
        """
        with self._engine.begin() as connection:
            asked = self._published().where(SCHEDULES.c.name > after).order_by(SCHEDULES.c.name).limit(limit)
            return self._described(connection, connection.execute(asked).all())

    def get(self, name: str) -> ScheduleName:
        """A name, with its aliases and tags.

        Raises:
            UnknownScheduleError: nothing is published under it.
        """
        with self._engine.begin() as connection:
            found = connection.execute(self._published().where(SCHEDULES.c.name == name)).all()
            if not found:
                raise _unknown_name(name)
            return self._described(connection, found)[0]

    def versions(self, name: str, limit: int = 50, after: int | None = None) -> Sequence[Version]:
        """Versions of a name, the newest first, in pages.

        Args:
            name: The name.
            limit: Most versions of a page.
            after: The last version of the page before.

        Raises:
            UnknownScheduleError: nothing is published under the name.
        """
        with self._engine.begin() as connection:
            asked = select(*_SHOWN).select_from(_NAMED).where(VERSIONS.c.schedule == self._number(connection, name))
            if after is not None:
                asked = asked.where(VERSIONS.c.version < after)
            return [_version(r) for r in connection.execute(asked.order_by(VERSIONS.c.version.desc()).limit(limit))]

    def version(self, name: str, wanted: str | int) -> Version:
        """A version.

        Args:
            name: The name.
            wanted: Its number, or an alias of it.

        Raises:
            UnknownScheduleError: there is none.
        """
        with self._engine.begin() as connection:
            row = self._one(connection, self._place(connection, name, wanted))
            assert row is not None, "was just found"
            return _version(row)

    def content(self, version: Version) -> dict[str, Any]:
        """The schedule of a version, as JSON values."""
        asked = select(VERSIONS.c.content).select_from(_NAMED)
        mine = and_(SCHEDULES.c.name == version.name, VERSIONS.c.version == version.version)
        with self._engine.begin() as connection:
            found: dict[str, Any] = json.loads(connection.execute(asked.where(mine)).scalar_one())
        return found

    def set_alias(self, name: str, alias: str, version: int, by: str = OPERATOR) -> ScheduleName:
        """Lets an alias lead to a version, wherever it led before.

        Raises:
            UnknownScheduleError: there is no such version.
        """
        with self._engine.begin() as connection:
            number = self._locked(connection, name)
            self._place(connection, name, version)
            self._put(connection, ALIASES, {"schedule": number, "alias": alias}, {"version": version})
            record(connection, by, "schedule.alias", name, alias=alias, version=version)
        return self.get(name)

    def set_tag(self, name: str, tag: str, value: str, by: str = OPERATOR) -> ScheduleName:
        """Gives a name a tag, or its tag another value.

        Raises:
            UnknownScheduleError: nothing is published under the name.
        """
        with self._engine.begin() as connection:
            number = self._locked(connection, name)
            self._put(connection, TAGS, {"schedule": number, "tag": tag}, {"value": value})
            record(connection, by, "schedule.tag", name, tag=tag, value=value)
        return self.get(name)

    def drop_alias(self, name: str, alias: str, by: str = OPERATOR) -> None:
        """Removes an alias.

        Raises:
            UnknownScheduleError: there is none.
        """
        self._drop(ALIASES, name, "alias", alias, by)

    def drop_tag(self, name: str, tag: str, by: str = OPERATOR) -> None:
        """Removes a tag.

        Raises:
            UnknownScheduleError: there is none.
        """
        self._drop(TAGS, name, "tag", tag, by)

    def record_verdict(self, name: str, version: int, verdict: Mapping[str, Any], by: str = OPERATOR) -> Version:
        """Notes what a verification of a version found, in place of what an earlier one did.

        Raises:
            UnknownScheduleError: there is no such version.
        """
        with self._engine.begin() as connection:
            mine = self._place(connection, name, version)
            connection.execute(update(VERSIONS).where(mine).values(verdict=json.dumps(verdict)))
            record(connection, by, "schedule.verdict", name, version=version)
        return self.version(name, version)

    # -- rows -----------------------------------------------------------------------------------------------------

    def _publish(self, name: str, content: bytes, lineage: Lineage, by: str) -> tuple[Version, bool]:
        digest = hashlib.sha256(content).hexdigest()
        with self._engine.begin() as connection:
            number = self._locked(connection, name, made=True)
            same = and_(VERSIONS.c.schedule == number, VERSIONS.c.sha256 == digest)
            if (known := self._one(connection, same)) is not None:
                return _version(known), False
            last = select(func.max(VERSIONS.c.version)).where(VERSIONS.c.schedule == number)
            version = (connection.execute(last).scalar() or 0) + 1
            row = {"content": content.decode(), "lineage": json.dumps(asdict(lineage)), "by": by, "created": self._now}
            connection.execute(insert(VERSIONS).values(schedule=number, version=version, sha256=digest, **row))
            record(connection, by, "schedule.publish", name, version=version, sha256=digest)
            published = self._one(connection, same)
            assert published is not None, "was just written"
            return _version(published), True

    def _locked(self, connection: Connection, name: str, made: bool = False) -> int:
        """Number of a name, which nobody else changes until the transaction ends: it begins by writing.

        Args:
            connection: The transaction.
            name: The name.
            made: Whether it is made if it is new.
        """
        mine = update(SCHEDULES).where(SCHEDULES.c.name == name).values(name=name).returning(SCHEDULES.c.number)
        found: int | None = connection.execute(mine).scalar()
        if found is None and made:
            row = insert(SCHEDULES).values(name=name, created=self._now).returning(SCHEDULES.c.number)
            found = connection.execute(row).scalar()
        if found is None:
            raise _unknown_name(name)
        return found

    @staticmethod
    def _number(connection: Connection, name: str) -> int:
        found: int | None = connection.execute(select(SCHEDULES.c.number).where(SCHEDULES.c.name == name)).scalar()
        if found is None:
            raise _unknown_name(name)
        return found

    def _place(self, connection: Connection, name: str, wanted: str | int) -> Any:
        """Where the row of a version is.

        Raises:
            UnknownScheduleError: there is none.
        """
        number = self._number(connection, name)
        led: int | None
        if isinstance(wanted, int) or (wanted.isdecimal() and len(wanted) < 10):
            led = int(wanted)
        else:
            mine = and_(ALIASES.c.schedule == number, ALIASES.c.alias == wanted)
            led = connection.execute(select(ALIASES.c.version).where(mine)).scalar()
        place = and_(VERSIONS.c.schedule == number, VERSIONS.c.version == led)
        if led is None or self._one(connection, place) is None:
            known = f"see the versions and aliases of {name}"
            raise UnknownScheduleError("no such version", field="version", value=wanted, remedy=known)
        return place

    @staticmethod
    def _one(connection: Connection, place: Any) -> Row[Any] | None:
        return connection.execute(select(*_SHOWN).select_from(_NAMED).where(place)).first()

    @staticmethod
    def _published() -> Any:
        """Names with their newest version."""
        latest = func.max(VERSIONS.c.version).label("latest")
        shown = (SCHEDULES.c.number, SCHEDULES.c.name, SCHEDULES.c.created)
        return select(*shown, latest).select_from(_NAMED).group_by(*shown)

    @staticmethod
    def _described(connection: Connection, rows: Sequence[Row[Any]]) -> list[ScheduleName]:
        numbers = [row.number for row in rows]
        aliases: dict[int, dict[str, int]] = {number: {} for number in numbers}
        tags: dict[int, dict[str, str]] = {number: {} for number in numbers}
        for one in connection.execute(select(ALIASES).where(ALIASES.c.schedule.in_(numbers)).order_by(ALIASES.c.alias)):
            aliases[one.schedule][one.alias] = one.version
        for one in connection.execute(select(TAGS).where(TAGS.c.schedule.in_(numbers)).order_by(TAGS.c.tag)):
            tags[one.schedule][one.tag] = one.value
        return [ScheduleName(r.name, r.created, r.latest, aliases[r.number], tags[r.number]) for r in rows]

    @staticmethod
    def _put(connection: Connection, table: Table, key: dict[str, Any], value: dict[str, Any]) -> None:
        mine = and_(*(table.c[name] == part for name, part in key.items()))
        if connection.execute(update(table).where(mine).values(**value)).rowcount == 0:
            connection.execute(insert(table).values(**key, **value))

    def _drop(self, table: Table, name: str, kind: str, wanted: str, by: str) -> None:
        with self._engine.begin() as connection:
            number = self._locked(connection, name)
            mine = delete(table).where(table.c.schedule == number, table.c[kind] == wanted)
            if connection.execute(mine).rowcount == 0:
                raise UnknownScheduleError(f"no such {kind}", field=kind, value=wanted)
            record(connection, by, f"schedule.{kind}.delete", name, **{kind: wanted})


def _unknown_name(name: str) -> UnknownScheduleError:
    return UnknownScheduleError("no schedule of this name", field="name", value=name, remedy="see GET /v1/schedules")


def _version(row: Row[Any]) -> Version:
    return Version(
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        lineage=Lineage(**json.loads(row.lineage)),
        by=row.by,
        created=row.created,
        verdict=None if row.verdict is None else json.loads(row.verdict),
    )
