from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from espalier.data.synthetic.leaves import LEAF_CLASSES, leaf_counts, leaf_jpeg, write_leaves
from espalier.data.synthetic.tiny import write_tiny
from espalier.errors import DataError, DiskError

SMALL = {"images": 30, "ratio": 1.2, "seed": 3, "imgsz": 48}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def decode(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_leaves(tmp_path_factory.mktemp("a") / "leaves", **SMALL)


def test_the_same_call_writes_the_same_bytes(leaves: Path, tmp_path: Path) -> None:
    assert contents(write_leaves(tmp_path / "again", **SMALL)) == contents(leaves)


def test_an_image_does_not_depend_on_those_around_it(leaves: Path) -> None:
    alone = leaf_jpeg("rust", 2, seed=3, imgsz=48)
    assert (leaves / "rust" / "rust_0002.jpg").read_bytes() == alone


def test_another_seed_draws_other_pictures(leaves: Path) -> None:
    other = leaf_jpeg("rust", 2, seed=4, imgsz=48)
    assert (leaves / "rust" / "rust_0002.jpg").read_bytes() != other


def test_no_two_pictures_are_equal(leaves: Path) -> None:
    files = contents(leaves)
    assert len(set(files.values())) == len(files) == SMALL["images"]


def test_class_folders_hold_numbered_photographs(leaves: Path) -> None:
    counts = leaf_counts(30, 1.2)
    expected = {f"{name}/{name}_{k:04d}.jpg" for name, n in counts.items() for k in range(1, n + 1)}
    assert set(contents(leaves)) == expected


def test_files_are_colour_jpegs_of_the_size_asked_for(leaves: Path) -> None:
    for path in leaves.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))


def test_at_least_six_conditions_and_healthy() -> None:
    conditions = {"healthy", "spots", "rust", "mildew", "blight", "mosaic"}
    assert conditions <= set(LEAF_CLASSES)


@pytest.mark.parametrize(("images", "ratio"), [(900, 20.0), (1200, 20.0), (700, 1.0), (500, 8.0)])
def test_counts_sum_to_images_and_fall_by_the_ratio(images: int, ratio: float) -> None:
    counts = list(leaf_counts(images, ratio).values())
    assert sum(counts) == images
    assert counts == sorted(counts, reverse=True)
    assert counts[0] / counts[-1] == pytest.approx(ratio, rel=0.06)


def test_the_middle_classes_follow_an_exponential_profile() -> None:
    counts = np.array(list(leaf_counts(90_000, 20.0).values()))
    steps = counts[:-1] / counts[1:]
    np.testing.assert_allclose(steps, 20 ** (1 / 6), rtol=0.002)


def test_too_few_images_for_the_ratio_names_the_least() -> None:
    with pytest.raises(DataError, match="images is 100") as caught:
        leaf_counts(100, 20.0)
    least = int(caught.value.hint.split("=")[1].split(",")[0])
    assert str(least) in caught.value.message
    assert min(leaf_counts(least, 20.0).values()) == 3
    with pytest.raises(DataError):
        leaf_counts(least - 1, 20.0)


@pytest.mark.parametrize("ratio", [0.5, 0.0, -2.0, float("nan"), float("inf")])
def test_a_ratio_below_one_is_refused(ratio: float) -> None:
    with pytest.raises(DataError, match="ratio"):
        leaf_counts(900, ratio)


def test_all_bad_numbers_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_leaves(tmp_path / "x", images=900, ratio=20, seed=-1, imgsz=8)
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "x").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty") as caught:
        write_leaves(tmp_path, **SMALL)
    assert caught.value.hint
    assert contents(tmp_path) == {"mine.txt": b"keep"}


def test_a_file_in_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "leaves").write_text("keep")
    with pytest.raises(DataError, match="is a file"):
        write_leaves(tmp_path / "leaves", **SMALL)
    assert (tmp_path / "leaves").read_text() == "keep"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    write_tiny(tmp_path / "leaves", classes=2, per_class=1, imgsz=8, seed=0)
    assert len(contents(tmp_path / "leaves")) == 2


