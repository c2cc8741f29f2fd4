"""The picture of the first batch shows the network's own pixels, with readable names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from espalier.report.batch import contact_sheet


def images(count: int, side: int) -> npt.NDArray[np.uint8]:
    levels = np.linspace(0, 250, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, side, side, 3)).copy()


def drawn(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    ("count", "side", "cell", "columns", "rows"),
    [(16, 128, 256, 4, 4), (40, 224, 224, 4, 4), (3, 32, 192, 3, 1), (5, 200, 200, 4, 2)],
)
def test_images_lie_on_a_grid_pixel_for_pixel(
    tmp_path: Path, count: int, side: int, cell: int, columns: int, rows: int
) -> None:
    batch = images(count, side)
    path = contact_sheet(batch, ["leaf"] * count, tmp_path / "train_batch.jpg")
    picture = drawn(path)
    assert picture.shape == (rows * (cell + 26) + 8, columns * (cell + 8) + 8, 3)
    for i in range(min(count, 16)):
        left, top = 8 + i % columns * (cell + 8), 8 + i // columns * (cell + 26)
        tile = picture[top : top + cell, left : left + cell].astype(float)
        assert np.abs(tile - batch[i, 0, 0, 0])[8:-8, 8:-8].max() <= 2
    assert [file.name for file in tmp_path.iterdir()] == ["train_batch.jpg"]


def test_every_image_has_its_name_under_it(tmp_path: Path) -> None:
    batch = np.full((2, 200, 200, 3), 90, dtype=np.uint8)
    named = drawn(contact_sheet(batch, ["Loose_Silky-bent", ""], tmp_path / "a.jpg"))
    strips = [named[208:234, 8 + i * 208 : 208 + i * 208].min() for i in (0, 1)]
    assert max(strips) < 120


@pytest.mark.parametrize(
    "name", ["x" * 300, "W" * 40, "i" * 90, "a$b$c", "línea\nnueva\x1b[31m", "葉枯病", "\ud800"]
)
def test_odd_names_are_drawn_and_stay_within_their_cell(tmp_path: Path, name: str) -> None:
    batch = np.full((2, 200, 200, 3), 90, dtype=np.uint8)
    picture = drawn(contact_sheet(batch, [name, " "], tmp_path / "a.jpg"))
    assert picture[209:233, 209:216].min() > 200


def test_nothing_to_show_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 images"):
        contact_sheet(images(0, 8), [], tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="2 labels"):
        contact_sheet(images(3, 8), ["a", "b"], tmp_path / "a.jpg")
