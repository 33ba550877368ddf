"""The front against the published methods: a verdict on each, with the comparison that it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.report.reading import everything, flops_of, height_of, point_name, quality_of
from autoprune.report.tables import key_of
from autoprune.report.words import ends, listed, p_words, percent
from autoprune.search.front import FrontFile, Point
from autoprune.search.notes import PresetVerdict

_NOT_MEASURED = "not measured on all rows: its trial failed or was stopped"
_NOTHING_CHEAPER = "no point that was searched for costs as little"
_EARLIER = "beaten"  # what a file without verdicts calls a point that is cheaper and no worse by its estimate


@dataclass(frozen=True)
class VerdictRow:
    """A published method beside the point that it was compared with.

    Attributes:
        key: Of its card; empty where it was not measured.
        cells: FLOPs, quality; dashes where they are not known.
        verdict: ``beaten``, ``matched``, ``not beaten``, or a dash.
        rival: The point, its FLOPs and its quality; or why there is none.
        lead: Quality of the point minus that of the method, with its 95 % interval.
        p: Corrected for the number of methods.
    """

    name: str
    key: str
    cells: tuple[str, str]
    verdict: str
    rival: str
    lead: str
    p: str


def verdict_rows(front: FrontFile) -> list[VerdictRow]:
    """A row for each published method of the study."""
    known = {p.trial: ("preset", p) for p in front.baselines}
    known |= {p.trial: (kind, p) for kind, p in everything(front) if kind != "control"}
    return [_row(front, verdict, known) for verdict in front.study.presets]


def verdict_of(verdict: PresetVerdict) -> str:
    """The verdict in a word; files from before there were three know two."""
    if verdict.verdict:
        return verdict.verdict
    return _EARLIER if verdict.beaten else "not beaten"


def verdict_counts(front: FrontFile) -> dict[str, list[str]]:
    """Names of the published methods by verdict; those that were not measured are left out."""
    measured = {p.trial for p in (*front.baselines, *front.points)}
    found: dict[str, list[str]] = {"beaten": [], "matched": [], "not beaten": []}
    for verdict in front.study.presets:
        if verdict.trial in measured:
            found[verdict_of(verdict)].append(verdict.name)
    return found


def verdict_words(front: FrontFile) -> str:
    """``beaten: a and b; matched: c``; empty without published methods. Older files say that no test was made."""
    said = "; ".join(f"{verdict}: {listed(names)}" for verdict, names in verdict_counts(front).items() if names)
    tested = any(verdict.verdict for verdict in front.study.presets)
    return said if tested or not said else f"{said} (by estimates, no test was made)"


def verdict_note(front: FrontFile) -> str:
    """The outcome in a sentence, and what the words mean."""
    said = verdict_words(front)
    first = f"{said[:1].upper()}{said[1:]}. "
    if not any(verdict.verdict for verdict in front.study.presets):
        return f"{first}Beaten means here: a point that the search found costs less at no lower estimate."
    rows = _rows_of(front)
    return (
        f"{first}Each is compared with one point: of those that were searched for and cost no more, the best one on "
        f"calibration rows; or, where another is shown to be better, with the cheapest of those. Beaten: the point is "
        f"better on {rows}, its 95 % interval and a paired test clustered by group agree, with 5 % error over all "
        f"methods (Holm). Matched: the two cannot be told apart."
    )


def _rows_of(front: FrontFile) -> str:
    splits = {v.split for v in front.study.presets if v.split}
    return "the rows of the search, there are no others," if splits == {"calibration"} else "held-out rows"


def _row(front: FrontFile, verdict: PresetVerdict, known: dict[int | None, tuple[str, Point]]) -> VerdictRow:
    found = known.get(verdict.trial) if verdict.trial is not None else None
    by = known.get(verdict.by) if verdict.by is not None else None
    if found is None:
        return VerdictRow(verdict.name, "", ("–", "–"), "–", _NOT_MEASURED, "–", "–")
    kind, preset = found
    unit = quality_of(front).unit
    rival = f"{point_name(by[1])}: {percent(flops_of(by[1]))} at {_quality(front, by[1])}" if by else _NOTHING_CHEAPER
    lead = "–" if verdict.difference is None else unit.change(verdict.difference)
    if verdict.difference is not None and verdict.difference_ci:
        lead = f"{lead} {ends(unit, verdict.difference_ci)}"
    return VerdictRow(
        name=verdict.name,
        key=key_of(kind, preset),
        cells=(percent(flops_of(preset)), _quality(front, preset)),
        verdict=verdict_of(verdict),
        rival=rival,
        lead=lead,
        p=p_words(verdict.adjusted_p),
    )


def _quality(front: FrontFile, point: Point) -> str:
    return quality_of(front).unit.value(height_of(front, point))