def test_the_folder_one_stands_in_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_tiny(Path(), classes=2, per_class=1, imgsz=8, seed=0)
    assert len(contents(Path.cwd())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_nothing_stays_behind_when_writing_stops_half_way(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_leaves(tmp_path / "leaves", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="could not be written"):
        write_tiny(tmp_path / "file" / "leaves", classes=1, per_class=1, imgsz=8, seed=0)


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_leaves(tmp_path / "x", **SMALL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 30) for k in range(1, 31)]


def mean_features(condition: str) -> np.ndarray:
    """Per image: share of white, of brown and of yellow; averaged over 16 leaves."""
    rows = []
    for number in range(1, 17):
        image = decode(leaf_jpeg(condition, number, seed=0, imgsz=64))
        middle = image[12:52, 12:52]
        hsv = cv2.cvtColor(middle, cv2.COLOR_RGB2HSV).astype(int)
        white = ((hsv[..., 1] < 60) & (hsv[..., 2] > 120)).mean()
        brown = ((hsv[..., 0] < 20) & (hsv[..., 1] > 70)).mean()
        yellow = ((hsv[..., 0] > 22) & (hsv[..., 0] < 36) & (hsv[..., 2] > 120)).mean()
        rows.append([white, brown, yellow])
    return np.mean(rows, axis=0)


def test_conditions_show_in_the_pictures() -> None:
    found = {name: mean_features(name) for name in ("healthy", "mildew", "blight", "mosaic")}
    assert found["mildew"][0] > found["healthy"][0] + 0.08
    assert found["blight"][1] > found["healthy"][1] + 0.08
    assert found["mosaic"][2] > found["healthy"][2] + 0.03


def test_rust_is_many_small_pieces() -> None:
    """Rust shows many small reddish pieces where healthy leaves show next to none."""

    def pieces(condition: str) -> float:
        counts = []
        for number in range(1, 9):
            image = decode(leaf_jpeg(condition, number, seed=1, imgsz=128))
            hue = cv2.cvtColor(image[32:96, 32:96], cv2.COLOR_RGB2HSV)
            red = ((hue[..., 0] < 18) & (hue[..., 1] > 110) & (hue[..., 2] > 60)).astype(np.uint8)
            counts.append(cv2.connectedComponents(red)[0] - 1)
        return float(np.median(counts))

    assert pieces("rust") > pieces("healthy") + 5


def test_tiny_patterns_are_deterministic_png_files(tmp_path: Path) -> None:
    one = write_tiny(tmp_path / "a", classes=3, per_class=4, imgsz=24, seed=5)
    two = write_tiny(tmp_path / "b", classes=3, per_class=4, imgsz=24, seed=5)
    assert contents(one) == contents(two)
    assert set(contents(one)) == {
        f"class_{kind}/class_{kind}_{n:04d}.png" for kind in range(3) for n in range(1, 5)
    }
    with Image.open(one / "class_0" / "class_0_0001.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (24, 24))


def test_tiny_patterns_are_told_apart_by_their_mean_colour(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "a", classes=3, per_class=10, imgsz=16, seed=0)
    means = np.array(
        [
            [cv2.imread(str(path)).reshape(-1, 3).mean(axis=0) for path in sorted(part.iterdir())]
            for part in sorted(folder.iterdir())
        ]
    )
    means /= means.sum(axis=2, keepdims=True)
    centres = means[:, :5].mean(axis=1)
    distance = np.linalg.norm(means[:, 5:, None] - centres[None, None], axis=3)
    assert (distance.argmin(axis=2) == np.arange(3)[:, None]).all()


def test_tiny_numbers_are_checked_together(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        write_tiny(tmp_path / "x", classes=0, per_class=0, imgsz=2, seed=-1)
    assert len(caught.value.problems) == 4
