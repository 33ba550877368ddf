"""Every criterion with every keep rule, merging, positions and depth, through every use of a schedule.

A criterion is in the matrix by its row in `OPTIONS`; what it can serve is asked from its declaration.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import optuna
import pytest
import torch
from safetensors.torch import save
from support.fronts import make_front, typed
from support.plugins import install
from support.zoo import llava
from support.zoo.base import LAYERS, TEXT, noise

import autoprune
from autoprune import Schedule
from autoprune.errors import PatchError, ScheduleError
from autoprune.report.page import render_page
from autoprune.report.words import criterion_class
from autoprune.schedule import CRITERIA, Criterion, Reads, parse_criterion
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

WIDTH, DEEP = TEXT["hidden_size"], 2
SCHEMA = json.loads((Path(autoprune.__file__).parent / "schedule/schema.json").read_text())
BOOK = save({"prototypes": noise(5, WIDTH)})
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "attention": (
        {"rows": "last"},
        {"rows": "visual", "heads": "max", "normalize": "causal"},
        {"rows": "all", "at": "current"},
        {"rows": "raters", "reduce": "mean"},
        {"rows": "text", "combine": "visual"},
    ),
    "encoder": ({},),
    "diversity": ({},),
    "codebook": ({"path": "book.safetensors", "sha256": hashlib.sha256(BOOK).hexdigest(), "prototypes": 5},),
    "random": ({"seed": 3},),
    "uniform": ({},),
    "acme/norm": ({}, {"order": "shortest"}),
}
"""One row for each criterion: the options it is tried with."""
KEEPS = {"ratio": 0.4, "count": 5, "mass": 1e-9, "threshold": 1e9}
"""One value of each rule; of the last two, one that leaves the best token alone."""


@dataclass(frozen=True)
class Combination:
    """One cell of the matrix."""

    name: str
    options: dict[str, Any]
    keep: str
    layer: int
    merge: bool
    compact: bool

    def __str__(self) -> str:
        words = [self.name, *map(str, self.options.values() if self.name != "codebook" else ()), self.keep]
        return " ".join([*words, f"@{self.layer}", *["merge"] * self.merge, *["compact"] * self.compact])

    def criterion(self, folder: Path) -> Criterion:
        return parse_criterion({"name": self.name, **self.options}).from_folder(folder)

    def content(self, folder: Path) -> dict[str, Any]:
        criterion = self.criterion(folder).to_json_dict()
        stage = {"layer": self.layer, "keep": {self.keep: KEEPS[self.keep]}, "criterion": criterion}
        merge, positions = {"merge": "mean"} if self.merge else {}, {"positions": "compact"} if self.compact else {}
        whole = {"format": "autoprune.schedule", "version": 1, "model": None, "stages": [{**stage, **merge}]}
        return {**whole, **positions, "evidence": {}}


MATRIX = [
    Combination(name, options, keep, layer, merge, compact)
    for name, rows in OPTIONS.items()
    for options, keep, layer, merge, compact in product(rows, KEEPS, (0, DEEP), (False, True), (False, True))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the codebook; the package that brings ``acme/norm`` is installed."""
    place = tmp_path_factory.mktemp("criteria")
    (place / "book.safetensors").write_bytes(BOOK)
    with pytest.MonkeyPatch.context() as patch:
        install(patch, place / "site")
        yield place


@pytest.fixture(scope="module")
def zoo() -> Any:
    return llava()


def positions(zoo: Any, row: int) -> tuple[list[int], list[int]]:
    """Visual and other tokens of a sample, counted without padding, as the report counts them."""
    visual = zoo.visual[row][zoo.inputs["attention_mask"][row].bool()]
    return visual.nonzero()[:, 0].tolist(), (~visual).nonzero()[:, 0].tolist()


def test_every_criterion_has_its_row() -> None:
    assert {"acme/norm", *(kind.model_fields["name"].default for kind in CRITERIA)} == set(OPTIONS)
    assert len({str(cell) for cell in MATRIX}) == len(MATRIX)


