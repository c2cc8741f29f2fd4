"""A data set becomes one catalog: checked, grouped, split, written and read back exactly."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import cifar_files
import odd_images
import pandas as pd
import pytest

from espalier.data import torchvision_sets
from espalier.data.catalog import build_catalog, build_labelled, read_catalog, write_catalog
from espalier.data.images import read_image
from espalier.errors import DataError
from espalier.records import Catalog, Sample

DATASETS = Path(__file__).parents[2].parent / "shared" / "datasets"
needs_datasets = pytest.mark.skipif(
    not DATASETS.is_dir(), reason="the real photographs are not in ../shared/datasets"
)


def build(source: Path | str, **changes: object) -> Catalog:
    arguments: dict[str, object] = {
        "root": None,
        "classes": None,
        "val_share": 0.1,
        "test_share": 0.1,
        "group_by": None,
        "split_from": None,
        "seed": 0,
        "progress": None,
        **changes,
    }
    return build_catalog(str(source), **arguments)  # type: ignore[arg-type]


def refused(source: Path | str, **changes: object) -> DataError:
    with pytest.raises(DataError) as caught:
        build(source, **changes)
    assert caught.value.hint
    return caught.value


def test_a_folder_becomes_a_catalog_and_is_only_read(tmp_path: Path) -> None:
    data = odd_images.write_photos(tmp_path / "data", {"rust": 20, "mildew": 10})
    (data / "rust" / "broken.jpg").write_bytes(b"")
    before = odd_images.snapshot(tmp_path)
    catalog = build(data)
    assert catalog.classes == ("mildew", "rust")
    assert catalog.source == str(data)
    assert catalog.counts() == {"mildew": 10, "rust": 20}
    assert [catalog.counts(part) for part in ("train", "val", "test")] == [
        {"mildew": 8, "rust": 16},
        {"mildew": 1, "rust": 2},
        {"mildew": 1, "rust": 2},
    ]
    assert [sample.reason for sample in catalog.unreadable] == ["empty file (0 bytes)"]
    # The header of a run lists them with their reasons: a note would say it twice.
    assert not any("cannot be read" in note for note in catalog.notes)
    assert odd_images.snapshot(tmp_path) == before


def test_names_and_place_of_the_files_do_not_matter_to_the_split(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "one", {"a": 12, "b": 12})
    odd_images.write_photos(tmp_path / "two", {"a": 12, "b": 12}, prefix="zz renamed ")
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert {s.content: s.split for s in one.samples} == {s.content: s.split for s in two.samples}


# --- groups -----------------------------------------------------------------------------------


def plants(tmp_path: Path) -> Path:
    for plant in range(12):
        odd_images.write_photos(
            tmp_path, {"ill": 4, "well": 4}, seed=plant + 1, prefix=f"plant{plant:02}_"
        )
    return tmp_path


@pytest.mark.parametrize("pattern", [r"plant\d+", r"/(plant\d+)_\d+"])
def test_group_by_keeps_matching_images_together(tmp_path: Path, pattern: str) -> None:
    catalog = build(plants(tmp_path), group_by=pattern)
    parts = defaultdict(set)
    for sample in catalog.samples:
        assert sample.group
        parts[sample.group.removeprefix("/")].add(sample.split)
    assert len(parts) == 12
    assert all(len(found) == 1 for found in parts.values())
    assert any("12 groups" in note for note in catalog.notes)


def test_group_by_is_searched_in_the_relative_path(tmp_path: Path) -> None:
    data = odd_images.write_photos(tmp_path / "plant77", {"ill": 4, "well": 4})
    assert "matches none of the 8 paths" in refused(data, group_by=r"plant\d+").message
    some = build(data, group_by="ill/photo00[01]")
    assert any("6 images match nothing" in note for note in some.notes)
    assert "not a regular expression" in refused(data, group_by="plant(").message


def test_groups_from_two_places_at_once_are_refused(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 2, "b": 2})
    rows = [f"{c}/photo00{i}.png,{c},g{i}" for c in "ab" for i in range(2)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    assert build(tmp_path / "list.csv").samples[0].group == "g0"
    assert "at once" in refused(tmp_path / "list.csv", group_by="photo").message


# --- what cannot be trained on ----------------------------------------------------------------


def test_no_readable_image_is_refused_with_the_reasons(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jpg").write_bytes(b"")
    error = refused(tmp_path)
    assert "none of the 2 image files" in error.message
    assert len(error.problems) == 2
    assert "0 bytes" in error.problems[0]


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "flat", {"rust": 3})
    assert "one class only, `rust`" in refused(tmp_path / "flat").message
    odd_images.write_photos(tmp_path / "deep" / "images", {"rust": 3, "mildew": 3})
    assert str(tmp_path / "deep" / "images") in refused(tmp_path / "deep").hint


def test_a_class_that_cannot_be_read_is_left_out_with_a_note(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.jpg").write_bytes(b"")
    catalog = build(tmp_path)
    assert catalog.classes == ("a", "b")
    assert any("not a class: c" in note for note in catalog.notes)


def test_classes_that_are_judged_but_not_trained_on_are_all_named(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "train", {"rust": 3, "mildew": 3}, seed=1)
    odd_images.write_photos(tmp_path / "val", {"Rust": 2, "mildew": 1}, seed=2)
    odd_images.write_photos(tmp_path / "test", {"blight": 2, "mildew": 1}, seed=3)
    error = refused(tmp_path)
    assert list(error.problems) == [
        "`Rust`: 0 in train, 2 in val, 0 in test; did you mean `rust`?",
        "`blight`: 0 in train, 0 in val, 2 in test",
    ]


def test_a_manifest_without_training_rows_is_refused(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 2, "b": 2})
    rows = [f"{c}/photo00{i}.png,{c},val" for c in "ab" for i in range(2)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    assert "no image" in refused(tmp_path / "list.csv").message


def test_a_given_label_mapping_is_kept_and_checked(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 3, "b": 3})
    assert build(tmp_path, classes=("b", "a")).classes == ("b", "a")
    error = refused(tmp_path, classes=("a", "c", "d"))
    assert list(error.problems) == [
        "in the recipe, but without readable images: c, d",
        "found, but not in the recipe: b",
    ]


def test_one_photograph_under_two_names_is_reported(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "b" / "again.png").write_bytes((tmp_path / "a" / "photo000.png").read_bytes())
    catalog = build(tmp_path)
    assert any("more than one class, for example as a and b" in note for note in catalog.notes)
    copies = [s for s in catalog.samples if "~" in s.sample_id]
    original = next(s for s in catalog.samples if s.sample_id == copies[0].content)
    assert copies[0].split == original.split


# --- to judge a model -------------------------------------------------------------------------


def test_images_to_judge_a_model_on_need_not_have_every_class(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "new", {"rust": 4})
    catalog = build_labelled(
        str(tmp_path / "new"), root=None, classes=("mildew", "rust"), progress=None
    )
    assert catalog.counts("test") == {"mildew": 0, "rust": 4}
    odd_images.write_photos(tmp_path / "parts" / "train", {"rust": 4, "mildew": 1}, seed=1)
    odd_images.write_photos(tmp_path / "parts" / "test", {"rust": 2}, seed=2)
    parts = build_labelled(
        str(tmp_path / "parts"), root=None, classes=("mildew", "rust"), progress=None
    )
    assert parts.counts("test") == {"mildew": 0, "rust": 2}
    with pytest.raises(DataError, match="does not know: rust"):
        build_labelled(str(tmp_path / "new"), root=None, classes=("a", "b"), progress=None)


# --- written and read -------------------------------------------------------------------------


def test_a_catalog_reads_back_exactly(tmp_path: Path) -> None:
    names = [
        "plain",
        "comma, name",
        'quote "x"',
        "line\nbreak",
        "carriage\r\nreturn",
        "ü 名",
        " s ",
    ]
    samples = tuple(
        Sample(
            f"{i:016x}",
            f"/data/{name}/\udcff{i}.png",
            name if i else None,
            group=name if i % 2 else None,
            split=("train", "val", "test", None)[i % 4],
            width=i,
            height=2 * i,
            status="unreadable" if i == 3 else "ok",
            reason="a, b\nc" if i == 3 else "",
        )
        for i, name in enumerate(names)
    )
    catalog = Catalog(samples, tuple(names), "photos, ü", ("first\nnote", "second"))
    write_catalog(catalog, tmp_path / "catalog.csv")
    assert read_catalog(tmp_path / "catalog.csv") == catalog
    empty = replace(catalog, samples=())
    write_catalog(empty, tmp_path / "catalog.csv")
    assert read_catalog(tmp_path / "catalog.csv") == empty


def test_a_catalog_is_a_plain_table_to_other_tools(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "data", {"a": 6, "b": 6})
    catalog = build(tmp_path / "data")
    write_catalog(catalog, tmp_path / "catalog.csv")
    table = pd.read_csv(tmp_path / "catalog.csv")
    assert list(table.columns[:5]) == ["sample_id", "path", "label", "group", "split"]
    assert Counter(table["split"]) == Counter(sample.split for sample in catalog.samples)


@pytest.mark.parametrize("text", ["", "path,label\na.png,a\n", "\0\0", "about\n{}\n"])
def test_another_file_is_no_catalog(tmp_path: Path, text: str) -> None:
    (tmp_path / "catalog.csv").write_text(text)
    with pytest.raises(DataError, match="is not a catalog"):
        read_catalog(tmp_path / "catalog.csv")


def test_an_earlier_split_is_used_again(tmp_path: Path) -> None:
    data = odd_images.write_photos(tmp_path / "data", {"a": 20, "b": 20})
    first = build(data, seed=3)
    write_catalog(first, tmp_path / "run" / "catalog.csv")
    odd_images.write_photos(data, {"a": 10}, seed=9, prefix="new")
    for place in (tmp_path / "run", tmp_path / "run" / "catalog.csv"):
        second = build(data, seed=4, split_from=place)
        parts = {sample.path: sample.split for sample in second.samples}
        assert all(parts[sample.path] == sample.split for sample in first.samples)
        assert second.counts("train")["a"] == 24
        assert any("10 images are new" in note for note in second.notes)
    assert "is not a catalog" in refused(data, split_from=tmp_path / "gone.csv").message


def test_a_torchvision_set_keeps_its_folder_in_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = cifar_files.write_cifar10(tmp_path / "files", monkeypatch, train=30)
    catalog = build("torchvision:CIFAR10", root=str(tmp_path / "files"))
    assert catalog.classes == ("cat", "old oak", "ship")
    assert catalog.counts("train") == {"cat": 9, "old oak": 9, "ship": 9}
    assert catalog.counts("val") == {"cat": 1, "old oak": 1, "ship": 1}
    assert catalog.counts("test") == {"cat": 2, "old oak": 2, "ship": 2}
    write_catalog(catalog, tmp_path / "catalog.csv")
    monkeypatch.setattr(torchvision_sets, "_roots", {})
    assert read_catalog(tmp_path / "catalog.csv") == catalog
    assert (read_image("torchvision:CIFAR10/train/29") == pixels["train"][29]).all()


# --- real photographs -------------------------------------------------------------------------


@needs_datasets
def test_seedlings_keep_their_given_split() -> None:
    catalog = build(DATASETS / "plant_seedlings12")
    assert [len(catalog.in_split(part)) for part in ("train", "val", "test")] == [3319, 708, 723]
    assert len(catalog.classes) == 12
    assert catalog.unreadable == ()
    assert all(f"/{s.split}/{s.label}/" in s.path for s in catalog.samples)


@needs_datasets
def test_forty_photographs_of_dishes_are_split_in_three() -> None:
    catalog = build(DATASETS / "dishes2" / "originals")
    assert catalog.counts("train") == {"cleaned": 16, "dirty": 16}
    assert catalog.counts("val") == catalog.counts("test") == {"cleaned": 2, "dirty": 2}


@needs_datasets
def test_duplicates_of_rice_leaves_stay_together() -> None:
    catalog = build(DATASETS / "rice_leaf3_dups" / "all")
    parts = defaultdict(set)
    for sample in catalog.samples:
        parts[sample.content].add(sample.split)
    assert len(parts) < len(catalog.samples)
    assert all(len(found) == 1 for found in parts.values())
    assert any("exact copies" in note for note in catalog.notes)
