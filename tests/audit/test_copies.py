"""Copies: planted ones are found, other photographs are not, and each step against plain code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from audit_subjects import subject_of
from PIL import Image, ImageEnhance, ImageOps
from scipy.fft import dctn
from sklearn.neighbors import NearestNeighbors

from espalier.audit import windows
from espalier.audit.alignment import align, small_gray
from espalier.audit.copies import find_pairs
from espalier.audit.looks import Hashes, look_at_all
from espalier.audit.neighbours import nearest_pairs, principal
from espalier.audit.rules import group_leakage
from espalier.audit.series import guessed_series
from espalier.audited import Pair
from espalier.data.sources import find_images, inspect_files
from espalier.records import Sample

Change = Callable[[Image.Image], Image.Image]


def cropped(image: Image.Image, area: float = 0.8) -> Image.Image:
    width, height = (round(side * area**0.5) for side in image.size)
    left, top = (image.width - width) // 3, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def lighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(1.25)).enhance(0.8)


CHANGES: dict[str, tuple[Change, int]] = {
    "saved again": (lambda image: image, 25),
    "mirrored": (ImageOps.mirror, 90),
    "upside down": (lambda image: image.rotate(180), 90),
    "turned": (lambda image: image.rotate(90, expand=True), 90),
    "smaller": (lambda image: image.resize((image.width // 2, image.height // 2)), 90),
    "lighter": (lighter, 90),
    "cropped": (cropped, 90),
    "cropped much": (lambda image: cropped(image, 0.7), 60),
    "all at once": (lambda image: ImageOps.mirror(cropped(lighter(image), 0.85)), 50),
}


def scene(seed: int, side: int = 150) -> Image.Image:
    """Something like a photograph: structure at all scales, in colour."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side, 3), dtype=np.float32)
    for cells in (3, 6, 12, 24, 48):
        noise = rng.normal(size=(cells, cells, 3)).astype(np.float32) * 6 / cells**0.7
        total += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    total = 127 + 45 * total / total.std()
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def pairs_in(folder: Path, features: dict[str, np.ndarray] | None = None) -> list[Pair]:
    """Pairs of a folder, by file name instead of ``sample_id``."""
    samples = inspect_files(find_images([str(folder)]))
    names = {sample.sample_id: Path(sample.path).stem for sample in samples}
    _, hashes = look_at_all(samples, folder=None, progress=None)
    rows = None if features is None else np.stack([features[names[s.sample_id]] for s in samples])
    ids = [] if features is None else [sample.sample_id for sample in samples]
    pairs = find_pairs(samples, hashes, rows, ids)
    return [replace(p, first=names[p.first], second=names[p.second]) for p in pairs]


@pytest.mark.parametrize("side", [32, 150, 300])
def test_planted_copies_are_found_and_nothing_else(tmp_path: Path, side: int) -> None:
    for number in range(30):
        scene(number, side).save(tmp_path / f"{number:02}.png")
    for number, (change, quality) in enumerate(CHANGES.values()):
        copy = change(scene(number, side))
        copy.save(tmp_path / f"{number:02}-copy.jpg", quality=quality)
    found = {frozenset((p.first, p.second)): p for p in pairs_in(tmp_path)}
    planted = {frozenset((f"{n:02}", f"{n:02}-copy")): name for n, name in enumerate(CHANGES)}
    assert set(found) == set(planted)
    assert {pair.kind for pair in found.values()} == {"near"}
    assert all(pair.similarity > 0.9 for pair in found.values())
    said = {name: found[pair].how for pair, name in planted.items()}
    assert said["saved again"] == said["lighter"] == "same picture, saved again"
    assert said["mirrored"] == "mirrored"
    assert said["upside down"] == "upside down"
    assert said["turned"] == "turned by 90°"
    assert said["cropped"].startswith(("crop of 79", "crop of 80", "crop of 81"))
    assert said["all at once"].startswith("mirrored, crop of 8")


