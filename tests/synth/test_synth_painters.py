"""Paint stays on the object, takes the photograph's noise, and grows with its intensity."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_objects import Mask, Pixels, dish, leaf

from espalier.errors import DataError
from espalier.synth import painters
from espalier.synth.canvas import Canvas
from espalier.synth.plan import INTENSITIES
from espalier.synth.region import Region

DOCS = Path(__file__).resolve().parents[2] / "docs" / "guide" / "synthetic.md"
SUBJECTS = {"dirty": dish, "lesions": leaf}
CASES = [(name, kind) for name in SUBJECTS for kind in painters.load(name).KINDS]


def paint(name: str, pixels: Pixels, kind: str, amount: float, seed: int = 0) -> Pixels:
    painter, rng = painters.load(name), np.random.default_rng(seed)
    canvas = Canvas(pixels, painter.find(pixels), rng)
    painter.paint(canvas, rng, amount, kind)
    return canvas.finished(rng)


def changed(before: Pixels, after: Pixels) -> Mask:
    moved: Mask = np.abs(before.astype(int) - after).max(axis=2) > 6
    return moved


def test_each_painter_is_the_file_of_its_name() -> None:
    assert painters.names() == ("dirty", "lesions")
    with pytest.raises(DataError, match="no painter `dirt`"):
        painters.load("dirt")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_kind_shows_on_the_object_and_nowhere_else(name: str, kind: str) -> None:
    pixels, truth = SUBJECTS[name]()
    around = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    for amount in INTENSITIES.values():
        found = paint(name, pixels, kind, amount)
        assert found.shape == pixels.shape
        assert found.dtype == np.uint8
        assert np.array_equal(found[around], pixels[around])
        assert changed(pixels, found)[truth].mean() > 0.01


@pytest.mark.parametrize("name", SUBJECTS)
def test_more_is_more(name: str) -> None:
    pixels, truth = SUBJECTS[name]()
    shares = [
        np.mean(
            [
                changed(pixels, paint(name, pixels, kind, amount, seed))[truth].mean()
                for seed in range(2)
                for kind in painters.load(name).KINDS[::4]
            ]
        )
        for amount in INTENSITIES.values()
    ]
    assert shares[0] < 0.8 * shares[1]
    assert shares[1] < 0.85 * shares[2]


def test_a_seed_decides_every_pixel() -> None:
    pixels, _ = dish()
    assert np.array_equal(
        paint("dirty", pixels, "curry", 1, 3), paint("dirty", pixels, "curry", 1, 3)
    )
    assert not np.array_equal(
        paint("dirty", pixels, "curry", 1, 3), paint("dirty", pixels, "curry", 1, 4)
    )


def test_large_photographs_keep_their_pixels_between_the_marks() -> None:
    pixels, truth = dish(1200, 1600)
    found = paint("dirty", pixels, "toast", INTENSITIES["light"])
    assert found.shape == pixels.shape
    assert (found != pixels).any(axis=2)[truth].mean() > 0.003
    around = cv2.dilate(truth.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert np.array_equal(found[around], pixels[around])


def test_paint_has_the_grain_of_the_photograph() -> None:
    """What covers a noisy photograph is noisy, what covers a smooth one is smooth."""
    rng = np.random.default_rng(0)
    whole = Region(np.ones((160, 160), np.float32), 1.0)
    deviations = []
    for sigma in (0.0, 6.0):
        noisy = 190 + rng.normal(0, sigma, (160, 160, 1)) + np.zeros(3)
        canvas = Canvas(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), whole, rng)
        canvas.lay(canvas.blank() + 3, (0.3, 0.1, 0.03), body=4)
        covered = canvas.finished(rng)[40:120, 40:120, 0].astype(float)
        deviations.append((covered - cv2.GaussianBlur(covered, (0, 0), 3)).std())
    assert deviations[0] < 1.0
    assert 3.0 < deviations[1] < 9.0


def test_a_layer_follows_beer_and_lambert() -> None:
    """Two thin layers of a clear liquid look like one of twice the thickness."""
    rng = np.random.default_rng(0)
    whole = Region(np.ones((64, 64), np.float32), 1.0)
    white = np.full((64, 64, 3), 200, np.uint8)
    twice, once = Canvas(white, whole, rng), Canvas(white, whole, rng)
    for _ in range(2):
        twice.lay(twice.blank() + 0.4, (0.4, 0.1, 0.03), body=0)
    once.lay(once.blank() + 0.8, (0.4, 0.1, 0.03), body=0)
    assert np.allclose(twice.paint, once.paint, atol=1e-5)
    red, green, blue = once.paint[32, 32]
    assert red > green > blue


def test_dirt_is_dark_where_the_dish_lies_in_shadow() -> None:
    light = np.linspace(230, 120, 200)[None, :, None] + np.zeros((200, 200, 3))
    rng = np.random.default_rng(0)
    canvas = Canvas(light.astype(np.uint8), Region(np.ones((200, 200), np.float32), 1.0), rng)
    canvas.lay(canvas.blank() + 3, (0.5, 0.4, 0.3), body=4)
    found = canvas.finished(rng).mean(axis=(0, 2))
    assert found[20] > 1.15 * found[180]


def test_the_painter_of_the_guide_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "scratches.py").write_text(code.group(1), encoding="utf-8")
    monkeypatch.setattr(painters, "__path__", [*painters.__path__, str(tmp_path)])
    assert "scratches" in painters.names()
    pixels, truth = dish(colour=(40, 42, 45))
    for kind in ("fork", "knife"):
        found = paint("scratches", pixels, kind, 1)
        assert 0.005 < changed(pixels, found)[truth].mean() < 0.5
