"""The pictures of an audit: right figures, right colours, nothing cut off, odd names included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.manifold import trustworthiness
from sklearn.metrics import confusion_matrix, recall_score

from espalier.audited import Audited, Embedded
from espalier.findings import Case, Correction, Finding
from espalier.records import Catalog, Sample
from espalier.report import audit_pictures
from espalier.report.audit_difficulty import (
    Difficulty,
    class_difficulty,
    confused_text,
    draw_difficulty,
    share_of,
)
from espalier.report.audit_galleries import (
    action_text,
    draw_augmented,
    draw_gallery,
    fitted,
    relative_path,
)
from espalier.report.audit_map import draw_map, draw_map_of, map_rows, project
from espalier.report.audit_pictures import (
    distribution_words,
    draw_classes,
    draw_weights,
    weight_ratio,
    weight_text,
)

ODD = ["a$b$c", "<script>", "x" * 300, "葉枯病", "línea\nnueva\x1b[31m", "\ud800", "\u202eabc", ""]
Pixels = npt.NDArray[np.uint8]


def drawn(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def amount(picture: Pixels, colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((picture == wanted).all(axis=2).sum())


def assert_nothing_touches_the_edge(path: Path) -> None:
    picture = drawn(path)
    edges = [picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]]
    assert all((edge == 255).all() for edge in edges)
    assert (picture < 128).any()


def long_tail(classes: int) -> dict[str, int]:
    return {f"class {i}": max(1, int(2445 * 0.9**i)) for i in range(classes)}


# Class distribution and weights


def test_words_of_a_long_tail_name_ratio_major_and_rare() -> None:
    first, second = distribution_words({"a": 2445, "b": 1200, "c": 1000, "d": 50, "e": 49, "f": 1})
    assert first == "6 classes, 4,745 images; largest : smallest = 2,445 : 1"
    assert second == (
        f"2 major classes (more than 1,000 images) hold {3645 / 4745:.1%} of all images; "
        "2 rare classes (fewer than 50 images)"
    )


def test_a_class_without_images_is_told_and_takes_no_part_in_the_ratio() -> None:
    assert distribution_words({"a": 90, "b": 60, "c": 0})[0] == (
        "3 classes, 150 images; largest : smallest = 1.5 : 1; 1 class without any image"
    )


@pytest.mark.parametrize("classes", [2, 12, 200, 700])
def test_classes_are_readable_with_few_and_many(tmp_path: Path, classes: int) -> None:
    path = draw_classes({"train": long_tail(classes)}, tmp_path / "classes.png")
    assert_nothing_touches_the_edge(path)
    picture = drawn(path)
    assert picture.shape[0] < 6000
    assert amount(picture, audit_pictures.MAJOR)
    assert bool(amount(picture, audit_pictures.RARE) > 500) == (classes > 40)


def test_bars_are_as_long_as_there_are_images(tmp_path: Path) -> None:
    counts = {"train": {"a": 800, "b": 400}, "val": {"a": 0, "b": 0}}
    picture = drawn(draw_classes(counts, tmp_path / "classes.png"))
    bar = [int(audit_pictures.USUAL[i : i + 2], 16) for i in (1, 3, 5)]
    lengths = np.unique((picture == bar).all(axis=2).sum(axis=1))
    longest, half = lengths[-1], 260
    assert longest == pytest.approx(520, abs=2)
    assert any(abs(length - half) <= 2 for length in lengths)


def test_a_class_that_a_split_lacks_is_marked(tmp_path: Path) -> None:
    red = "#c62828"
    full = {"train": {"a": 80, "b": 90}, "val": {"a": 8, "b": 9}}
    lacking = {"train": {"a": 80, "b": 90}, "val": {"a": 8, "b": 0}}
    assert not amount(drawn(draw_classes(full, tmp_path / "a.png")), red)
    assert amount(drawn(draw_classes(lacking, tmp_path / "b.png")), red)


def test_weights_of_one_have_no_bars_and_others_go_both_ways(tmp_path: Path) -> None:
    classes, counts = ["a", "b", "none"], [90, 400, 0]
    same = drawn(draw_weights(classes, counts, [("none", [1, 1, 0])], tmp_path / "a.png"))
    assert not amount(same, audit_pictures.RARE)
    assert not amount(same, audit_pictures.MAJOR)
    path = draw_weights(classes, counts, [("inverse", [2.7, 0.6, 0])], tmp_path / "b.png")
    assert amount(drawn(path), audit_pictures.RARE) > amount(drawn(path), audit_pictures.MAJOR) > 0
    assert_nothing_touches_the_edge(path)


def test_many_strategies_of_many_classes_fit(tmp_path: Path) -> None:
    counts = list(long_tail(120).values())
    weights = [max(counts) / count for count in counts]
    strategies = [(f"strategy {i}", weights) for i in range(2)]
    path = draw_weights(list(long_tail(120)), counts, strategies, tmp_path / "weights.png")
    assert_nothing_touches_the_edge(path)


def test_ratio_and_text_of_weights() -> None:
    assert weight_ratio([0.5, 2.0, 0.0]) == 4.0
    assert weight_ratio([0.0]) == 1.0
    assert [weight_text(w) for w in (0.0, 1.0, 0.1234, 0.00012, 12345.0)] == [
        "none",
        "1",
        "0.123",
        "1e-04",
        "1e+04",
    ]


def test_lengths_that_differ_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        draw_weights(["a", "b"], [1, 2], [("none", [1.0])], tmp_path / "a.png")
    with pytest.raises(ValueError, match="no classes"):
        draw_classes({"train": {}}, tmp_path / "a.png")


# Difficulty


def embedded(labels: list[int], predicted: list[int], classes: int) -> Embedded:
    return Embedded(
        model="made-up",
        sample_ids=tuple(map(str, range(len(labels)))),
        features=np.zeros((len(labels), 2), dtype=np.float32),
        labels=np.array(labels, dtype=np.int64),
        probabilities=np.eye(classes)[predicted],
        judged=np.ones(len(labels), dtype=np.bool_),
    )


@pytest.mark.parametrize(("right", "images"), [(0, 4), (4, 4), (3, 7), (90, 100)])
def test_interval_is_that_of_scipy(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    score = share_of(right, images)
    assert (score.low, score.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_difficulty_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 4, 300))
    found = class_difficulty(embedded(labels.tolist(), predicted.tolist(), 5), list("abcde"))
    assert [entry.recall.value for entry in found] == sorted(entry.recall.value for entry in found)
    recalls = recall_score(labels, predicted, average=None)
    matrix = confusion_matrix(labels, predicted)
    for entry in found:
        index = "abcde".index(entry.name)
        assert entry.recall.value == pytest.approx(recalls[index])
        assert entry.support == int((labels == index).sum())
        assert dict(entry.confused) == {
            "abcde"[j]: matrix[index, j] for j in range(4) if j != index and matrix[index, j]
        }


def test_images_that_were_not_judged_do_not_count() -> None:
    known = embedded([0, 0, 1], [0, 1, 1], 2)
    known.judged[1] = False
    assert [entry.recall.value for entry in class_difficulty(known, "ab")] == [1.0, 1.0]


def test_confused_names_are_cut_and_the_rest_is_summed() -> None:
    entry = Difficulty("a", share_of(1, 9), 9, (("n" * 60, 4), ("b", 2), ("c", 1), ("d", 1)))
    assert confused_text(entry).endswith("… 4, b 2; others 2")


@pytest.mark.parametrize("classes", [1, 12, 130])
def test_difficulty_fits(tmp_path: Path, classes: int) -> None:
    entries = [
        Difficulty(
            (ODD[i % len(ODD)] or "-") + str(i), share_of(i, classes), classes, (("x" * 60, 3),)
        )
        for i in range(classes)
    ]
    path = draw_difficulty(entries, tmp_path / "difficulty.png")
    assert_nothing_touches_the_edge(path)
    assert drawn(path).shape[0] < 4000


# Map


def clusters(images: int, classes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    centres = rng.normal(size=(classes, 32)) * 3
    features = centres[labels] + rng.normal(size=(images, 32))
    return features.astype(np.float32), labels.astype(np.int64)


def test_neighbours_stay_neighbours_and_the_map_is_the_same_each_time() -> None:
    features, labels = clusters(240, 5)
    points = project(features)
    assert points.shape == (240, 2)
    assert np.abs(points).max() == pytest.approx(1)
    assert trustworthiness(features, points, n_neighbors=10) > 0.9
    nearest = np.linalg.norm(points[:, None] - points, axis=2).argsort(axis=1)[:, 1]
    assert (labels[nearest] == labels).mean() > 0.98
    np.testing.assert_array_equal(points, project(features))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_few_images_have_places_too(count: int) -> None:
    points = project(clusters(count, 2)[0] if count else np.zeros((0, 32), dtype=np.float32))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_equal_and_broken_features_have_places_too() -> None:
    assert np.isfinite(project(np.ones((20, 8), dtype=np.float32))).all()
    broken = clusters(40, 2)[0]
    broken[3, :] = np.nan
    assert np.isfinite(project(broken)).all()


def test_small_classes_are_all_on_the_map() -> None:
    labels = np.repeat(np.arange(4), [9000, 5, 12, 400])
    rows = map_rows(labels, most=500)
    assert len(rows) == len(set(rows.tolist())) == 500
    drawn_labels = np.bincount(labels[rows], minlength=4)
    assert drawn_labels[1:3].tolist() == [5, 12]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(map_rows(labels[:300]), np.arange(300))


@pytest.mark.parametrize("classes", [1, 12, 61])
def test_map_is_drawn_whole(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(1)
    names = [ODD[i % len(ODD)] + str(i) for i in range(classes)]
    path = draw_map(
        rng.uniform(-1, 1, (500, 2)),
        rng.integers(-1, classes, 500),
        names,
        rng.choice(["train", "val", "test"], 500).tolist(),
        tmp_path / "map.png",
        of=9000,
        model="made-up",
    )
    assert_nothing_touches_the_edge(path)


def test_a_data_set_has_a_map_where_it_has_features(tmp_path: Path) -> None:
    features, labels = clusters(30, 2)
    images = tuple(Sample(str(i), f"/photos/{i}.jpg", "ab"[labels[i]]) for i in range(30))
    known = replace(embedded(labels.tolist(), labels.tolist(), 2), features=features)
    subject = Audited(Catalog(images, ("a", "b"), "/photos"), embedded=known)
    path = draw_map_of(subject, tmp_path / "map.png")
    assert path is not None
    assert_nothing_touches_the_edge(path)
    assert draw_map_of(replace(subject, embedded=None), tmp_path / "none.png") is None


def test_a_map_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 points"):
        draw_map(np.zeros((0, 2)), [], [], [], tmp_path / "map.png")


# Galleries and augmentation

COLOURS = ("#d01010", "#10d010", "#1010d0", "#d0d010", "#10d0d0", "#d010d0")


def plain(colour: str, height: int = 90, width: int = 120) -> Pixels:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.full((height, width, 3), parts, dtype=np.uint8)


def samples(count: int) -> dict[str, Sample]:
    return {
        f"id{i}": Sample(f"id{i}", f"/photos/{ODD[i % len(ODD)]}/{i}.jpg", "leaf", split="train")
        for i in range(count)
    }


def gallery_of(*cases: Case) -> Finding:
    return Finding(
        "near_duplicates", "AUD011", "warning", "Some images show the same.", cases=cases
    )


def test_a_gallery_shows_the_strongest_cases_up_to_the_limit(tmp_path: Path) -> None:
    cases = [Case((f"id{i}",), f"case {i}", score=i) for i in range(4)]
    path = draw_gallery(
        gallery_of(*cases),
        samples(4),
        lambda sample: plain(COLOURS[int(sample.sample_id[2:])]),
        tmp_path / "gallery.png",
        limit=2,
    )
    assert path is not None
    picture = drawn(path)
    assert [amount(picture, colour) > 1000 for colour in COLOURS[:4]] == [False, False, True, True]
    assert_nothing_touches_the_edge(path)


def test_pairs_stand_side_by_side(tmp_path: Path) -> None:
    path = draw_gallery(
        gallery_of(Case(("id0", "id1"), "crop", 2.0), Case(("id2", "id3"), "flip", 1.0)),
        samples(4),
        lambda sample: plain(COLOURS[int(sample.sample_id[2:])]),
        tmp_path / "gallery.png",
    )
    assert path is not None
    picture = drawn(path)
    lefts = []
    for colour in COLOURS[:4]:
        wanted = plain(colour, 1, 1)[0, 0]
        rows, columns = np.nonzero((picture == wanted).all(axis=2))
        lefts.append((int(rows.min()), int(columns.min())))
    assert len({row for row, _ in lefts}) == 1
    columns_of = [column for _, column in lefts]
    assert columns_of == sorted(columns_of)
    assert columns_of[1] - columns_of[0] < columns_of[2] - columns_of[1]


def test_what_cannot_be_read_has_an_empty_place(tmp_path: Path) -> None:
    finding = gallery_of(Case(("id0",), "x"), Case(("gone",), "not in the catalog"))
    path = draw_gallery(finding, samples(1), lambda sample: None, tmp_path / "gallery.png")
    assert path is not None
    assert_nothing_touches_the_edge(path)


def test_without_images_there_is_no_gallery(tmp_path: Path) -> None:
    finding = gallery_of(Case((), "few images", label="a"), Case(("gone",), ""))
    assert draw_gallery(finding, samples(2), lambda sample: None, tmp_path / "a.png") is None
    assert not list(tmp_path.iterdir())


def test_a_gallery_as_jpeg_is_one(tmp_path: Path) -> None:
    path = draw_gallery(
        gallery_of(Case(("id0",), "x")), samples(1), lambda s: plain("#d01010"), tmp_path / "g.jpg"
    )
    assert path is not None
    with Image.open(path) as picture:
        assert picture.format == "JPEG"


def test_paths_are_seen_from_a_folder_that_was_named_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = str(tmp_path / "photos" / "a" / "1.jpg")
    for source in ("../photos", "./../photos/", "../here/../photos", "~/photos"):
        assert relative_path(path, source) == "a/1.jpg", source


def test_paths_and_actions_in_words() -> None:
    assert relative_path("/photos/a/1.jpg", "/photos") == "a/1.jpg"
    assert relative_path("/photos2/a/1.jpg", "/photos") == "/photos2/a/1.jpg"
    assert relative_path("torchvision:CIFAR10/train/7", "torchvision:CIFAR10").endswith("/7")
    actions = {
        "drop": "leave out",
        "relabel": "relabel: x",
        "move": "move to x",
        "group": "group x",
    }
    for action, text in actions.items():
        assert action_text(Correction("id0", action, "x", "")) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(400, 300), (3, 5), (1, 4000), (160, 160)])
def test_thumbnails_keep_the_whole_picture(height: int, width: int) -> None:
    tile = fitted(plain("#d01010", height, width), 160)
    assert max(tile.shape[:2]) == 160
    assert tile.shape[1] / tile.shape[0] == pytest.approx(width / height, rel=0.02) or (
        min(tile.shape[:2]) == 1
    )


def test_augmented_examples_are_shown_pixel_for_pixel(tmp_path: Path) -> None:
    originals = np.stack([plain(colour, 168, 168) for colour in COLOURS[:3]])
    examples = {"strong": np.stack([plain(colour, 168, 168) for colour in COLOURS[3:]])}
    path = draw_augmented(examples, originals, tmp_path / "augmented.png")
    picture = drawn(path)
    assert [amount(picture, colour) for colour in COLOURS] == [168 * 168] * 6
    assert_nothing_touches_the_edge(path)


def test_examples_of_other_photographs_are_an_error(tmp_path: Path) -> None:
    two = np.stack([plain("#d01010")] * 2)
    with pytest.raises(ValueError, match="2 photographs"):
        draw_augmented({"strong": two[:1]}, two, tmp_path / "a.png")