def test_equal_bytes_make_a_chain(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    scene(1).save(tmp_path / "d.jpg", quality=40)
    for name in ("b", "c"):
        shutil.copy(tmp_path / "a.png", tmp_path / f"{name}.png")
    exact = [p for p in pairs_in(tmp_path) if p.kind == "exact"]
    assert [(p.first, p.second, p.similarity) for p in exact] == [("a", "b", 1.0), ("a", "c", 1.0)]
    assert [(p.first, p.second) for p in pairs_in(tmp_path) if p.kind == "near"] == [("a", "d")]


def test_many_versions_of_one_picture_make_a_chain(tmp_path: Path) -> None:
    for quality in range(30, 90, 5):
        scene(1).save(tmp_path / f"{quality}.jpg", quality=quality)
    assert len(pairs_in(tmp_path)) == 11


def test_flat_pictures_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for level in range(0, 250, 25):
        Image.new("RGB", (80, 80), (level, level, level)).save(tmp_path / f"{level}.png")
    assert pairs_in(tmp_path) == []


def test_different_things_on_one_background_are_no_copies(tmp_path: Path) -> None:
    board = np.asarray(Image.new("RGB", (150, 150), (225, 222, 215))).copy()
    board -= np.linspace(0, 40, 150, dtype=np.uint8)[:, None, None]
    for number in range(25):
        picture = board.copy()
        picture[30:120, 30:120] = np.asarray(scene(number, 90)) // 2
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    assert pairs_in(tmp_path) == []


def test_a_series_needs_features_that_agree(tmp_path: Path) -> None:
    for number in range(12):
        scene(number).save(tmp_path / f"{number}.png")
    pixels = np.asarray(scene(0)).astype(np.float32)
    moved = 0.6 * pixels + 0.4 * np.asarray(scene(99))
    Image.fromarray(moved.astype(np.uint8)).save(tmp_path / "moved.png")
    features = {str(n): np.eye(12, dtype=np.float32)[n] for n in range(12)}
    alike = {**features, "moved": features["0"] + 0.01}
    apart = {**features, "moved": features["5"]}
    assert [(p.kind, p.first, p.second) for p in pairs_in(tmp_path, alike)] == [
        ("series", "0", "moved")
    ]
    assert pairs_in(tmp_path, apart) == []


def test_progress_ends_at_the_end_and_vanished_files_are_passed_over(tmp_path: Path) -> None:
    for number in range(3):
        scene(number).save(tmp_path / f"{number}.png")
        scene(number).save(tmp_path / f"{number}-copy.jpg", quality=50)
    samples = inspect_files(find_images([str(tmp_path)]))
    _, hashes = look_at_all(samples, folder=None, progress=None)
    (tmp_path / "0-copy.jpg").unlink()
    seen: list[tuple[int, int]] = []
    pairs = find_pairs(samples, hashes, None, (), progress=lambda *one: seen.append(one))
    assert len(pairs) == 2
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_no_images_no_pairs() -> None:
    _, hashes = look_at_all([], folder=None, progress=None)
    assert find_pairs([], hashes, None, ()) == ()


def test_window_frequencies_equal_the_cosine_transform_of_the_crop() -> None:
    thumbnail = np.asarray(scene(3, 32).convert("L"))
    fine = np.repeat(np.repeat(thumbnail, 50, axis=0), 50, axis=1).astype(np.float64)
    waves = windows._window_waves(thumbnail[None], 5)[0]
    for row in (0, 3, 40, 90):
        left, top, side = (round(float(value) * 1600) for value in windows.windows()[row])
        crop = fine[top : top + side, left : left + side]
        expected = dctn(crop, type=2)[:5, :5] / (4 * side**2)
        assert waves[row] / 32**0 == pytest.approx(expected, abs=0.15)


def test_frequencies_of_a_turned_picture_are_those_of_the_turned_pixels() -> None:
    thumbnail = np.asarray(scene(4, 32).convert("L"))
    waves = windows._all_orientations(windows._whole_waves(thumbnail[None]))[0]
    for orientation in range(8):
        pixels = windows.turned(thumbnail.astype(np.float32), orientation).astype(np.uint8)
        assert waves[orientation] == pytest.approx(windows._whole_waves(pixels[None])[0], abs=1e-3)


def test_alignment_tells_the_share_of_a_crop() -> None:
    whole = scene(5, 200)
    part = whole.crop((30, 20, 190, 180))
    window = np.array([0.12, 0.12, 0.82], dtype=np.float32)
    found = align(small_gray(np.asarray(whole)), small_gray(np.asarray(part)), window, 0)
    assert found is not None
    assert found.similarity > 0.95
    assert found.share == pytest.approx(0.64, abs=0.02)
    assert found.upright


def test_nearest_pairs_equal_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    units = principal(rng.normal(size=(1500, 20)).astype(np.float32))
    _, nearest = NearestNeighbors(n_neighbors=4, metric="cosine").fit(units).kneighbors(units)
    expected = {tuple(sorted((i, int(j)))) for i, row in enumerate(nearest) for j in row[1:]}
    assert {(int(a), int(b)) for a, b in nearest_pairs(units, 3)} == expected


def test_principal_components_keep_the_neighbours_of_many_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 12)).astype(np.float32) @ rng.normal(size=(12, 400))
    features = features.astype(np.float32)
    units = principal(features)
    assert units.shape == (300, 128)
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert units @ units.T == pytest.approx(centred @ centred.T, abs=1e-3)


