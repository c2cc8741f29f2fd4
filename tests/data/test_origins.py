"""Painted pictures never validate or test, and never train beside a held-out original."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from espalier.data.catalog import read_catalog, write_catalog
from espalier.data.origins import place_synthetic, read_synthetic
from espalier.data.split import assign_splits
from espalier.errors import DataError
from espalier.records import Catalog, Sample

HEAD = "path,label,split,group,synthetic,source,painter,kind,intensity,seed\n"
PHOTOS = tuple(
    Sample(f"{i:016x}", f"/p/{i}.jpg", "ab"[i % 2], group=f"g{i // 2}") for i in range(40)
)
PAINTED = tuple(Sample(f"{i + 99:016x}", f"/s/{i}.jpg", "b", origin=f"{i:016x}") for i in range(40))


def test_painted_pictures_follow_their_originals_into_train_only() -> None:
    split, _ = assign_splits(PHOTOS, val_share=0.2, test_share=0.2, seed=0)
    every, notes = place_synthetic(split, PAINTED)
    part = {sample.content: sample.split for sample in split}
    found = [sample for sample in every if sample.origin]
    assert len(every) == 80
    assert all(sample.split == "train" for sample in found)
    for sample in found:
        assert (sample.status == "ok") == (part[sample.origin] == "train")
        assert sample.group == f"g{int(sample.origin, 16) // 2}"
    assert [sample for sample in every if not sample.origin] == sorted(split, key=lambda s: s.path)
    assert "they train only" in notes[0]
    assert "left out" in notes[1]


def test_a_picture_of_a_photograph_that_is_elsewhere_trains() -> None:
    stranger = replace(PAINTED[0], origin="f" * 16)
    every, _ = place_synthetic(PHOTOS, [stranger])
    assert [(s.split, s.status) for s in every if s.origin] == [("train", "ok")]


def test_the_catalog_keeps_origins(tmp_path: Path) -> None:
    catalog = Catalog(place_synthetic(PHOTOS, PAINTED)[0], ("a", "b"), "photos")
    write_catalog(catalog, tmp_path / "catalog.csv")
    assert read_catalog(tmp_path / "catalog.csv").samples == catalog.samples


def test_a_catalog_of_before_reads_without_origins(tmp_path: Path) -> None:
    path = tmp_path / "catalog.csv"
    write_catalog(Catalog(PHOTOS, ("a", "b"), "photos"), path)
    lines = path.read_text().splitlines()
    assert lines[0].endswith("reason,origin,about")
    lines[0] = lines[0].replace(",origin", "")
    lines[1] = lines[1].replace(',,"{', ',"{')
    lines[2:] = [line.removesuffix(",") for line in lines[2:]]
    path.write_text("\n".join(lines) + "\n")
    assert read_catalog(path).samples == PHOTOS


def test_the_table_of_synth_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    table = tmp_path / "synthetic.csv"
    table.write_text(HEAD + f"x.jpg,dirty,train,{'a' * 16},yes,/p/0.jpg,dirty,soy,light,0\n")
    wanted = [Sample("", str(tmp_path / "x.jpg"), "dirty", split="train", origin="a" * 16)]
    assert read_synthetic(table) == wanted
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert read_synthetic(table) == wanted


@pytest.mark.parametrize("text", ["", "path,label\nx.jpg,a\n", HEAD + "x.jpg,a,,,no,,,,,\n"])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    if text:
        with pytest.raises(DataError, match="not a table of synthetic"):
            read_synthetic(tmp_path / "t.csv")


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    table = tmp_path / "synthetic.csv"
    table.write_text(HEAD + f"gone.jpg,dirty,train,{'a' * 16},yes,/p/0.jpg,dirty,soy,light,0\n")
    with pytest.raises(DataError, match="1 of the 1 pictures"):
        read_synthetic(table)


def painted_on(*photographs: Sample) -> list[Sample]:
    """One painted picture of the first photograph, placed among all of them."""
    painted = Sample("e" * 16, "/s/e.jpg", "b", origin=photographs[0].content)
    return [s for s in place_synthetic(photographs, [painted])[0] if s.origin]


def test_a_copy_of_the_original_that_judges_counts_as_the_original() -> None:
    first = Sample("a" * 16, "/p/1.jpg", "a", split="val")
    copy = Sample(f"{'a' * 16}~2", "/p/2.jpg", "a", split="train")
    for photographs in ((first, copy), (copy, first)):
        (found,) = painted_on(*photographs)
        assert (found.status, found.reason) == ("dropped", "its photograph is in val")


def test_what_is_painted_on_a_photograph_that_a_person_left_out_goes_too() -> None:
    leaked = Sample("a" * 16, "/p/1.jpg", "a", split="train", status="dropped", reason="as a test")
    (found,) = painted_on(leaked)
    assert (found.status, found.reason) == ("dropped", "its photograph is left out")
    copy = Sample(f"{'a' * 16}~2", "/p/2.jpg", "a", split="train")
    assert [s.status for s in painted_on(leaked, copy)] == ["ok"]
