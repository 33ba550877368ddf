import json
from pathlib import Path

import pytest
import yaml
from support.studies import tiny_spec, write_study
from transformers import LlamaConfig

from autoprune.errors import StudyError
from autoprune.presets import resolve, vtw
from autoprune.schedule import AttentionCriterion, RandomCriterion, parse_criterion
from autoprune.search.spec import StudySpec

CODEBOOK = {"name": "codebook", "path": "prototypes.safetensors", "sha256": "0" * 64, "prototypes": 4}


def error_of(file: Path, **overrides: object) -> str:
    with pytest.raises(StudyError) as raised:
        StudySpec.load(file, **overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    file = write_study(tmp_path, search=None, workers=None, space=None, baselines=None)
    spec = StudySpec.load(file)
    assert spec.objectives == ("flops", "accuracy")
    assert spec.space.layers == "all"
    assert spec.space.keep == (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    assert spec.space.mass == ()
    assert spec.space.criteria == "all"
    assert spec.space.merges == (False, True)
    assert spec.space.max_stages == 3
    assert spec.baselines == "all"
    assert spec.search.model_dump() == {
        "sampler": "gp", "trials": 200, "row_forwards": None, "minutes": None, "within": 0.15, "seed": 0,
        "racing": True,
    }  # fmt: skip
    assert spec.constraints.model_dump() == {"max_drop": {}, "max_flops": None}
    assert spec.workers.model_dump() == {"count": 2, "cpus": 1, "gpus": 0, "wait": 60}
    assert spec.data.calibration.model_dump(exclude={"path"}) == {
        "split": "train", "config": None, "samples": None, "seed": 0, "columns": {},
    }  # fmt: skip
    assert spec.model.model_dump(exclude={"path"}) == {
        "revision": None, "dtype": "auto", "device": "auto", "device_map": None, "attn_implementation": None,
        "trust_remote_code": False, "processor": {}, "generation": {},
    }  # fmt: skip
    assert spec.evaluation.model_dump() == {"batch_size": 16, "max_new_tokens": 32}


def test_relative_paths_start_at_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path / "deep")
    monkeypatch.chdir(tmp_path)
    spec = StudySpec.load(Path("deep/study.yaml"))
    assert spec.model.path == str(tmp_path / "deep/model")
    assert spec.data.calibration.path == str(tmp_path / "deep/calibration.jsonl")
    assert spec.output_path == tmp_path / "deep/run"
    assert spec.storage_url == f"sqlite:///{tmp_path}/deep/run/study.db"
    assert StudySpec.load(write_study(tmp_path / "deep", space={"criteria": [CODEBOOK]})).space.criteria[0] == (
        parse_criterion({**CODEBOOK, "path": str(tmp_path / "deep/prototypes.safetensors")})
    )
    assert StudySpec.load(file, output="elsewhere").output_path == tmp_path / "elsewhere"


def test_overrides_win_and_are_checked(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    url = f"sqlite:///{tmp_path}/other.db"
    spec = StudySpec.load(file, trials=7, workers=3, storage=url)
    assert (spec.search.trials, spec.workers.count, spec.storage_url) == (7, 3, url)
    assert "search.trials" in error_of(file, trials=0)


def test_all_errors_come_in_one_line(tmp_path: Path) -> None:
    file = write_study(
        tmp_path,
        searhc={"trials": 3},
        objectives=["flops", "kv_bytes"],
        space={"layers": [1, 99], "keep": [0.5, 1.5], "criteria": ["texts"], "max_stage": 2},
        baselines=["fastvv"],
        workers={"count": -1},
        storage="nonsense",
    )
    study = yaml.safe_load(file.read_text())
    study["data"]["calibration"]["path"] = "missing.jsonl"
    file.write_text(yaml.safe_dump(study))
    text = error_of(file)
    for expected in (
        "searhc: unknown key; did you mean 'search'?",
        "objectives: needs at least one quality",
        "space.keep[1]",
        "space.criteria[0]: no such criterion",
        "space.max_stage: unknown key; did you mean 'max_stages'?",
        "baselines[0]: no such preset or schedule file (got 'fastvv'); did you mean 'fastv'?",
        "workers.count",
        "storage: is no database URL",
        "data.calibration.path: no such file",
    ):
        assert expected in text, text


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"name": None}, "name: is missing"),
        ({"model": {"path": "./nowhere"}}, "model.path: no such folder"),
        ({"space": {"layers": [3, 8]}}, "space.layers: the model has layers 0 to 7 (got [8])"),
        (
            {"space": {"layers": [0, 3], "criteria": ["text"]}},
            "no criterion of the space can serve layer 0: there is no layer before",
        ),
        ({"space": {"criteria": "text"}}, "space.criteria: must be 'all'"),
        ({"space": {"criteria": []}}, "space.criteria: must not be empty"),
        ({"space": {"criteria": ["text"], "also": [CODEBOOK]}}, "space.also: stands beside `criteria: all` alone"),
        ({"space": {"also": ["text"]}}, "space.also: is among `criteria: all` already (got 'text')"),
        ({"space": {"merge": []}}, "space.merge: must not be empty; use [false], [true] or"),
        ({"space": {"merge": ["yes"]}}, "space.merge[0]: must be true or false"),
        ({"space": {"mass": [0.5, 1.0]}}, "space.mass[1]: must be less than 1"),
        (
            {"space": {"mass": [0.5], "criteria": ["diversity"]}},
            "space.mass: no criterion of the space can keep a share",
        ),
        ({"search": {"row_forwards": 0}}, "search.row_forwards: must be at least 1"),
        ({"search": {"within": 0.0}}, "search.within: must be more than 0"),
        ({"constraints": {"max_flops": 1.5}}, "constraints.max_flops: must be at most 1"),
        ({"baselines": "every"}, "baselines: must be 'all'"),
        (
            {"space": {"layers": [0, 3], "keep": [0.5], "criteria": [CODEBOOK]}},
            "no criterion of the space can serve layer 3: a codebook is compared",
        ),
        ({"space": {"layers": [3, 3]}}, "space.layers: names a value twice"),
        ({"space": {"layers": []}}, "space.layers: must not be empty"),
        ({"space": {"keep": [0.5, 1.0]}}, "space.keep[1]: must be less than 1"),
        ({"space": {"keep": "0.5"}}, "space.keep"),
        ({"space": {"layers": [0, 3], "keep": [0.0, 1.5]}}, "space.keep[1]: must be less than 1"),
        (
            {"space": {"criteria": [{"name": "attention", "rows": "text", "head": "max"}]}},
            "space.criteria[0].head: unknown key; did",
        ),
        ({"search": {"trials": "many"}}, "search.trials"),
        ({"search": {"sampler": "tpee"}}, "search.sampler"),
        ({"constraints": {"max_drop": {"*": 1.5}}}, "constraints.max_drop"),
        ({"objectives": ["flops", "flops", "accuracy"]}, "objectives: names an objective twice"),
        ({"objectives": ["accuracy"]}, "needs at least one cost"),
        ({"storage": "mysql://host/db"}, "storage: no such kind of database"),
        ({"storage": "sqlite://"}, "storage: a study in memory"),
        ({"storage": "sqlite:////no/such/folder/x.db"}, "storage: no such folder"),
        ({"baselines": ["gone.json"]}, "baselines[0]: cannot be read"),
    ],
)
def test_one_error_names_its_field(tmp_path: Path, sections: dict[str, object], expected: str) -> None:
    text = error_of(write_study(tmp_path, **sections))
    assert expected in text
    assert "errors:" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {"keep": []}}, ["space.keep: must not be empty", "[0.5, 0.2]"]),
        ({"space": {"layers": [-1]}}, ["space.layers[0]: must be at least 0 (got -1)"]),
        ({"model": "model"}, ["model: must hold keys and values", "write `model: {path: …}`"]),
        ({"workers": 2}, ["workers: must hold keys and values", "write `workers: {count: …}`"]),
        ({"objectives": "flops"}, ["objectives: must be a list", "square brackets"]),
        ({"search": {"trials": 2.5}}, ["search.trials: must be a whole number (got 2.5)"]),
        ({"name": ""}, ["name: must not be empty"]),
        ({"output": 3}, ["output: must be text (got 3)"]),
        ({"model": {"path": "m", "dtype": "f8"}}, ["model.dtype: must be 'auto', 'float32'"]),
    ],
)
def test_errors_are_in_the_words_of_the_file(tmp_path: Path, change: dict[str, object], words: list[str]) -> None:
    text = error_of(write_study(tmp_path, **change))
    for said in words:
        assert said in text
    for foreign in ("Input should", "dictionary", "tuple", "instance of", "Section"):
        assert foreign not in text


