from __future__ import annotations

import hashlib
import json

import pytest

from autoprune.schedule import Schedule

FEW = ("--probes", 8, "--limit", 20, "--quantile", 0.999)


def test_codebook_json_and_schedule(cli, tiny, rows, tmp_path):
    book, file = tmp_path / "book.safetensors", tmp_path / "schedule.json"
    options = ("-o", book, "--schedule", file, "--keep", 0.4)
    found = cli("codebook", tiny, "--data", rows, *FEW, *options, "--json")
    assert found.code == 0, found.err
    criterion = found.json["criterion"]
    assert criterion["sha256"] == hashlib.sha256(book.read_bytes()).hexdigest()
    assert criterion["prototypes"] == found.json["prototypes"] <= 20
    facts = json.loads((tmp_path / "book.json").read_text())
    assert facts.items() >= {k: v for k, v in found.json.items() if k in facts}.items()
    assert len(facts["images"]) == facts["samples"] == 12
    (stage,) = Schedule.load(file).stages
    assert (stage.layer, stage.keep.ratio, stage.criterion.model_dump()) == (0, 0.4, criterion)
    checked = cli("apply-check", tiny, file)
    assert checked.code == 0, checked.err
    people = cli("codebook", tiny, "--data", rows, *FEW, *options, "--force", "--variant", "paper")
    assert people.code == 0, people.err
    assert "context" in people.out
    assert "clusters" in people.out
    assert '"name":"codebook"' in people.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "book.bin"), "--output: must end in .safetensors"),
        (("-o", "nowhere/book.safetensors"), "--output: the folder does not exist"),
        (("--variant", "best"), "variant: no such variant"),
        (("--quantile", 1.5), "quantile: must lie between 0 and 1"),
        (("--samples", 1), "samples: what recurs in other images cannot be told from one"),
        (("--schedule", "book.json"), "--schedule: names a file that --output writes"),
        (("--quantile", 0.5, "--clusters", 1), "data: no kind of visual token is redundant in other images too"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(cli, tiny, rows, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    found = cli("codebook", tiny, "--data", rows, "-o", "book.safetensors", *FEW, *options)
    assert found.code == 2, found.out
    assert found.err.startswith(f"error: {message}")
    assert found.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_rows_without_an_image_are_named(cli, tiny, tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(json.dumps({"prompt": "what"}) + "\n")
    found = cli("codebook", tiny, "--data", file, "-o", tmp_path / "book.safetensors")
    assert found.code == 2
    assert "no row has an image" in found.err


def test_files_that_exist_stay_without_force(cli, tiny, rows, tmp_path):
    (tmp_path / "book.json").write_text("mine")
    found = cli("codebook", tiny, "--data", rows, "-o", tmp_path / "book.safetensors")
    assert found.code == 2
    assert "--force" in found.err
    assert [p.name for p in tmp_path.iterdir()] == ["book.json"]
