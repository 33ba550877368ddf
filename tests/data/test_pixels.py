"""Images of every depth, orientation and format become 8-bit RGB by one rule, or are refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from autoprune.data import pixels
from autoprune.data.images import ImageSource
from autoprune.data.samples import load_samples
from autoprune.errors import DataError

GREY = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes) -> np.ndarray:
    source = ImageSource(data=data)
    source.check()
    image = source.open()
    assert image.mode == "RGB"
    assert image.size == source.size
    return np.asarray(image)


def test_sixteen_bits_are_scaled_and_not_cut():
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert (shown(saved(deep))[..., 0] == GREY).all()


def test_what_is_transparent_stands_on_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert shown(saved(image)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    palette = image.convert("P")
    palette.putpixel((1, 0), 7)
    assert shown(saved(palette, transparency=7))[0, 1].tolist() == [255, 255, 255]


def test_a_photograph_is_turned_as_its_camera_was_held():
    upright = Image.fromarray(np.stack([GREY[:4]] * 3, -1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter when it is shown
    turned = shown(saved(upright, exif=exif))
    assert turned.shape == (8, 4, 3)
    assert (turned == np.rot90(np.asarray(upright), -1)).all()


def test_the_digest_tells_what_the_rule_changes():
    plain, deep = saved(Image.fromarray(GREY)), saved(Image.fromarray(GREY.astype(np.uint16) * 257))
    source = ImageSource(data=plain)
    assert source.sha256 == hashlib.sha256(plain).hexdigest(), "as before there was a rule"
    assert ImageSource(data=deep).sha256 != hashlib.sha256(deep).hexdigest()


def test_of_an_animation_the_first_frame_is_used_and_said():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="first frame"):
        assert shown(data)[0, 0].tolist() == [255, 0, 0]


def bomb() -> bytes:
    """A PNG of a few hundred kilobytes that says it has 400 megapixels."""
    data = bytearray(saved(Image.new("1", (8, 8))))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


JPEG = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
PNG = saved(Image.fromarray(GREY))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (JPEG[: len(JPEG) // 2], "damaged"),
        (PNG[:-30], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a format that is read"),
        (b"", "no image of a format that is read"),
        (bomb(), "more than 100,000,000"),
        (saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating point"),
    ],
    ids=["half a JPEG", "cut PNG", "EPS", "nothing", "bomb", "float"],
)
def test_what_cannot_be_read_is_refused_with_its_row_before_anything_runs(tmp_path, data, said):
    (tmp_path / "good.png").write_bytes(PNG)
    (tmp_path / "bad.bin").write_bytes(data)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"image": i, "prompt": "what"}) + "\n" for i in ("good.png", "bad.bin")))
    with pytest.raises(DataError, match=said) as raised:
        load_samples(rows)
    assert "bad.bin" in str(raised.value)
    assert raised.value.field == "rows[1].image"


def test_formats_that_pillow_lacks_are_left_out(monkeypatch):
    monkeypatch.setattr(pixels, "FORMATS", ("PNG", "NO SUCH FORMAT"))
    pixels.check_image(PNG)
