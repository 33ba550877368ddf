"""The recipe of a criterion, followed in a copy of the package: a declaration, a behaviour and a row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import autoprune

TESTS = Path(__file__).parent.parent
DECLARATION = """
from typing import ClassVar, Literal
from autoprune.schedule.criteria.declaration import Color, Criterion, Reads

class FirstCriterion(Criterion):
    name: Literal["first"] = "first"
    source: ClassVar[str] = "made up"
    short_names: ClassVar[dict] = {"first": {"name": "first"}}
    @property
    def reads(self): return Reads.NOTHING
    @property
    def color(self): return Color("#123456", "#abcdef")
    @property
    def phrase(self): return "the first tokens"
"""
BEHAVIOUR = """
def score(inputs): return -inputs.candidates.cumsum(1).float()
def macs(work, options): return 7
"""
USE = """
import torch, autoprune
from support.zoo import llava
from autoprune.report.words import stage_words
from autoprune.schedule import parse_criterion
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

schedule = autoprune.Schedule(stages=[{"layer": 2, "keep": {"count": 3}, "criterion": parse_criterion("first")}])
schedule.save("schedule.json")
assert autoprune.Schedule.load("schedule.json") == schedule
space = SearchSpace.of(Space(criteria=["first"], keep=[0.5]), 6)
half = schedule.stages[0].model_copy(update={"keep": {"ratio": 0.5}})
assert space.params(autoprune.Schedule(stages=[half.model_dump()]))["method_1"] == "first"
assert stage_words(schedule.stages[0]) == "before layer 2: keep 3 tokens by the first tokens"
zoo = llava()
assert autoprune.cost(zoo.model.config, schedule, 16, 8).parts["scoring"] == 14
with torch.no_grad(), autoprune.apply(zoo.model, schedule) as patch:
    zoo.model(**zoo.inputs)
for row, kept in enumerate(patch.report.kept[2]):
    visual = zoo.visual[row][zoo.inputs["attention_mask"][row].bool()]
    assert [k for k in kept.tolist() if visual[k]] == visual.nonzero()[:3, 0].tolist()
"""


def test_two_files_and_a_row_make_a_criterion(tmp_path: Path) -> None:
    package = tmp_path / "autoprune"
    shutil.copytree(Path(autoprune.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "schedule/criteria/first.py").write_text(DECLARATION)
    (package / "runtime/criteria/first.py").write_text(BEHAVIOUR)
    table = package / "schedule/criteria/__init__.py"
    text = table.read_text(encoding="utf-8")
    row = text.replace("    UniformCriterion,\n)", "    UniformCriterion,\n    FirstCriterion,\n)", 1)
    imported = row.replace(
        "\nfrom autoprune", "\nfrom autoprune.schedule.criteria.first import FirstCriterion\nfrom autoprune", 1
    )
    table.write_text(imported, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)])}
    run = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
