"""From folder to folder: complete, repeatable, never overwriting, going on after a kill."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_objects import photographs
from PIL import Image

from espalier.data.images import content_hash
from espalier.errors import DataError
from espalier.synth.folder import COLUMNS, MANIFEST, Order, make

SHARES = {"light": 0.3, "medium": 0.5, "heavy": 0.2}


def order(tmp_path: Path, photos: Path, **values: object) -> Order:
    return replace(Order(photos, tmp_path / "out", "dirty", SHARES), **values)  # type: ignore[arg-type]


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")
    }


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photographs(tmp_path / "photos" / "clean", 3)


def test_pictures_and_their_table(tmp_path: Path, photos: Path) -> None:
    before = bytes_of(photos)
    made = make(order(tmp_path, photos))
    rows = rows_of(tmp_path / "out")
    assert made.made.total() == len(rows) == 6
    assert tuple(rows[0]) == COLUMNS
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        MANIFEST,
        *(row["path"] for row in rows),
    }
    for row in rows:
        source = Path(row["source"])
        assert re.fullmatch(re.escape(source.stem) + r"__dirty_[12]_[0-9a-f]{8}\.jpg", row["path"])
        assert row["group"] == content_hash(source.read_bytes())
        assert (row["label"], row["split"], row["synthetic"]) == ("dirty", "train", "yes")
        with Image.open(tmp_path / "out" / row["path"]) as image:
            assert image.size == (160, 120)
            assert image.info["comment"].startswith(b"synthetic: espalier synth dirty")
    assert bytes_of(photos) == before


def test_the_same_order_elsewhere_gives_the_same_bytes(tmp_path: Path, photos: Path) -> None:
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        make(order(tmp_path, photos, out=tmp_path / name, variations=1, seed=seed))
    first, second = bytes_of(tmp_path / "a"), bytes_of(tmp_path / "b")
    assert first == second
    pictures = first.keys() - {MANIFEST}
    assert pictures.isdisjoint(bytes_of(tmp_path / "c"))


def test_a_second_call_makes_what_is_missing_only(tmp_path: Path, photos: Path) -> None:
    first = order(tmp_path, photos)
    make(first)
    whole = bytes_of(first.out)
    gone = sorted(first.out.glob("*.jpg"))[2]
    gone.unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in first.out.glob("*.jpg")}
    again = make(first)
    assert (again.made.total(), again.there) == (1, 5)
    assert bytes_of(first.out) == whole
    assert all((first.out / name).stat().st_mtime_ns == at for name, at in kept.items())
    more = make(replace(first, variations=3))
    assert more.made.total() == 3
    assert len(rows_of(first.out)) == 9


def test_a_killed_call_is_taken_up(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 4)
    code = (
        "import sys; from pathlib import Path; from espalier.synth.folder import Order, make;"
        "make(Order(Path(sys.argv[1]), Path(sys.argv[2]), 'dirty', {'light': 0.5, 'heavy': 0.5}))"
    )
    words = [sys.executable, "-c", code, str(photos), str(tmp_path / "out")]
    process = subprocess.Popen(words)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("[!.]*.jpg"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*__dirty_*.jpg")}
    left = {name: data for name, data in left.items() if not name.startswith(".")}
    assert 2 <= len(left) < 8
    shares = {"light": 0.5, "heavy": 0.5}
    make(Order(photos, tmp_path / "out", "dirty", shares))
    make(Order(photos, tmp_path / "whole", "dirty", shares))
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in left.items())


def test_unreadable_files_and_copies_are_counted(tmp_path: Path, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (photos / "empty.png").touch()
    (photos / "note.txt").write_text("no image")
    (photos / "copy.jpg").write_bytes((photos / "plate 0.jpg").read_bytes())
    made = make(order(tmp_path, photos, variations=1))
    assert [Path(path).name for path, _ in made.unreadable] == ["broken.jpg", "empty.png"]
    assert (made.photographs, made.copies, made.made.total()) == (4, 1, 3)


def test_a_photograph_without_an_object_is_passed_over(tmp_path: Path, photos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "no dish.png")
    made = make(order(tmp_path, photos))
    assert [Path(path).name for path in made.not_found] == ["no dish.png"]
    assert made.made.total() == 6
    topped = make(order(tmp_path, photos, variations=None, ratio=2))
    assert topped.made.total() == 2
    assert topped.is_enough


def test_no_object_anywhere_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (90, 90), "white").save(folder / "white.png")
    for values in ({}, {"variations": None, "ratio": 2.0}):
        with pytest.raises(DataError, match="none of the 1 photographs"):
            make(order(tmp_path, folder, **values))
    assert not (tmp_path / "out").exists()


def test_ratio_counts_real_and_painted(tmp_path: Path, photos: Path) -> None:
    real = photographs(tmp_path / "photos" / "dirty", 2)
    top_up = order(tmp_path, photos, variations=None, ratio=2.0, against=real)
    first = make(top_up)
    assert (first.real, first.there, first.made.total()) == (2, 0, 4)
    again = make(replace(top_up, seed=5))
    assert (again.there, again.made.total(), again.is_enough) == (4, 0, True)
    more = make(replace(top_up, ratio=3.0))
    assert more.made.total() == 3


def test_a_ratio_that_is_reached_writes_nothing(tmp_path: Path, photos: Path) -> None:
    real = photographs(tmp_path / "dirty", 2)
    made = make(order(tmp_path, photos, variations=None, ratio=0.5, against=real))
    assert (made.made.total(), made.is_enough) == (0, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["photos/clean", "photos/clean/new", "photos", "."])
def test_output_and_photographs_lie_apart(tmp_path: Path, photos: Path, where: str) -> None:
    with pytest.raises(DataError, match="lie in one another"):
        make(order(tmp_path, photos, out=tmp_path / where))


def test_a_link_into_the_photographs_is_seen_through(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(DataError, match="lie in one another"):
        make(order(tmp_path, photos, out=tmp_path / "link" / "new"))


def test_a_folder_with_other_files_is_refused(tmp_path: Path, photos: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="nothing is added"):
        make(order(tmp_path, photos, out=other))
    (other / MANIFEST).write_text("path,label\nmine.jpg,x\n")
    with pytest.raises(DataError, match="not a table of synthetic"):
        make(order(tmp_path, photos, out=other))
    assert (other / "mine.jpg").read_bytes() == b"mine"
    assert len(list(other.iterdir())) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variations": 0}, "0 variations"),
        ({"ratio": 2.0}, "either"),
        ({"variations": None}, "either"),
        ({"variations": None, "ratio": -1.0}, "a ratio of -1"),
        ({"against": Path("x")}, "need a ratio"),
        ({"source": Path("no such folder")}, "is not a folder"),
        ({"painter": "dirt"}, "no painter"),
    ],
)
def test_orders_that_cannot_be_met(
    tmp_path: Path, photos: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make(order(tmp_path, photos, **values))
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_pictures_that_a_kill_left_out_of_the_table_count_for_a_ratio(
    tmp_path: Path, photos: Path
) -> None:
    wanted = order(tmp_path, photos, variations=None, ratio=2.0)
    make(wanted)
    table = wanted.out / MANIFEST
    table.write_text(table.read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    again = make(wanted)
    assert (again.made.total(), again.there, again.is_enough) == (0, 6, True)
    assert len(rows_of(wanted.out)) == len(list(wanted.out.glob("*.jpg"))) == 6
