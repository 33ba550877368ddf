"""Does every kind of harm to a small study, resumes it, and counts what was lost, doubled or hung.

    python studies/faults/run.py                    # all kinds: outcome.json, and the table of outcome.md
    python studies/faults/run.py signals workers    # those of some files; their rows are replaced
    python studies/faults/run.py --only postgres    # those whose name holds a word; likewise

Exit 1 if any kind was not survived. Disks that are full need the right to mount one; PostgreSQL has to be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "tests")]

import databases  # noqa: E402 - each adds its kinds to the table
import files  # noqa: E402
import signals  # noqa: E402
import workers  # noqa: E402
from kinds import KINDS, Kind  # noqa: E402
from scene import Driver, Scene  # noqa: E402
from support.postgres import Postgres, postgres_programs, running_postgres  # noqa: E402

_FILES = tuple(module.__name__ for module in (databases, files, signals, workers))
_RESUME_S, _LEFT_S = 300, 60
_TABLE = "| fault |"


@dataclass
class Outcome:
    """What one kind of fault did.

    Attributes:
        exit: Exit code of the driver; negative = the signal that killed it.
        said: Its error, or its last warning.
        seconds: From its start to its end.
        before: Trials that were finished before the study was resumed.
        after: The same after it was resumed.
        lost: Trials that were finished before and are not, or not with the same values, afterwards.
        doubled: Schedules that were finished twice.
        hung: Whether a driver was over its limit.
        problems: What else was not as it should be.
    """

    kind: str
    exit: int | None
    said: str
    seconds: float
    before: int = 0
    after: int = 0
    lost: int = 0
    doubled: int = 0
    hung: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def is_survived(self) -> bool:
        return not (self.lost or self.doubled or self.hung or self.problems)


def observed(kind: Kind, server: Postgres | None) -> Outcome:
    """Harms a study and resumes it."""
    folder = Path(tempfile.mkdtemp(prefix="af", dir="/tmp"))  # short: Ray makes sockets below it
    # A database of its own: what another study has measured would not be measured again.
    storage = server.new_database() if server and kind.database == "postgresql" else None
    scene = Scene(folder, workers=kind.workers, storage=storage, **kind.sections)
    steps = kind.begin(scene, server)
    try:
        driver = next(steps)
        driver.end(kind.limit_s)
        seconds = time.monotonic() - driver.began
        next(steps, None)
        left = _left_over(scene)
        before = scene.finished()
        scene.steer("slow", "0")
        again = scene.start(None, "--workers", "0")
        again.end(_RESUME_S)
        after = scene.finished()
        return Outcome(
            kind=kind.name,
            exit=driver.code,
            said=driver.message.replace(str(folder), "…"),
            seconds=round(seconds, 1),
            before=len(before),
            after=len(after),
            lost=sum(after.get(number) != ended for number, ended in before.items()),
            doubled=len(scene.doubled()),
            hung=driver.hung or again.hung,
            problems=_problems(kind, driver, again, left),
        )
    except AssertionError as error:  # the harm could not be done
        return Outcome(kind.name, None, "", 0, problems=[str(error)[-300:]])
    finally:
        steps.close()
        scene.close()
        shutil.rmtree(folder, ignore_errors=True)


def _left_over(scene: Scene) -> list[str]:
    """Programs that still run some time after the driver ended."""
    end = time.monotonic() + _LEFT_S
    while (left := scene.processes()) and time.monotonic() < end:
        time.sleep(0.5)
    named = [Path(f"/proc/{p}/comm") for p in left]
    scene.close()
    return [file.read_text().strip() for file in named if file.exists()]


def _problems(kind: Kind, driver: Driver, again: Driver, left: list[str]) -> list[str]:
    found = []
    if driver.code not in kind.exits:
        found.append(f"exit {driver.code}, not {' or '.join(map(str, kind.exits))}")
    for name, one in (("it", driver), ("the resumed driver", again)):
        if "Traceback" in one.err + one.out:
            found.append(f"{name} shows a traceback")
        if one.code is not None and one.code >= 0 and not _is_one_object(one.out):
            found.append(f"{name} has something besides one object on stdout")
    if "bug" in driver.message and not kind.is_foreign:
        found.append("an outside cause is called a bug")
    if left:
        found.append(f"left running: {', '.join(sorted(set(left)))}")
    if again.code != 0 or '"complete": true' not in again.out:
        found.append(f"not resumed: exit {again.code}: {again.message[:200]}")
    return found


def _is_one_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _write(outcomes: dict[str, Outcome]) -> None:
    known = [outcomes[kind.name] for kind in KINDS if kind.name in outcomes]
    (HERE / "outcome.json").write_text(json.dumps([asdict(o) for o in known], indent=1, ensure_ascii=False) + "\n")
    page = HERE / "outcome.md"
    head = page.read_text(encoding="utf-8").partition(_TABLE)[0] if page.exists() else "# faults\n\n"
    page.write_text(head + _table(known), encoding="utf-8")


def _table(outcomes: list[Outcome]) -> str:
    lines = [f"{_TABLE} exit | what it says | s | finished before → after | lost | doubled | hung |", "|---" * 8 + "|"]
    for o in outcomes:
        said = (o.said[:150] + ("…" if len(o.said) > 150 else "")).replace("|", "/") or "–"
        ends = f"{signal.Signals(-o.exit).name}" if o.exit is not None and o.exit < 0 else o.exit
        name = o.kind + (f" **{'; '.join(o.problems)}**" if o.problems else "")
        lines.append(
            f"| {name} | {ends} | {said} | {o.seconds:.0f} | {o.before} → {o.after} "
            f"| {o.lost} | {o.doubled} | {'yes' if o.hung else 'no'} |"
        )
    total = f"{len(outcomes)} kinds: {sum(o.lost for o in outcomes)} lost, {sum(o.doubled for o in outcomes)} doubled, "
    return "\n".join(lines) + f"\n\n{total}{sum(o.hung for o in outcomes)} hung.\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="kinds of databases, files, signals or workers")
    parser.add_argument("--only", metavar="WORD", default="", help="kinds whose name holds this word")
    asked = parser.parse_args()
    if unknown := set(asked.files) - set(_FILES):
        parser.error(f"no file {', '.join(sorted(unknown))}; there are {', '.join(_FILES)}")
    of_files = [kind for kind in KINDS if not asked.files or kind.harm.__module__ in asked.files]
    chosen = [kind for kind in of_files if asked.only.lower() in kind.name.lower()]
    if not chosen:
        parser.error(f"no kind has {asked.only!r} in its name")
    written = HERE / "outcome.json"
    earlier = json.loads(written.read_text()) if len(chosen) < len(KINDS) and written.exists() else []
    outcomes = {one["kind"]: Outcome(**one) for one in earlier}
    survived = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left running
    with ExitStack() as stack:
        wants_server = any(kind.database == "postgresql" for kind in chosen)
        programs = postgres_programs() if wants_server else None
        server = stack.enter_context(running_postgres(programs)) if programs else None
        for i, kind in enumerate(chosen, 1):
            print(f"{i}/{len(chosen)} {kind.name}: ", end="", flush=True)
            if kind.database == "postgresql" and server is None:
                print("left out: no PostgreSQL server is installed")
                continue
            if kind.needs_mount and os.geteuid() != 0:
                print("left out: only root can mount a small disk")
                continue
            outcome = outcomes[kind.name] = observed(kind, server)
            survived &= outcome.is_survived
            verdict = "ok" if outcome.is_survived else f"NOT SURVIVED: {asdict(outcome)}"
            print(f"exit {outcome.exit} after {outcome.seconds:.0f} s, {outcome.said[:100]} … {verdict}", flush=True)
            _write(outcomes)
    return 0 if survived else 1


if __name__ == "__main__":
    sys.exit(main())
