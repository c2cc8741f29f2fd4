"""Every kind of image file that people have reads right, or is refused with a reason."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import odd_images
import pytest
from PIL import Image, ImageFile, ImageOps

from espalier.data import images
from espalier.data.images import (
    image_size,
    inspect_image,
    largest_reduced,
    read_image,
    read_picture,
    reduced,
)
from espalier.errors import UnreadableImageError


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> str:
    path = tmp_path / name
    image.save(path, **options)
    return str(path)


def refusal(path: Path, data: bytes) -> str:
    """The reason, which must be the same however the file is looked at."""
    path.write_bytes(data)
    seen = inspect_image(str(path))
    assert (seen.width, seen.height) == (0, 0)
    assert seen.content == hashlib.sha256(data).hexdigest()[:16]
    with pytest.raises(UnreadableImageError) as caught:
        read_image(str(path))
    assert caught.value.message == seen.reason
    return seen.reason


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "A B ü.PNG", "名前.WEBP"])
def test_lossless_files_read_exactly(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("WEBP") else {}
    path = saved(tmp_path, odd_images.picture(), name, **options)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(odd_images.picture()))
    assert inspect_image(path)[1:] == (48, 32, "")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, "tif") for mode in ("L", "1", "P", "CMYK", "YCbCr")]
    + [(mode, "png") for mode in ("L", "1", "P")]
    + [(mode, "jpg") for mode in ("L", "CMYK", "YCbCr")],
)
def test_other_colour_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = odd_images.picture().convert(mode)
    pixels = read_image(saved(tmp_path, image, f"a.{suffix}"))
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < (12 if suffix == "jpg" else 2)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_by_their_whole_range(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 128, 257, 25700, 32768, 65535]], dtype=np.uint16)
    wide = Image.fromarray(values)
    if mode == "I;16B":
        wide = Image.frombytes("I;16B", wide.size, values.astype(">u2").tobytes())
    pixels = read_image(saved(tmp_path, wide, "deep.tif"))
    np.testing.assert_array_equal(pixels[0, :, 0], np.rint(values[0] / 257).astype(np.uint8))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bit_png_and_pgm_and_dark_ones_keep_their_darkness(tmp_path: Path) -> None:
    values = np.full((4, 4), 200, dtype=np.uint16)
    values[0, 0] = 2570
    for name in ("a.png", "a.pgm"):
        pixels = read_image(saved(tmp_path, Image.fromarray(values), name))
        assert pixels[0, 0].tolist() == [10, 10, 10]
        assert pixels[1, 1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0, 128.0, 255], [0, 128, 255]),
        ([-3, 0, 3], [0, 128, 255]),
    ],
)
def test_float_pictures_are_scaled_by_their_range(
    tmp_path: Path, values: list[float], expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert read_image(saved(tmp_path, image, "a.tif"))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 1), (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    image.putpixel((2, 0), (0, 0, 0, 102) if mode == "RGBA" else (0, 102))
    pixels = read_image(saved(tmp_path, image, "a.png"))
    assert pixels[0, :, 0].tolist() == [0, 255, 153]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_a_palette_with_transparency_lies_on_white(
    tmp_path: Path, transparency: int | bytes
) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.putpixel((1, 0), 1)
    for name in ("a.png", "a.gif"):
        given = 1 if name == "a.gif" else transparency
        pixels = read_image(saved(tmp_path, image, name, transparency=given))
        assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_give_their_first_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if name == "a.webp" else {}
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **lossless)
    assert read_image(path)[3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, form: str, orientation: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(odd_images.oriented(odd_images.picture(), orientation, form))
    pixels = read_image(str(path))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(pixels, expected)
    turned = (32, 48) if orientation >= 5 else (48, 32)
    assert inspect_image(str(path))[1:3] == turned


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(odd_images.jpeg(odd_images.picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\0zz"))
    assert read_image(str(path)).shape == (32, 48, 3)
    assert inspect_image(str(path)).reason == ""


@pytest.mark.parametrize("at_least", [1, 60, 100, 101, 150, 399, 400, 1000])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_draft_keeps_the_short_side_large_enough(
    tmp_path: Path, at_least: int, orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(odd_images.oriented(odd_images.picture(601, 400), orientation, "JPEG"))
    full = read_image(str(path))
    small = read_image(str(path), at_least=at_least)
    assert min(small.shape[:2]) >= min(at_least, 400)
    assert min(small.shape[:2]) <= max(2 * at_least, 51)
    assert (small.shape[0] > small.shape[1]) == (full.shape[0] > full.shape[1])
    seen = inspect_image(str(path))
    assert (seen.height, seen.width) == full.shape[:2]


def test_a_mislabelled_picture_reads_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "really_png.jpg"
    odd_images.picture().save(path, "PNG")
    np.testing.assert_array_equal(read_image(str(path)), np.asarray(odd_images.picture()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"this is a shopping list\n" * 20, "holds text"),
        (b"\0" * 5000, "only zeros"),
        (bytes(range(200)), "not a picture in a known format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\x01" * 50, "HEIC.*JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (odd_images.png_header(40, 40), "truncated|damaged"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    assert re.search(reason, refusal(tmp_path / "a.jpg", data))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in inspect_image(str(tmp_path / "gone.jpg")).reason
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_image(str(tmp_path / "gone.jpg"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_found_by_the_draft_too(tmp_path: Path, progressive: bool) -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    data = odd_images.jpeg(odd_images.noise(640, 480), quality=80, progressive=progressive)
    for share in (0.1, 0.5, 0.9, 0.99, 0.999):
        reason = refusal(tmp_path / "a.jpg", data[: int(len(data) * share)])
        assert "truncated" in reason


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 8, 16, 64, 256])
def test_scan_and_reading_agree_about_the_last_bytes(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(odd_images.jpeg(odd_images.noise(160, 120), quality=90)[:-lost])
    seen = inspect_image(str(path))
    if seen.reason:
        with pytest.raises(UnreadableImageError, match=re.escape(seen.reason)):
            read_image(str(path))
    else:
        assert read_image(str(path)).shape == (120, 160, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_other_truncated_formats_are_refused(tmp_path: Path, form: str) -> None:
    buffer = io.BytesIO()
    odd_images.noise(100, 80).save(buffer, form)
    data = buffer.getvalue()
    assert refusal(tmp_path / "a.img", data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_with_the_limit(tmp_path: Path) -> None:
    reason = refusal(tmp_path / "bomb.png", odd_images.png_header(60_000, 50_000))
    assert "3,000,000,000 pixels" in reason
    assert f"{images.MAX_PIXELS:,}" in reason


def test_the_limit_holds_where_pillow_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    reason = refusal(tmp_path / "bomb.png", odd_images.png_header(60_000, 50_000))
    assert reason.startswith("too large: 60,000 x 50,000 pixels")


def test_pillow_s_warnings_stay_inside_in_every_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, odd_images.picture(), "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(path).load()
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(inspect_image, [path] * 200))
    assert {one.reason for one in seen} == {""}
    assert list(warnings.filters) == before
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(path).load()


@pytest.mark.parametrize("height", [1, 40, 79, 80, 100, 104, 105, 161, 240, 400, 1003])
@pytest.mark.parametrize("shape", [1.0, 4 / 3, 20.0])
@pytest.mark.parametrize("upright", [True, False])
def test_reduced_pictures_are_little_larger_than_asked_for(
    height: int, shape: float, upright: bool
) -> None:
    side = 80
    full = np.zeros((height, round(height * shape), 3), dtype=np.uint8)
    full = full.transpose(1, 0, 2) if upright else full
    small = reduced(full, side)
    assert min(height, side) <= min(small.shape[:2]) <= max(1.3 * side, 1)
    assert small.nbytes <= largest_reduced(full.shape[1], full.shape[0], side)
    if height <= 1.3 * side:
        assert small is full
    else:
        assert max(small.shape) / min(small.shape[:2]) == pytest.approx(shape, rel=0.02)


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_whole_steps_are_plain_averages(steps: int) -> None:
    size = 50 * steps + steps - 1
    full = np.random.default_rng(0).integers(0, 256, (size, size + 9, 3), dtype=np.uint8)
    small = reduced(full, 45)
    rows, columns = size // steps, (size + 9) // steps
    whole = full[: rows * steps, : columns * steps].astype(float)
    expected = whole.reshape(rows, steps, columns, steps, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 0.5 + 1e-9


def test_other_sizes_average_by_area() -> None:
    full = np.random.default_rng(0).integers(0, 256, (170, 170, 3), dtype=np.uint8)
    small = reduced(full, 100)
    # Each pixel stands for 17 x 17 of ten times as many, of which each source pixel is 10 x 10.
    fine = np.repeat(np.repeat(full, 10, axis=0), 10, axis=1).astype(float)
    expected = fine.reshape(100, 17, 100, 17, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 1.0


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_knows_its_hash_and_its_whole_size(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(odd_images.oriented(odd_images.noise(601, 400), orientation, "JPEG"))
    picture = read_picture(str(path), at_least=60)
    seen = inspect_image(str(path))
    assert (picture.content, picture.width, picture.height) == seen[:3]
    np.testing.assert_array_equal(picture.pixels, read_image(str(path), at_least=60))


def test_sizes_are_read_from_the_head(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    data = odd_images.jpeg(odd_images.noise(601, 400))
    for content, size in ((data[:2000], (601, 400)), (b"", None), (b"text", None)):
        path.write_bytes(content)
        assert image_size(str(path)) == size
    assert image_size(str(tmp_path / "gone.jpg")) is None