def named(*stems: str, label: str = "a") -> list[Sample]:
    many = [f"other{word}" for word in "abcdefghijklmnopq"]
    return [Sample(stem, f"/photos/{label}/{stem}.jpg", label) for stem in (*stems, *many)]


@pytest.mark.parametrize(
    ("stems", "series"),
    [
        (("plant07_001", "plant07_002", "plant08_001"), ["a/plant07"]),
        (("p1-3 (1)", "p1-3 (2)"), ["a/p1-3"]),
        (("x12.rf.ab12", "x12.rf.cd34"), ["a/x12"]),
        (("DSC_0100", "DSC_0101", "DSC_0105"), ["a/DSC_0100"]),
        (("20240501_101502", "20240501_101510"), ["a/20240501_101502"]),
        (("20240501_101502", "20240501_111510"), []),
        (("trash1", "trash2", "blight_orig_031", "blight_orig_032"), []),
        (("c9b1820d0", "c9b1820d1"), []),
        (("99999999_999999", "99999999_999998"), []),
    ],
)
def test_series_by_name(stems: tuple[str, ...], series: list[str]) -> None:
    found = guessed_series(named(*stems))
    assert list(found) == series
    assert all(len(members) == 2 for members in found.values())


def test_series_are_confirmed_by_features_alone() -> None:
    rng = np.random.default_rng(0)
    rows, alike, random = [], {}, {}
    for plant in range(30):
        centre = rng.normal(size=8)
        for shot in range(2):
            name = f"p{plant}s{shot}"
            path = f"photos/a/plant{plant:02}_{shot}.jpg"
            rows.append({"id": name, "path": path, "split": ("train", "val")[shot]})
            alike[name] = (centre + 0.1 * rng.normal(size=8)).tolist()
            random[name] = rng.normal(size=8).tolist()
    thresholds = group_leakage.Thresholds()
    finding = group_leakage.check(subject_of({"samples": rows, "features": alike}), thresholds)
    assert finding is not None
    assert len(finding.cases) == 30
    assert (
        group_leakage.check(subject_of({"samples": rows, "features": random}), thresholds) is None
    )


def test_real_photographs_with_planted_copies(trashnet: Path, tmp_path: Path) -> None:
    files = sorted((trashnet / "train").rglob("*.jpg"))[::30]
    changes = list(CHANGES.values())
    for number, file in enumerate(files):
        shutil.copy(file, tmp_path / f"{number:03}.jpg")
    for number in range(0, len(files), 2):
        change, quality = changes[number // 2 % len(changes)]
        copy = change(Image.open(files[number]))
        copy.save(tmp_path / f"{number:03}-copy.jpg", quality=quality)
    found = {frozenset((p.first, p.second)) for p in pairs_in(tmp_path)}
    planted = {frozenset((f"{n:03}", f"{n:03}-copy")) for n in range(0, len(files), 2)}
    assert len(found & planted) >= 0.9 * len(planted)
    assert len(found - planted) <= 1


def test_more_shots_of_one_scene_than_a_bucket_holds_are_joined() -> None:
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (24, 24, 3), np.uint8), (160, 160)).astype(int)
    shots = [np.clip(scene + rng.integers(-6, 7, scene.shape), 0, 255) for _ in range(100)]
    pictures = {f"{i:016x}": shot.astype(np.uint8) for i, shot in enumerate(shots)}
    thumbnails = [
        cv2.resize(cv2.cvtColor(shot, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        for shot in pictures.values()
    ]
    pairs = find_pairs(
        [Sample(name, f"{name}.jpg", "a") for name in pictures],
        Hashes(tuple(pictures), np.stack(thumbnails)),
        None,
        (),
        read=lambda sample: pictures[sample.sample_id],
    )
    assert len(pairs) == 99
    assert {pair.kind for pair in pairs} == {"near"}
