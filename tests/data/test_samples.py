"""Loading data: contract fields, digests, draws, and errors that name row, field and remedy."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pillow

from autoprune.data import samples
from autoprune.data.samples import load_samples
from autoprune.errors import DataError


def picture(path, value=0):
    Pillow.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(4):
        picture(tmp_path / "img" / f"{i}.png", 10 * i)
    return tmp_path


def write(folder, rows, name="data.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(i=0, **fields):
    return {"image": f"img/{i}.png", "prompt": f"what is {i}", "answers": ["x"]} | fields


def test_fields_and_defaults(folder):
    data = load_samples(write(folder, [row(0), row(1, id="seven", task="ocr", group="g"), row(0)]))
    first, second, third = data
    assert (first.id, first.task, first.answers, first.choices) == ("0", None, ("x",), None)
    assert (second.id, second.task, second.group) == ("seven", "ocr", "g")
    assert first.group == third.group == first.images[0].sha256 or first.group == third.group
    assert first.group != second.group
    assert first.images[0].open().size == (4, 4)


def test_paths_start_at_the_data_file_and_the_data_file_at_base(folder):
    write(folder, [row(1)])
    assert len(load_samples("data.jsonl", base=folder)) == 1


def test_several_images_and_marks(folder):
    rows = [{"images": ["img/0.png", "img/1.png"], "prompt": "<image> or <image> ?"}]
    assert len(load_samples(write(folder, rows))[0].images) == 2


def test_choices_by_index_and_by_text(folder):
    rows = [row(0, answers=None, choices=["a", "b"], answer="b"), row(1, answers=None, choices=["a", "b"], answer="a")]
    assert [s.answer for s in load_samples(write(folder, rows))] == [1, 0]
    rows = [row(0, answers=None, choices=["a", "b"], answer=1)]
    assert load_samples(write(folder, rows))[0].answer == 1


def test_answers_may_be_one_string_in_some_rows(folder):
    data = load_samples(write(folder, [row(0, answers="x"), row(1, answers=["y", "z"])]))
    assert [s.answers for s in data] == [("x",), ("y", "z")]


def test_a_row_that_is_nested_too_deeply(folder):
    (folder / "deep.jsonl").write_text(json.dumps(row(0)) + "\n" + "[" * 10**5 + "]" * 10**5 + "\n")
    with pytest.raises(DataError, match="row 1 is nested too deeply"):
        load_samples(folder / "deep.jsonl")


def test_columns_are_mapped(folder):
    rows = [{"picture": "img/0.png", "question": "q", "gt": ["7"]}]
    columns = {"image": "picture", "prompt": "question", "answers": "gt"}
    sample = load_samples(write(folder, rows), columns=columns)[0]
    assert (sample.prompt, sample.answers) == ("q", ("7",))


def test_the_digest_is_of_content(folder):
    path = write(folder, [row(0), row(1)])
    before = load_samples(path).digest
    assert load_samples(path).digest == before
    picture(folder / "img" / "9.png", 0)  # another name, the bytes of image 0
    assert load_samples(write(folder, [row(9, prompt="what is 0"), row(1)])).digest == before
    picture(folder / "img" / "1.png", 99)
    assert load_samples(path).digest != before
    assert load_samples(write(folder, [row(1), row(0)])).digest != load_samples(write(folder, [row(0), row(1)])).digest


def test_draws_are_nested_repeatable_and_in_order(folder):
    path = write(folder, [row(i % 4, id=f"r{i}") for i in range(20)])
    ids = [[s.id for s in load_samples(path, samples=n, seed=5)] for n in (4, 8, 8)]
    assert ids[1] == ids[2]
    assert set(ids[0]) < set(ids[1])
    assert ids[1] == sorted(ids[1], key=lambda name: int(name[1:]))
    assert ids[1] != [s.id for s in load_samples(path, samples=8, seed=6)]


def test_parquet_with_embedded_images(folder):
    features = Features({"image": Image(), "prompt": Value("string"), "answers": List(Value("string"))})
    rows = {"image": [str(folder / "img" / "1.png")], "prompt": ["q"], "answers": [["1"]]}
    Dataset.from_dict(rows, features=features).to_parquet(folder / "data.parquet")
    sample = load_samples(folder / "data.parquet")[0]
    assert sample.images[0].open().getpixel((0, 0)) == (10, 10, 10)
    assert sample.answers == ("1",)


def test_a_dataset_folder_with_a_split(folder):
    (folder / "set").mkdir()
    picture(folder / "set" / "a.png", 7)
    write(folder / "set", [{"image": "a.png", "prompt": "q"}], "test.jsonl")
    sample = load_samples("set", split="test", base=folder)[0]
    assert sample.images[0].open().getpixel((0, 0)) == (7, 7, 7)


def test_encoded_bytes_are_not_decoded_again(folder):
    buffer = io.BytesIO()
    Pillow.new("L", (3, 3), 40).save(buffer, format="WEBP", lossless=True)
    features = Features({"images": List(Image()), "prompt": Value("string")})
    rows = {"images": [[{"bytes": buffer.getvalue(), "path": None}]], "prompt": ["q"]}
    Dataset.from_dict(rows, features=features).to_parquet(folder / "d.parquet")
    image = load_samples(folder / "d.parquet")[0].images[0]
    assert image.data == buffer.getvalue()
    assert image.open().mode == "RGB"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"prompt": None}, ["row 1", "prompt", "is missing", "`columns`"]),
        ({"prompt": "  "}, ["row 1", "prompt", "not empty"]),
        ({"image": "long/" * 20_000}, ["row 1", "is no path, it has 100", "relative to the data file"]),
        ({"video": "long/" * 20_000}, ["row 1", "no such folder", "..."]),
        ({"image": "img/none.png"}, ["row 1", "no such file", "none.png", "relative to the data file"]),
        ({"image": "data.jsonl"}, ["row 1", "cannot be read as an image"]),
        ({"prompt": "<image> <image> ?"}, ["row 1", "2 <image> marks for 1 images"]),
        ({"answers": []}, ["row 1", "answers", "leave out an empty list"]),
        ({"answer": "x"}, ["row 1", "without `choices`"]),
        ({"answers": None, "choices": ["a", "b"], "answer": "c"}, ["row 1", "0 to 1", "exact text"]),
        ({"answers": None, "choices": ["a"], "answer": "a"}, ["row 1", "two or more"]),
        ({"answers": None, "choices": ["a", "a"], "answer": "a"}, ["row 1", "twice"]),
        ({"choices": ["a", "b"], "answer": "a"}, ["row 1", "both given"]),
        ({"image": None, "prompt": "what is <image>"}, ["row 1", "prompt holds 1 <image> marks for 0 images"]),
        ({"image": "https://example.org/a.png"}, ["row 1", "is on the web", "download it"]),
        ({"image": "data:image/png;base64,????"}, ["row 1", "not base64"]),
        ({"image": None, "video": "none"}, ["row 1", "video", "no such folder"]),
        ({"image": None, "video": "data.jsonl"}, ["row 1", "a video file", "ffmpeg", "list of images"]),
        ({"image": None, "video": []}, ["row 1", "has no frames"]),
        ({"image": "iVBORw0KGgo" * 9000}, ["row 1", "99", "base64 goes behind data:image/png;base64,"]),
        ({"image": "data:image/png;base64," + "A" * 99999}, ["row 1", "not base64"]),
        ({"image": "data:image/png;base64," + "AAAA" * 9999}, ["row 1", "cannot be read as an image"]),
        ({"image": "x" * 300}, ["row 1", "no such file"]),
        ({"image": None, "video": "x" * 9000}, ["row 1", "no such folder"]),
        ({"prompt": "  " * 9000}, ["row 1", "not empty"]),
        ({"answers": [1] * 9000}, ["row 1", "must be a list of strings"]),
        ({"answers": None, "choices": ["a", "b"], "answer": "c" * 9000}, ["row 1", "is 'ccc"]),
    ],
)
def test_a_bad_row_is_named_with_field_and_remedy(folder, bad, words):
    path = write(folder, [row(0), row(1) | bad])
    with pytest.raises(DataError) as caught:
        load_samples(path)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert caught.value.field.startswith("rows[1].")


def test_rows_of_a_file_need_no_cache(folder, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", "/proc/no/home")
    assert len(load_samples(write(folder, [row(0), row(1)]))) == 2


def test_all_bad_rows_are_counted(folder):
    with pytest.raises(DataError, match=r"row 0.*row 1.*row 2.*and 1 more rows"):
        load_samples(write(folder, [row(i, prompt="") for i in range(4)]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "a"}\n{nonsense\n', "row 1 is not JSON"),
        ('{"prompt": "a"}\n[1]\n', "row 1 is not a JSON object"),
    ],
)
def test_a_bad_file_is_one_line(folder, text, words):
    (folder / "bad.jsonl").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        load_samples(folder / "bad.jsonl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (b"", 3_000_000_000, "has 3,000,000,000 bytes"),
        (b"{}\n", 100_000_010, "row 1 has more than 100,000,000 bytes"),
        (b"{}\n" * 1_000_001, None, "has more than 1,000,000 rows"),
    ],
)
def test_rows_beyond_all_measure_are_refused_before_they_are_read(folder, monkeypatch, content, size, words):
    file = folder / "data.jsonl"
    file.write_bytes(content)
    if size:
        os.truncate(file, size)  # a file with a hole takes no room
    monkeypatch.setattr(samples, "load_dataset", None)
    with pytest.raises(DataError, match=words) as caught:
        load_samples(file)
    assert (caught.value.field, caught.value.value) == ("data.path", str(file))
    assert caught.value.remedy


def test_bad_options(folder):
    path = write(folder, [row(0)])
    for options, field in [
        ({"samples": 2}, "data.samples"),
        ({"samples": 0}, "data.samples"),
        ({"split": "test"}, "data.split"),
        ({"columns": {"picture": "image"}}, "data.columns"),
        ({"columns": {"image": "picture"}}, "data.columns.image"),
    ]:
        with pytest.raises(DataError) as caught:
            load_samples(path, **options)
        assert caught.value.field == field
        assert caught.value.remedy
    with pytest.raises(DataError, match="no such file"):
        load_samples(folder / "none.jsonl")
