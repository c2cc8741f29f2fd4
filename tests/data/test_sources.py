"""Folders, manifests, torchvision sets and globs become the images that a person means."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.error import URLError

import cifar_files
import numpy as np
import odd_images
import pandas as pd
import pytest
import torchvision.datasets

from espalier.data.images import read_image
from espalier.data.sources import Source, find_images, read_source
from espalier.errors import DataError, UnreadableImageError


def read(source: Path | str, root: Path | None = None) -> Source:
    return read_source(str(source), root=str(root) if root else None, progress=None)


def refused(source: Path | str, root: Path | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, root)
    assert caught.value.hint
    return caught.value


def names(source: Source) -> list[str]:
    return [os.path.basename(sample.path) for sample in source.samples]


def put(path: Path, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    odd_images.noise(6, 5, seed=seed).save(path)
    return path


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"rust": 3, "mildew": 2})
    found = read(tmp_path)
    assert Counter(sample.label for sample in found.samples) == {"rust": 3, "mildew": 2}
    assert {sample.split for sample in found.samples} == {None}
    assert [sample.path for sample in found.samples] == sorted(s.path for s in found.samples)
    assert all(os.path.isabs(sample.path) for sample in found.samples)
    assert {(s.width, s.height, s.status) for s in found.samples} == {(6, 5, "ok")}
    assert found.notes == ()


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Valid"])
def test_train_val_and_test_folders(tmp_path: Path, word: str) -> None:
    for index, part in enumerate(("train", word, "test")):
        odd_images.write_photos(tmp_path / part, {"a": 2, "b": 1}, seed=index)
    found = read(tmp_path)
    assert Counter(sample.split for sample in found.samples) == {"train": 3, "val": 3, "test": 3}
    assert {sample.label for sample in found.samples} == {"a", "b"}


def test_train_alone_is_a_part_but_a_class_may_be_called_train(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "one" / "train", {"a": 1, "b": 1})
    assert {sample.split for sample in read(tmp_path / "one").samples} == {"train"}
    odd_images.write_photos(tmp_path / "two", {"bus": 1, "car": 1, "train": 1})
    assert {sample.label for sample in read(tmp_path / "two").samples} == {"bus", "car", "train"}


def test_parts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path / "no_train" / "val", {"a": 1})
    odd_images.write_photos(tmp_path / "no_train" / "test", {"a": 1})
    assert "no train folder" in refused(tmp_path / "no_train").message
    for part in ("train", "val", "valid"):
        odd_images.write_photos(tmp_path / "twice" / part, {"a": 1})
    assert "2 folders for val: val, valid" in refused(tmp_path / "twice").message
    (tmp_path / "hollow" / "train" / "a").mkdir(parents=True)
    odd_images.write_photos(tmp_path / "hollow" / "val", {"a": 1})
    assert "no image files in the class folders" in refused(tmp_path / "hollow").message


def test_folders_beside_the_parts_are_named(tmp_path: Path) -> None:
    for part in ("train", "test", "unlabelled"):
        odd_images.write_photos(tmp_path / part, {"a": 1})
    found = read(tmp_path)
    assert len(found.samples) == 2
    assert any("unlabelled" in note for note in found.notes)


def test_nested_hidden_stray_and_upper_case(tmp_path: Path) -> None:
    put(tmp_path / "a" / "2024" / "may" / "deep.png", seed=1)
    put(tmp_path / "a" / "LOUD.JPG", seed=2)
    put(tmp_path / "a" / "büschel 1, é.png", seed=3)
    put(tmp_path / "b" / "b.png", seed=4)
    put(tmp_path / "a" / ".hidden.png", seed=5)
    put(tmp_path / "a" / ".thumbs" / "x.png", seed=6)
    put(tmp_path / ".cache" / "x.png", seed=7)
    put(tmp_path / "__MACOSX" / "a" / "x.png", seed=8)
    put(tmp_path / "lost.png", seed=9)
    for text in ("notes.txt", "a/Thumbs.db", "a/labels.csv", "a/noextension"):
        (tmp_path / text).write_text("text")
    (tmp_path / "empty class").mkdir()
    found = read(tmp_path)
    assert sorted(names(found)) == ["LOUD.JPG", "b.png", "büschel 1, é.png", "deep.png"]
    assert {sample.label for sample in found.samples} == {"a", "b"}
    assert len(found.notes) == 2
    assert any("lost.png" in note for note in found.notes)
    assert any("empty class" in note for note in found.notes)


def test_links_are_followed_once(tmp_path: Path) -> None:
    elsewhere = odd_images.write_photos(tmp_path / "elsewhere", {"many": 3})
    odd_images.write_photos(tmp_path / "data", {"a": 1, "b": 1})
    (tmp_path / "data" / "c").symlink_to(elsewhere / "many")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data" / "a" / "loop")
    (tmp_path / "data" / "a" / "above").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "b" / "link.png").symlink_to(elsewhere / "many" / "photo000.png")
    (tmp_path / "data" / "b" / "broken.png").symlink_to(tmp_path / "nothing.png")
    found = read(tmp_path / "data")
    assert Counter(sample.label for sample in found.samples) == {"a": 1, "b": 3, "c": 3}
    broken = next(s for s in found.samples if s.path.endswith("broken.png"))
    assert (broken.status, "No such file" in broken.reason) == ("unreadable", True)


def test_a_pipe_with_the_name_of_a_picture_does_not_block(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 1, "b": 1})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(read(tmp_path).samples) == 2


def test_one_name_in_two_unicode_spellings_is_one_class(tmp_path: Path) -> None:
    put(tmp_path / "train" / unicodedata.normalize("NFC", "blé") / "x.png", seed=1)
    put(tmp_path / "val" / unicodedata.normalize("NFD", "blé") / "x.png", seed=2)
    assert {sample.label for sample in read(tmp_path).samples} == {"blé"}


def test_unreadable_files_are_listed_with_the_reason(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "zero.jpg").touch()
    (tmp_path / "a" / "empty.jpg").touch()
    (tmp_path / "b" / "text.jpg").write_text("a list\n" * 9)
    before = odd_images.snapshot(tmp_path)
    found = read(tmp_path)
    bad = {os.path.basename(s.path): s.reason for s in found.samples if s.status == "unreadable"}
    assert bad.keys() == {"zero.jpg", "empty.jpg", "text.jpg"}
    assert "0 bytes" in bad["zero.jpg"]
    assert "text" in bad["text.jpg"]
    assert len({sample.sample_id for sample in found.samples}) == 7
    assert odd_images.snapshot(tmp_path) == before


def test_exact_copies_share_their_content_and_differ_in_id(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        put(tmp_path / "a" / f"{name}.png", seed=1)
    put(tmp_path / "b" / "w.png", seed=2)
    found = read(tmp_path).samples
    first = found[0].sample_id
    assert [sample.sample_id for sample in found[:3]] == [first, f"{first}~2", f"{first}~3"]
    assert len({sample.content for sample in found}) == 2


def test_the_result_is_the_same_every_time_and_progress_is_told(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"a": 20, "b": 20})
    told: list[tuple[int, int]] = []
    first = read_source(str(tmp_path), root=None, progress=lambda *seen: told.append(seen))
    assert told == [(done, 40) for done in range(1, 41)]
    assert read(tmp_path) == first


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ([], "is empty"),
        (["x/"], "no image files in the class folders"),
        (["a.png", "b.png"], "holds 2 images but no class folders"),
        (["a/notes.txt"], "no image files in the class folders"),
    ],
)
def test_folders_without_labelled_images_are_refused(
    tmp_path: Path, layout: list[str], message: str
) -> None:
    for text in layout:
        path = tmp_path / text
        if text.endswith("/"):
            path.mkdir()
        else:
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert message in refused(tmp_path).message


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "gone").message
    (tmp_path / "a.txt").touch()
    assert "is a file" in refused(tmp_path / "a.txt").message
    assert "does not exist" in refused(tmp_path / "gone.csv").message


# --- manifests -------------------------------------------------------------------------------


def photos(tmp_path: Path, count: int = 4) -> list[Path]:
    return [put(tmp_path / "shots" / f"p {i}, é.png", seed=i) for i in range(count)]


def test_a_csv_manifest_with_relative_and_absolute_paths(tmp_path: Path) -> None:
    files = photos(tmp_path)
    rows = pd.DataFrame(
        {
            "path": [f"shots/{files[0].name}", str(files[1]), f"./shots/{files[2].name}", files[3]],
            "label": ["ill", "well", "ill", "well"],
            "split": ["train", "VALID", "test", ""],
            "group": ["p1", "", "p1", "p2"],
        }
    )
    rows.to_csv(tmp_path / "list.csv", index=False)
    found = {os.path.basename(s.path): s for s in read(tmp_path / "list.csv").samples}
    ordered = [found[file.name] for file in files]
    assert [s.path for s in ordered] == [str(file) for file in files]
    assert [s.label for s in ordered] == ["ill", "well", "ill", "well"]
    assert [s.split for s in ordered] == ["train", "val", "test", None]
    assert [s.group for s in ordered] == ["p1", None, "p1", "p2"]


def test_parquet_and_spreadsheet_spellings_mean_the_same(tmp_path: Path) -> None:
    files = photos(tmp_path)
    rows = pd.DataFrame({"path": [f"shots/{file.name}" for file in files], "label": [1, 2, 1, 2]})
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_csv(tmp_path / "b.csv", index=False, sep=";", encoding="utf-8-sig")
    rows.to_csv(tmp_path / "c.tsv", index=False, sep="\t", lineterminator="\r\n")
    rows.assign(group=[None, "g", "g", None]).to_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text(
        (tmp_path / "a.csv").read_text().replace("path", " Path") + "\n"
    )
    plain = read(tmp_path / "a.csv").samples
    assert [sample.label for sample in plain] == ["1", "2", "1", "2"]
    for name in ("b.csv", "c.tsv", "e.csv"):
        assert read(tmp_path / name).samples == plain
    grouped = read(tmp_path / "d.parquet").samples
    assert [sample.label for sample in grouped] == ["1", "2", "1", "2"]
    assert [sample.group for sample in grouped] == [None, "g", "g", None]


def test_all_problems_of_the_columns_at_once(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,labels,colour\nx.png,a,b\n")
    problems = refused(tmp_path / "list.csv").problems
    assert len(problems) == 3
    assert any("no column `label`" in problem for problem in problems)
    assert any("`labels`; did you mean `label`" in problem for problem in problems)
    assert any("`colour`; allowed: path, label, split, group" in problem for problem in problems)


def test_all_problems_of_the_rows_at_once(tmp_path: Path) -> None:
    file = photos(tmp_path, 1)[0]
    name = f'"shots/{file.name}"'
    (tmp_path / "list.csv").write_text(
        "path,label,split\n"
        f"{name},a,train\n"
        f"{name},b,train\n"
        "gone.png,a,train\n"
        f'"shots/../shots/{file.name}",,dev\n'
        "one,two\n"
        ",a,\n"
    )
    assert list(refused(tmp_path / "list.csv").problems) == [
        f"row 3: the same path as row 2: shots/{file.name}",
        "row 4: no such file: gone.png",
        f"row 5: no label for shots/../shots/{file.name}",
        "row 5: split `dev` is not one of train, val, valid, validation, test",
        "row 6: not as many cells as the header",
        "row 7: no path",
    ]


def test_a_thousand_problems_are_summed_up(tmp_path: Path) -> None:
    rows = "".join(f"gone{i}.png,a\n" for i in range(1000))
    (tmp_path / "list.csv").write_text("path,label\n" + rows)
    problems = refused(tmp_path / "list.csv").problems
    assert len(problems) == 11
    assert problems[-1] == "and 990 more like these"


@pytest.mark.parametrize("data", [b"", b"path,label\n", b"\xff\xfe\x00\x01\n", b"PAR1 not really"])
@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert str(tmp_path / name) in refused(tmp_path / name).message


# --- torchvision -----------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def fail(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fail)
    return asked


def test_a_torchvision_set_is_read_in_its_own_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    pixels = cifar_files.write_cifar10(tmp_path, monkeypatch)
    before = odd_images.snapshot(tmp_path)
    found = read("torchvision:CIFAR10", tmp_path).samples
    assert Counter(sample.split for sample in found) == {"train": 9, "test": 6}
    assert {sample.label for sample in found} == set(cifar_files.NAMES)
    by_path = {sample.path: sample for sample in found}
    chosen = by_path["torchvision:CIFAR10/test/4"]
    assert (chosen.label, chosen.width, chosen.height, chosen.status) == ("ship", 32, 32, "ok")
    for part, index in (("train", 8), ("test", 4)):
        image = read_image(f"torchvision:CIFAR10/{part}/{index}")
        np.testing.assert_array_equal(image, pixels[part][index])
        assert image.flags.writeable
    assert no_network == []
    assert odd_images.snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "address", ["torchvision:CIFAR10/test/99", "torchvision:CIFAR10/val/0", "torchvision:CIFAR10"]
)
def test_an_address_that_leads_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    cifar_files.write_cifar10(tmp_path, monkeypatch)
    read("torchvision:CIFAR10", tmp_path)
    with pytest.raises(UnreadableImageError, match="CIFAR10"):
        read_image(address)


def test_a_failed_download_says_where_to_put_the_files(
    tmp_path: Path, no_network: list[str]
) -> None:
    error = refused("torchvision:CIFAR100", tmp_path / "new")
    assert "could not be downloaded" in error.message
    assert "no route to host" in error.message
    assert "data.root" in error.hint
    assert len(no_network) == 1


def test_changed_files_are_refused_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    cifar_files.write_cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"changed")
    assert "not those that torchvision expects" in refused("torchvision:CIFAR10", tmp_path).message
    assert no_network == []


def test_an_unknown_set_gives_the_nearest_names(tmp_path: Path) -> None:
    error = refused("torchvision:cifar-100", tmp_path)
    assert "torchvision:CIFAR100" in error.hint


# --- images to predict -------------------------------------------------------------------------


def test_files_folders_and_globs_in_the_order_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd_images.write_photos(tmp_path / "a", {"x": 2, "y": 1})
    put(tmp_path / "b [1].png")
    put(tmp_path / "c.JPG")
    (tmp_path / "c.txt").write_text("no")
    monkeypatch.chdir(tmp_path)
    found = find_images(["b [1].png", str(tmp_path / "a"), "a/x/*.png", "c.*"])
    assert [os.path.relpath(path) for path in found] == [
        "b [1].png",
        "a/x/photo000.png",
        "a/x/photo001.png",
        "a/y/photo000.png",
        "c.JPG",
    ]
    assert len(find_images(["**/*.png"])) == 4
    (tmp_path / "odd.dat").write_text("named by hand, so it is tried")
    assert find_images(["odd.dat"]) == [str(tmp_path / "odd.dat")]


def test_every_argument_that_matched_nothing_is_named(tmp_path: Path) -> None:
    odd_images.write_photos(tmp_path, {"x": 1})
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError) as caught:
        find_images(
            [str(tmp_path / "x"), str(tmp_path / "hollow"), str(tmp_path / "*.gif"), "no.png"]
        )
    assert len(caught.value.problems) == 3
    assert any("hollow" in problem for problem in caught.value.problems)
    with pytest.raises(DataError, match="no images"):
        find_images([])
