"""Rows as conversations: system prompt, history, images and videos at their places, nothing of a text changed."""

from __future__ import annotations

import base64
import io
import json

import pytest
from datasets import Dataset
from PIL import Image as Pillow

from autoprune.data.messages import split_marks
from autoprune.data.samples import load_samples
from autoprune.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        Pillow.new("RGB", (4 + i, 4), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "frames").mkdir()
    for i in range(11):
        Pillow.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "frames" / f"f{i}.png")
    return tmp_path


def load(folder, *rows):
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_samples(path)


def kinds(message):
    return [part.text if part.kind == "text" else part.kind for part in message.content]


def user(*content):
    return {"role": "user", "content": list(content)}


def test_a_prompt_is_one_message_and_keeps_every_character(folder):
    (sample,) = load(folder, {"images": ["0.png", "1.png"], "prompt": "First: <image>\nand second:<image> Compare.\n"})
    assert [m.role for m in sample.conversation] == ["user"]
    assert kinds(sample.conversation[0]) == ["First: ", "image", "\nand second:", "image", " Compare.\n"]
    assert split_marks("a <video> b") == split_marks("a <video> b", ())  # text where the row has no video


def test_system_prompt_history_and_images_at_their_places(folder):
    chat = [
        {"role": "system", "content": "Answer in one word. "},
        user({"type": "image"}, {"type": "text", "text": "And this? "}),
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        user({"type": "text", "text": "Look at "}, {"type": "image"}, {"type": "text", "text": " again"}),
    ]
    (sample,) = load(folder, {"messages": chat, "images": ["0.png", "2.png"], "answers": ["blue"]})
    assert [image.size[0] for image in sample.images] == [4, 6]
    assert [(m.role, kinds(m)) for m in sample.conversation] == [
        ("system", ["Answer in one word. "]),
        ("user", ["image", "And this? "]),
        ("assistant", ["red"]),
        ("user", ["Look at ", "image", " again"]),
    ]


@pytest.mark.parametrize("place", ["mark", "nowhere"])
def test_a_plain_text_as_content(folder, place):
    text = "<image> what?" if place == "mark" else "what?"
    (sample,) = load(folder, {"messages": [{"role": "user", "content": text}], "image": "0.png"})
    assert kinds(sample.conversation[0]) == ["image", " what?" if place == "mark" else "what?"]


def test_images_inside_the_messages(folder):
    buffer = io.BytesIO()
    Pillow.new("RGB", (9, 9)).save(buffer, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = user(
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "or"},
        {"type": "image"},
        {"type": "image", "path": "1.png"},
        {"type": "image_url", "image_url": "2.png"},
    )
    (sample,) = load(folder, {"messages": [content], "image": "0.png"})
    assert [image.size[0] for image in sample.images] == [9, 4, 5, 6]


def test_messages_in_parquet(folder):
    chat = [user({"type": "image", "text": None}, {"type": "text", "text": "what?"})]
    Dataset.from_list([{"messages": chat, "image": "0.png"}]).to_parquet(folder / "d.parquet")
    assert kinds(load_samples(folder / "d.parquet")[0].conversation[0]) == ["image", "what?"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [user({"type": "audio"})]}, ["messages [0] holds a piece of type 'audio'", "use text, image"]),
        ({"messages": "hello"}, ["must be a list of messages"]),
        ({"messages": [{"role": "human", "content": "x"}]}, ["[0] has the role 'human'", "use system"]),
        ({"messages": [{"role": "system", "content": "x"}]}, ["no message of the user"]),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, ["'tool_calls'", "not read"]),
        ({"messages": [user({"type": "text", "text": "x"}), {"role": "assistant", "content": "y"}]}, ["`answers`"]),
        ({"messages": [user({"type": "image"})], "images": ["0.png", "1.png"]}, ["holds 1 <image> marks for 2 images"]),
        (
            {"messages": [user({"type": "text", "text": "x"}), user({"type": "text", "text": "y"})], "image": "0.png"},
            ["do not say where", '{"type": "image"}'],
        ),
        ({"messages": [user({"type": "text", "text": "x"})], "prompt": "x"}, ["both given"]),
        ({"messages": [user({"type": "image", "url": "http://a/b.png"})]}, ["is on the web"]),
    ],
)
def test_bad_messages_are_named_with_row_and_remedy(folder, row, words):
    with pytest.raises(DataError) as caught:
        load(folder, {"image": "0.png", "prompt": "x"}, row)
    for word in ["row 1", *words]:
        assert word in str(caught.value)
    assert caught.value.remedy


def test_a_video_is_a_folder_or_a_list_of_frames(folder):
    listed = [f"frames/f{i}.png" for i in range(11)]
    one, two = load(folder, {"video": "frames", "prompt": "what?"}, {"video": listed, "prompt": "<video> what?"})
    assert [frame.open().getpixel((0, 0))[0] for frame in one.videos[0].frames] == list(range(11))  # f10 behind f9
    assert [frame.sha256 for frame in one.videos[0].frames] == [frame.sha256 for frame in two.videos[0].frames]
    assert kinds(one.conversation[0]) == ["video", "what?"]
    assert kinds(two.conversation[0]) == ["video", " what?"]
    assert one.group == two.group


def test_frames_of_several_sizes_are_refused(folder):
    with pytest.raises(DataError, match="frames of 2 sizes"):
        load(folder, {"video": ["0.png", "1.png"], "prompt": "what?"})


def test_rows_without_an_image_stand_among_others_and_are_counted(folder):
    data = load(
        folder,
        {"image": "0.png", "prompt": "a", "answers": ["x"]},
        {"prompt": "b", "choices": ["x", "y"], "answer": "B"},
        {"prompt": "c", "images": []},
        {"prompt": "c", "video": "frames"},
    )
    assert data.kinds == {"answers": 1, "choices": 1, "neither": 2, "video": 1, "text only": 2}
    assert len({sample.group for sample in data}) == 4
    assert data[1].answer == 1
    with pytest.raises(DataError, match="no row has an image or a video") as caught:
        load(folder, {"prompt": "b"}, {"prompt": "c"})
    assert "`columns`" in caught.value.remedy


def test_the_right_choice_by_its_letter(folder):
    rows = [{"image": "0.png", "prompt": "x", "choices": ["red", "blue", "A"], "answer": a} for a in "BCA"]
    assert [sample.answer for sample in load(folder, *rows)] == [1, 2, 2]  # a text of a choice comes first
    with pytest.raises(DataError, match=r"the letter \(A to C\)"):
        load(folder, rows[0] | {"answer": "D"})


def test_digests_tell_what_a_model_sees_apart(folder):
    def digest(**row):
        return load(folder, {"image": "0.png", **row})[0].digest

    plain = digest(prompt="what?")
    assert digest(prompt="what? ") != plain
    assert digest(messages=[user({"type": "text", "text": "what?"})]) != plain
    one, two = (digest(messages=[user({"type": "text", "text": t})]) for t in ("a", "b"))
    assert one != two
    with_video = [load(folder, {"video": v, "prompt": "x", "id": "i"})[0].digest for v in ("frames", ["0.png"])]
    assert with_video[0] != with_video[1]


def test_the_digest_of_a_row_from_before_these_fields_is_the_same(folder):
    row = {"image": "0.png", "prompt": "what is it?", "answers": ["x"], "task": "t", "id": "7", "group": "g"}
    fields = {**row, "images": [load(folder, row)[0].images[0].sha256], "choices": None, "answer": None}
    del fields["image"]
    import hashlib

    assert load(folder, row)[0].digest == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