@pytest.mark.parametrize("cell", MATRIX, ids=str)
def test_a_combination_works_everywhere_or_is_refused(
    cell: Combination, folder: Path, zoo: Any, tmp_path: Path
) -> None:
    content, criterion = cell.content(folder), cell.criterion(folder)
    if cell.keep not in criterion.keep_kinds:
        with pytest.raises(ScheduleError, match=f"keep.{cell.keep} does not work with .*use keep.count or keep.ratio"):
            Schedule.model_validate(content)
        return
    if cell.layer == 0 and criterion.problem_at(0):
        with pytest.raises(ScheduleError, match="layer 0"):
            Schedule.model_validate(content)
        return
    schedule = saved_and_loaded(content, tmp_path / "schedule.json")
    drawn = held_by_the_space(schedule, criterion)
    if criterion.problem_at(cell.layer):
        assert not drawn
        with pytest.raises(PatchError, match="before layer 0"):
            autoprune.apply(zoo.model, schedule)
        return
    assert drawn == (cell.keep == "ratio" and not cell.merge and not cell.compact)
    priced(schedule, criterion, zoo)
    applied(schedule, zoo)


def saved_and_loaded(content: dict[str, Any], path: Path) -> Schedule:
    schedule = Schedule.model_validate(content)
    schedule.save(path)
    saved = json.loads(path.read_text())
    assert saved == content
    jsonschema.validate(saved, SCHEMA)
    again = Schedule.load(path)
    assert again == schedule
    assert again.key == schedule.key
    return again


def held_by_the_space(schedule: Schedule, criterion: Criterion) -> bool:
    """Whether a space with the criterion, layer and ratio of a schedule draws it."""
    another = parse_criterion({"name": "random", "seed": 99})
    options = Space(criteria=(another, criterion), layers=(0, 1, DEEP), keep=(0.0, KEEPS["ratio"]))
    space = SearchSpace.of(options, LAYERS)
    params = space.params(schedule)
    if params is not None:
        assert space.suggest(optuna.trial.FixedTrial(params)) == schedule
    return params is not None


def priced(schedule: Schedule, criterion: Criterion, zoo: Any) -> None:
    """Scoring has a price unless no tensor is read, or the vision tower has it already; so has merging."""
    visual, kept = 32, [5]
    price = autoprune.cost(zoo.model.config, schedule, visual, 20, kept=kept)
    merging = 2 * (visual - kept[0]) * kept[0] * WIDTH if schedule.stages[0].merge else 0
    free = criterion.reads in (Reads.NOTHING, Reads.TOWER)
    assert price.parts["scoring"] == merging if free else price.parts["scoring"] > merging


def applied(schedule: Schedule, zoo: Any) -> None:
    """As many visual tokens survive as the rule says, in their order, and every other token."""
    (stage,) = schedule.stages
    with torch.no_grad(), autoprune.apply(zoo.model, schedule) as patch:
        logits = zoo.model(**zoo.inputs).logits
    assert bool(logits.isfinite().all())
    for row, kept in enumerate(patch.report.kept[stage.layer]):
        visual, text = positions(zoo, row)
        wanted = {"ratio": round(KEEPS["ratio"] * len(visual)), "count": KEEPS["count"]}.get(stage.keep.kind, 1)
        assert kept.tolist() == sorted(kept.tolist())
        assert set(text) <= set(kept.tolist()) <= {*text, *visual}
        assert len(kept) - len(text) == wanted


def test_no_two_combinations_share_a_key(folder: Path) -> None:
    keys, possible = set(), 0
    for cell in MATRIX:
        criterion = cell.criterion(folder)
        if cell.keep in criterion.keep_kinds and not (cell.layer == 0 and criterion.problem_at(0)):
            keys.add(Schedule.model_validate(cell.content(folder)).key)
            possible += 1
    assert len(keys) == possible > 0