def test_a_tilde_is_the_home_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_spec(tmp_path / "there")
    vtw(3).save(tmp_path / "mine.json")
    data = {name: {"path": f"~/there/{name}.jsonl"} for name in ("calibration", "validation")}
    file = write_study(
        tmp_path / "study", model={"path": "~/there/model"}, data=data, output="~/run", storage="sqlite:///~/x.db",
        baselines=["~/mine.json"],
    )  # fmt: skip
    spec = StudySpec.load(file)
    assert spec.model.path == str(tmp_path / "there" / "model")
    assert spec.data.calibration.path == str(tmp_path / "there" / "calibration.jsonl")
    assert spec.baselines == (str(tmp_path / "mine.json"),)
    assert (spec.output, spec.storage) == (str(tmp_path / "run"), f"sqlite:///{tmp_path}/x.db")
    assert StudySpec.load(file, output="~/other").output == str(tmp_path / "other")
    criterion = parse_criterion(CODEBOOK | {"path": "~/book.safetensors"})
    assert criterion.from_folder(tmp_path / "study").path == str(tmp_path / "book.safetensors")
    assert resolve("~/mine.json", 8, tmp_path / "study").key == vtw(3).key


def test_files_that_are_no_studies(tmp_path: Path) -> None:
    assert "cannot be read" in error_of(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "must hold keys and values" in error_of(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    assert "is not YAML" in error_of(tmp_path / "broken.yaml")


def test_a_baseline_for_another_model_is_mapped_if_it_fits(tmp_path: Path) -> None:
    tiny_spec(tmp_path)
    identity = {"name": "x", "model_type": "llama", "num_layers": 32, "hidden_size": 16, "config_sha256": "0" * 64}
    stages = [
        {"layer": layer, "keep": {"ratio": 0.5 - layer / 100}, "criterion": {"name": "diversity"}} for layer in range(9)
    ]
    for name, count in (("fits", 2), ("deep", 9)):
        schedule = {
            "format": "autoprune.schedule",
            "version": 1,
            "model": identity,
            "stages": stages[:count],
            "evidence": {},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(schedule))
    assert tiny_spec(tmp_path, baselines=["fits.json"]).baselines == (str(tmp_path / "fits.json"),)
    text = error_of(write_study(tmp_path, baselines=["deep.json"]))
    assert "baselines[0]: " in text
    assert "needs layer 8, the model has layers 0 to 7" in text


def test_criterion_objects_are_taken(tmp_path: Path) -> None:
    criteria = ["text", {"name": "random", "seed": 3}, {"name": "attention", "rows": "last", "at": "current"}]
    spec = tiny_spec(tmp_path, space={"criteria": criteria, "layers": [0, 2]})
    assert spec.space.criteria[1:] == (RandomCriterion(seed=3), AttentionCriterion(rows="last", at="current"))


def test_defaults_must_fit_the_model_too(tmp_path: Path) -> None:
    file = write_study(tmp_path, baselines=["himap"])
    LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path / "model")
    text = error_of(file)
    assert "space.max_stages: the model has 2 layers only (got 3)" in text
    assert "baselines[0]: " in text, "himap has two stages, and layer 0 is none for attention"


def test_a_study_may_be_given_as_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert StudySpec.load(yaml.safe_load(file.read_text())) == StudySpec.load(file)
    with pytest.raises(StudyError, match="name: is missing"):
        StudySpec.load({})


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    assert "secret" not in error_of(write_study(tmp_path, storage="mysql://me:secret@host/db"))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    file.write_text(file.read_text() + "search: {trials: 7}\n")
    said = error_of(file)
    assert "names a key twice, again in line" in said
    assert "'search'" in said


def test_aliases_are_fine_and_an_avalanche_of_them_is_not(tmp_path: Path) -> None:
    file = write_study(tmp_path)
    plain = file.read_text()
    file.write_text(plain.replace("path: calibration.jsonl", "path: &rows calibration.jsonl").replace(
        "path: validation.jsonl", "path: *rows"
    ))  # fmt: skip
    spec = StudySpec.load(file)
    assert spec.data.validation is not None
    assert spec.data.validation.path == spec.data.calibration.path
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for content in ("\n".join(levels), "a: &a [*a]"):
        file.write_text(f"{plain}\n{content}\n")
        assert "more than 10,000 values" in error_of(file)
    file.write_text(f"{plain}# {'x' * 1_000_000}")
    assert "is larger than 1,000,000 bytes" in error_of(file)


def test_a_password_is_not_written(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path, storage="postgresql+psycopg://me:secret@host/db")
    assert "secret" in spec.storage_url
    assert "secret" not in spec.to_yaml()
    assert "postgresql+psycopg://me@host/db" in spec.to_yaml()


def test_the_study_as_run_loads_again_from_anywhere(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path / "a", space={"criteria": ["text", {"name": "random", "seed": 3}]})
    copy = tmp_path / "b.yaml"
    copy.write_text(spec.to_yaml())
    assert StudySpec.load(copy) == spec


def test_nothing_is_written_when_the_study_is_refused(tmp_path: Path) -> None:
    file = write_study(tmp_path, searhc={})
    error_of(file)
    assert not (tmp_path / "run").exists()
