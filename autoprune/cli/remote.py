"""``autoprune remote``: studies on a service, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autoprune.cli.failures import FAILED, InputError, Interrupted
from autoprune.cli.options import Debug, Force, Json, output
from autoprune.cli.output import emit, note, stderr, stdout, table
from autoprune.cli.progress import StudyView
from autoprune.cli.prologue import STDOUT, Target, check_targets

if TYPE_CHECKING:
    from rich.console import Console

    from autoprune.schedule import Schedule
    from autoprune.service.client import Client

Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", envvar="AUTOPRUNE_SERVER", help="The service; default: this machine's."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a study.")]
_State = Literal["queued", "running", "done", "failed", "cancelled"]


def submit(
    study: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="Study file; its paths are the service's.")],
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    server: Server = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Queue a study; prints its id."""
    with _client(server) as client:
        id = client.submit(study)
        if watch:
            note(f"queued: {id}")
            return _watched(client, id, as_json)
    if as_json:
        emit({"id": id})
    else:
        stdout().print(id)
    return 0


def listed(
    state: Annotated[_State | None, typer.Option("--state", help="Only those in this state.")] = None,
    server: Server = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the studies, the newest first."""
    with _client(server) as client:
        found = list(client.studies(state))
    if as_json:
        emit({"studies": found})
        return
    rows = table("studies", "id")
    for column in ("name", "state", "progress"):
        rows.add_column(column)
    for one in found:
        rows.add_row(one["id"], one["name"], one["state"], _progress(one))
    stdout().print(rows)


def status(id: Id, server: Server = None, as_json: Json = False, debug: Debug = False) -> None:
    """Show a study as it stands."""
    with _client(server) as client:
        found = client.study(id)
    if as_json:
        emit(found)
        return
    _say(found)


def watch(id: Id, server: Server = None, as_json: Json = False, debug: Debug = False) -> int:
    """Follow a study until it has ended; exit 1 unless it is done."""
    with _client(server) as client:
        return _watched(client, id, as_json)


def cancel(id: Id, server: Server = None, as_json: Json = False, debug: Debug = False) -> None:
    """End a study; what was found is kept."""
    with _client(server) as client:
        found = client.cancel(id)
    if as_json:
        emit(found)
    else:
        note("what runs is finished first" if found["state"] == "running" else "cancelled")


def schedule(
    id: Id,
    file: Annotated[str, output("Schedule file to write; - = stdout.")],
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", metavar="X", help="Cheapest point that loses at most X.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", metavar="P", help="With --max-drop: how sure the bound must be.")
    ] = None,
    max_flops: Annotated[
        float | None, typer.Option("--max-flops", metavar="X", help="Best point with at most this share of the FLOPs.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option("--max-latency-ms", metavar="X", help="Best point with at most this prefill time.")
    ] = None,
    max_kv: Annotated[
        float | None, typer.Option("--max-kv", metavar="X", help="Best point with at most this share of the KV cache.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", metavar="N", help="The point of this trial.")] = None,
    server: Server = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Save one point of a study's front as a schedule file, with its codebooks beside it."""
    from autoprune.schedule import Schedule
    from autoprune.schedule.bundle import codebook_name, codebooks_of, relocated
    from autoprune.schedule.files import write_whole

    if file == STDOUT and as_json:
        raise InputError("writes to stdout, and so does --json", field="--output", value=file, remedy="drop one")
    if file != STDOUT:
        check_targets(force, Target("--output", file))
    with _client(server) as client:
        found = client.point(
            id,
            max_drop=max_drop,
            confidence=confidence,
            max_flops=max_flops,
            max_latency_ms=max_latency_ms,
            max_kv=max_kv,
            trial=trial,
        )
        schedule = relocated(Schedule.model_validate(found["schedule"]))
        books = {codebook_name(book): client.codebook(id, book.sha256) for book in codebooks_of(schedule)}
    if file == STDOUT and books:
        raise InputError(
            f"the schedule needs {', '.join(books)} beside it", field="--output", value=file, remedy="name a file"
        )
    if file == STDOUT:
        sys.stdout.write(schedule.to_json())
        _say_point(stderr(), found, schedule)
        return
    schedule.save(file)
    for name, content in books.items():
        write_whole(Path(file).with_name(name), content)
    if as_json:
        emit({"written": file, **found, "schedule": schedule.to_json_dict()})
        return
    _say_point(stdout(), found, schedule)
    stdout().print(f"written: {', '.join((file, *(str(Path(file).with_name(name)) for name in books)))}")


def _say_point(console: Console, point: dict[str, Any], schedule: Schedule) -> None:
    from autoprune.evaluate.objectives import OBJECTIVES
    from autoprune.report.words import cost_and_loss, stage_words

    quality = OBJECTIVES[point["quality"]]
    console.print(f"{point['name']}: {cost_and_loss(point['flops_ratio'], point['drop'], quality)}")
    for stage in schedule.stages:
        console.print(f"  {stage_words(stage)}")


def _client(server: str | None) -> Client:
    from autoprune.service.client import Client

    return Client(server)


def _watched(client: Client, id: str, as_json: bool) -> int:
    from autoprune.search.workers.protocol import Event

    found = client.study(id)
    try:
        with StudyView(found["objectives"]) as view:
            for event in client.watch(id):
                if event.kind != "end":
                    view.listen(Event(**event.content))
    except KeyboardInterrupt as stopped:
        remedy = f"the study goes on: `autoprune remote watch {id}` follows it"
        raise Interrupted.by(stopped, remedy) from None
    found = client.study(id)
    if as_json:
        emit(found)
    else:
        _say(found)
    return 0 if found["state"] == "done" else FAILED


def _say(study: dict[str, Any]) -> None:
    console = stdout()
    console.print(f"{study['name']} ({study['id']}): {study['state']}")
    if study["reason"]:
        console.print(study["reason"])
    if study["state"] == "running":
        console.print(_progress(study))


def _progress(study: dict[str, Any]) -> str:
    """How far a study that runs has got, and of what."""
    last = study["progress"]
    if study["state"] != "running" or last is None:
        return ""
    if last["kind"] == "phase" or not last["total"]:
        return str(last["message"])
    of_rows = last["kind"] == "progress" or last["data"].get("row_budget") is not None
    return f"{last['done']}/{last['total']} {'rows' if of_rows else 'trials'}"
