"""One look at each file: measures against plain formulas, headers, and what is kept of it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from espalier.audit import looks
from espalier.audit.looks import look_at, look_at_all
from espalier.data.sources import find_images, inspect_files
from espalier.errors import UnreadableImageError
from espalier.records import Sample


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (140, 130), **saved: object) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **saved)
    return path


def samples_in(folder: Path) -> list[Sample]:
    return inspect_files(find_images([str(folder)]))


def test_measures_equal_plain_formulas(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", size=(128, 128))
    pixels = np.asarray(Image.open(path)).astype(np.float64)
    luma = np.rint(pixels @ [0.299, 0.587, 0.114])
    smooth = gaussian_filter(luma, 1, mode="mirror")
    around = np.pad(smooth, 1, mode="reflect")
    laplacian = (
        around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * smooth
    )
    look, thumbnail = look_at(str(path))
    assert look.brightness == pytest.approx(luma.mean() / 255, abs=1e-3)
    assert look.contrast == pytest.approx(luma.std() / 255, abs=1e-3)
    assert look.sharpness == pytest.approx(laplacian.std() / luma.std(), rel=0.01)
    spread = (pixels.max(axis=2) - pixels.min(axis=2)).mean() / 255
    assert look.colour == pytest.approx(spread, abs=1e-6)
    blocks = luma.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    assert np.abs(thumbnail - blocks).max() <= 1.5


def test_gray_and_constant_pictures(tmp_path: Path) -> None:
    Image.new("L", (50, 50), 128).save(tmp_path / "gray.png")
    look, _ = look_at(str(tmp_path / "gray.png"))
    assert look.colour == look.contrast == look.sharpness == 0
    assert look.brightness == pytest.approx(128 / 255)


def test_header_tells_format_and_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = draw(tmp_path / "a.jpg", exif=exif)
    path.rename(tmp_path / "a.png")
    look, _ = look_at(str(tmp_path / "a.png"))
    assert (look.form, look.orientation) == ("JPEG", 6)


def test_blur_lowers_sharpness(tmp_path: Path) -> None:
    sharp = draw(tmp_path / "sharp.png")
    image = Image.open(sharp)
    image.resize((20, 20)).resize(image.size).save(tmp_path / "blurred.png")
    assert look_at(str(tmp_path / "blurred.png"))[0].sharpness < 0.15
    assert look_at(str(sharp))[0].sharpness > 0.25


def test_blocks_of_jpeg_do_not_hide_blur(tmp_path: Path) -> None:
    soft = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(soft).resize((140, 140), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "soft.png")
    picture.save(tmp_path / "blocks.jpg", quality=40)
    clean, coarse = (look_at(str(tmp_path / n))[0].sharpness for n in ("soft.png", "blocks.jpg"))
    assert coarse < 1.5 * clean


def test_unreadable_and_vanished_files_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 2)
    (tmp_path / "c.png").write_bytes(b"no picture")
    samples = samples_in(tmp_path)
    os.remove(tmp_path / "b.png")
    found, hashes = look_at_all(samples, folder=None, progress=None)
    assert list(found) == list(hashes.sample_ids) == [samples[0].sample_id]
    assert hashes.thumbnails.shape == (1, 32, 32)
    with pytest.raises(UnreadableImageError):
        look_at(str(tmp_path / "c.png"))


def test_exact_copies_share_one_look(tmp_path: Path) -> None:
    first = draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(first.read_bytes())
    seen: list[tuple[int, int]] = []
    samples = samples_in(tmp_path)
    found, hashes = look_at_all(samples, folder=None, progress=lambda *one: seen.append(one))
    assert list(found) == [s.sample_id for s in samples]
    assert found[samples[0].sample_id] == found[samples[1].sample_id]
    assert (hashes.thumbnails[0] == hashes.thumbnails[1]).all()
    assert seen[-1] == (2, 2)


def test_second_audit_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    samples = samples_in(tmp_path / "photos")
    first = look_at_all(samples, folder=tmp_path / "kept", progress=None)
    monkeypatch.setattr(looks, "look_at", None)
    again = look_at_all(samples, folder=tmp_path / "kept", progress=None)
    assert again[0] == first[0]
    assert again[1].sample_ids == first[1].sample_ids
    assert (again[1].thumbnails == first[1].thumbnails).all()


def test_interrupted_audit_keeps_what_it_saw(tmp_path: Path) -> None:
    for seed in range(9):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    samples = samples_in(tmp_path / "photos")

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look_at_all(samples, folder=tmp_path / "kept", progress=stop)
    seen: list[tuple[int, int]] = []
    look_at_all(samples, folder=tmp_path / "kept", progress=lambda *one: seen.append(one))
    assert seen[0][0] >= 3
    assert seen[-1] == (9, 9)


def test_damaged_and_half_written_files_of_kept_looks_cost_time_only(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png")
    samples = samples_in(tmp_path / "photos")
    expected, _ = look_at_all(samples, folder=tmp_path / "kept", progress=None)
    (file,) = (tmp_path / "kept").rglob("*.npy")
    for damage in (file.read_bytes()[:-50], b"", b"\x93NUMPY nonsense"):
        file.write_bytes(damage)
        assert look_at_all(samples, folder=tmp_path / "kept", progress=None)[0] == expected


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png")
    (tmp_path / "kept").write_text("a file where the folder should be")
    found, _ = look_at_all(samples_in(tmp_path / "photos"), folder=tmp_path / "kept", progress=None)
    assert len(found) == 1


def _look_and_keep(photos: Path, kept: Path) -> None:
    look_at_all(samples_in(photos), folder=kept, progress=None)


def test_two_audits_at_once_share_what_they_keep(tmp_path: Path) -> None:
    for seed in range(6):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_look_and_keep, args=(tmp_path / "photos", tmp_path / "kept"))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    seen: list[tuple[int, int]] = []
    look_at_all(
        samples_in(tmp_path / "photos"),
        folder=tmp_path / "kept",
        progress=lambda *one: seen.append(one),
    )
    assert seen == [(6, 6)]


def test_no_images_no_looks() -> None:
    found, hashes = look_at_all([], folder=None, progress=None)
    assert found == {}
    assert hashes.thumbnails.shape == (0, 32, 32)