def test_the_survivors_of_a_plugin_are_those_that_its_scores_say(folder: Path, zoo: Any) -> None:
    """Kept indices against a computation by hand, in a ragged, padded batch."""
    states: list[torch.Tensor] = []
    layer = zoo.model.get_decoder().layers[DEEP]
    hook = layer.register_forward_pre_hook(
        lambda _, args, kwargs: states.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        zoo.model(**zoo.inputs)
    hook.remove()
    for order, sign in (("longest", -1), ("shortest", 1)):
        criterion = {"name": "acme/norm", "order": order}
        schedule = Schedule.model_validate(
            {"stages": [{"layer": DEEP, "keep": {"ratio": 0.4}, "criterion": criterion}]}
        )
        with torch.no_grad(), autoprune.apply(zoo.model, schedule) as patch:
            zoo.model(**zoo.inputs)
        for row, kept in enumerate(patch.report.kept[DEEP]):
            visual, text = positions(zoo, row)
            lengths = states[0][row][zoo.inputs["attention_mask"][row].bool()].norm(dim=-1).tolist()
            ranked = sorted(visual, key=lambda j, lengths=lengths, sign=sign: sign * lengths[j])
            assert kept.tolist() == sorted([*text, *ranked[: round(0.4 * len(visual))]])


@pytest.mark.parametrize("name", OPTIONS)
def test_every_criterion_has_words_a_label_and_colours(name: str, folder: Path) -> None:
    for options in OPTIONS[name]:
        criterion = parse_criterion({"name": name, **options}).from_folder(folder)
        assert criterion.words.startswith(criterion.phrase)
        assert criterion.phrase
        assert criterion.source
        assert criterion.family in criterion.label or criterion.family.startswith(str(options.get("rows")))
        assert all(len(shade) == 7 and shade.startswith("#") for shade in criterion.color)


def test_short_names_stand_for_what_they_say(folder: Path) -> None:
    for short, options in ((s, o) for kind in CRITERIA for s, o in kind.short_names.items()):
        assert parse_criterion(short) == parse_criterion(options)
        assert parse_criterion(short).label == short
    assert parse_criterion("acme/norm").label == "acme/norm"


def test_the_page_says_and_colours_every_criterion(folder: Path) -> None:
    criteria = [cell.criterion(folder) for cell in MATRIX if (cell.keep, cell.layer) == ("ratio", DEEP)]
    content = make_front()
    (sample,) = content["points"][:1]
    content["points"] = []
    for number, criterion in enumerate(dict.fromkeys(criteria)):
        stage = {"layer": DEEP, "keep": {"ratio": 0.4}, "criterion": criterion.to_json_dict()}
        schedule = {**sample["schedule"], "stages": [stage]}
        content["points"].append({**sample, "trial": number, "name": f"point {number}", "schedule": schedule})
    page = render_page(typed(content))
    for criterion in criteria:
        assert escape(criterion.words) in page
        name = criterion_class(criterion)
        assert f'class="{name}"' in page
        for shade in criterion.color:
            assert f".{name} {{ fill: {shade}; }}" in page


SEVERAL = {
    "analysis/ablation.py": "the arms of HiMAP's ablation are such criteria",
    "doctor/examine.py": "writes down schedules that together use every part of the runtime",
    "presets.py": "published methods choose by such criteria",
    "report/ablation_page.py": "the arms of HiMAP's ablation in words",
    "report/comparisons.py": "the control arms are `random` and `uniform`",
    "runtime/encoder.py": "attention inside the tower is scored by the code of `attention`",
    "engines/export/choice.py": "a compiled graph has fixed sizes and no masks: how tokens are found is written for it",
    "engines/vllm/shortened.py": "which scores need no more than the features of one image, before any layer",
    "search/controls.py": "the control arms are `random` and `uniform`",
}
"""Files that name more than one criterion, and why a new one need not be named there."""
ONE_KIND = {
    "doctor/reference.py": "the independent judge beside the runtime is written for attention",
    "engines/export/choice.py": "attention alone needs query and key in the graph",
    "schedule/bundle.py": "a codebook is a file that goes along with its schedule",
}
"""Files that ask for the class of a criterion, and why no other one is meant."""


def test_a_new_criterion_is_two_files_and_a_row() -> None:
    """Its declaration, its behaviour, its row in the table: no other file lists the criteria or tells them apart."""
    package = Path(autoprune.__file__).parent
    classes = {kind.__name__: str(kind.model_fields["name"].default) for kind in CRITERIA}
    folders = [package / room / "criteria" for room in ("schedule", "runtime")]
    several, asked = set(), set()
    for file in sorted(package.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        named = {str(node.value) for node in nodes if isinstance(node, ast.Constant)} & set(classes.values())
        named |= {classes[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in classes}
        place = file.relative_to(package).as_posix()
        if file.parent in folders:
            assert named <= {file.stem} or file.name == "__init__.py", f"{place} names another criterion"
            continue
        if len(named) > 1:
            several.add(place)
        calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"]
        if any(name in ast.unparse(call.args[1]) for call in calls for name in classes):
            asked.add(place)
    for folder in folders:
        assert set(classes.values()) <= {file.stem for file in folder.glob("*.py")}
    assert several - {"schedule/__init__.py"} == set(SEVERAL)
    assert asked == set(ONE_KIND)
