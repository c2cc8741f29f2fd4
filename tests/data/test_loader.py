"""Batches are the same however many threads read them, wherever an epoch is entered."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from espalier.data import augment_device
from espalier.data import loader as module
from espalier.data.augment_device import DeviceAugment, Pictures
from espalier.data.images import Picture, read_image, reduced
from espalier.data.loader import Batch, Loader, batch_bounds, batch_count, count_repeats, image_rng
from espalier.data.transforms import EvalTransform, TrainTransform
from espalier.errors import DataError
from espalier.recipe.policies import resolve_steps
from espalier.recipe.schema import Fit
from espalier.records import Sample

SIDE = 32
CLASSES = {"a": 0, "b": 1}
STRONG = TrainTransform(SIDE, "crop", resolve_steps("strong", None))
PLAIN = EvalTransform(SIDE, "crop", 1.0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    found = []
    for i in range(21):
        path = folder / f"{i}.png"
        Image.fromarray(noise.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
        found.append(sample_of(path, "ab"[i % 2]))
    return found


def sample_of(path: Path, label: str | None = None) -> Sample:
    return Sample(hashlib.sha256(path.read_bytes()).hexdigest()[:16], str(path), label)


def loader(
    samples: Sequence[Sample],
    transform: TrainTransform | EvalTransform = STRONG,
    *,
    batch: int = 4,
    workers: int = 0,
    seed: int = 0,
) -> Loader:
    return Loader(samples, CLASSES, transform, batch=batch, workers=workers, seed=seed)


def shuffled(count: int = 21, seed: int = 3) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count).astype(np.int64)


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def assert_same_batches(first: Iterator[Batch], second: Iterator[Batch]) -> None:
    pairs = list(itertools.zip_longest(first, second))
    assert pairs
    assert all(a is not None and b is not None and same(a, b) for a, b in pairs)


def threads_left() -> int:
    return sum(thread.name.startswith("espalier-loader") for thread in threading.enumerate())


def test_batches_hold_images_labels_and_positions(samples: list[Sample]) -> None:
    order = shuffled()
    batches = list(loader(samples, PLAIN).epoch(order, 0))
    assert torch.cat([batch.positions for batch in batches]).tolist() == order.tolist()
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape[1:] == (3, SIDE, SIDE)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.tolist() == [position % 2 for position in batch.positions.tolist()]
        for image, position in zip(batch.images, batch.positions.tolist(), strict=True):
            pixels = np.asarray(Image.open(samples[position].path))
            assert (image.permute(1, 2, 0).numpy() == PLAIN(pixels)).all()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_change_nothing(samples: list[Sample], workers: int) -> None:
    alone, threaded = loader(samples), loader(samples, workers=workers)
    assert_same_batches(alone.epoch(shuffled(), 2), threaded.epoch(shuffled(), 2))
    assert_same_batches(alone.in_order(), threaded.in_order())
    assert threads_left() == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_start_gives_the_rest_of_the_whole_epoch(
    samples: list[Sample], workers: int
) -> None:
    balanced = np.concatenate([shuffled(), shuffled(seed=4), shuffled(seed=5)])
    whole = list(loader(samples, workers=workers).epoch(balanced, 1))
    for start in (0, 1, 7, len(whole) - 1):
        rest = loader(samples, workers=workers).epoch(balanced, 1, start_batch=start)
        assert_same_batches(rest, iter(whole[start:]))
    assert list(loader(samples, workers=workers).epoch(balanced, 1, start_batch=len(whole))) == []


def test_views_change_with_epoch_and_seed_only(samples: list[Sample]) -> None:
    order = shuffled()

    def views(batch: int, seed: int, epoch: int, order: npt.NDArray[np.int64]) -> dict[int, bytes]:
        batches = loader(samples, batch=batch, seed=seed).epoch(order, epoch)
        return {
            position: image.numpy().tobytes()
            for found in batches
            for position, image in zip(found.positions.tolist(), found.images, strict=True)
        }

    first = views(4, 0, 0, order)
    assert views(7, 0, 0, order[::-1].copy()) == first
    assert len(first.items() & views(4, 0, 1, order).items()) == 0
    assert len(first.items() & views(4, 1, 0, order).items()) == 0


def test_an_image_drawn_again_in_one_epoch_is_seen_differently(samples: list[Sample]) -> None:
    order = np.array([5, 2, 5, 5], dtype=np.int64)
    (batch,) = loader(samples).epoch(order, 0)
    assert len({image.numpy().tobytes() for image in batch.images}) == 4


def test_exact_copies_are_seen_differently(samples: list[Sample]) -> None:
    copy = Sample(samples[0].sample_id + "~2", samples[0].path, "a")
    (batch,) = loader([samples[0], copy]).in_order()
    assert not torch.equal(batch.images[0], batch.images[1])


def test_random_numbers_are_the_same_on_every_machine() -> None:
    drawn = image_rng(1, 2, Sample("00ff", "x", None), 0).integers(1000, size=4)
    assert drawn.tolist() == [309, 382, 572, 130]


def test_a_lone_last_image_joins_the_batch_before_it_in_training(samples: list[Sample]) -> None:
    sizes = [len(batch.labels) for batch in loader(samples).epoch(shuffled(), 0)]
    assert sizes == [4, 4, 4, 4, 5]
    assert batch_count(21, 4) == 5
    assert [len(batch.labels) for batch in loader(samples).in_order()] == [4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize("images", range(12))
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 100])
def test_bounds_cover_every_image_once(images: int, batch: int) -> None:
    for join in (False, True):
        bounds = batch_bounds(images, batch, join_last=join)
        assert [i for start, stop in bounds for i in range(start, stop)] == list(range(images))
        sizes = [stop - start for start, stop in bounds]
        assert max(sizes, default=0) <= batch + join
        assert not (join and len(sizes) > 1 and batch > 1 and 1 in sizes)


def test_repeats_are_counted_in_order() -> None:
    order = np.array([3, 1, 3, 3, 0, 1], dtype=np.int64)
    assert count_repeats(order).tolist() == [0, 0, 1, 2, 0, 1]
    assert count_repeats(order[:0]).tolist() == []


def test_labels_that_are_missing_or_unknown_are_minus_one(samples: list[Sample]) -> None:
    unlabelled = [replace(samples[0], label=label) for label in (None, "z", "b")]
    (batch,) = loader(unlabelled, PLAIN).in_order()
    assert batch.labels.tolist() == [-1, -1, 1]


def test_no_samples_are_no_batches() -> None:
    assert list(loader([]).in_order()) == []
    assert list(loader([], workers=2).epoch(shuffled(0), 0)) == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_file_that_changed_since_is_named(
    samples: list[Sample], tmp_path: Path, workers: int, damage: str
) -> None:
    path = tmp_path / "gone.png"
    if damage == "truncated":
        path.write_bytes(Path(samples[0].path).read_bytes()[:500])
    spoiled = [*samples[:9], Sample("f" * 16, str(path), "a")]
    with pytest.raises(DataError) as caught:
        list(loader(spoiled, workers=workers).in_order())
    assert str(path) in caught.value.message
    assert "new run" in caught.value.hint
    assert threads_left() == 0


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("side", [None, 20])
def test_a_photograph_that_was_exchanged_is_an_error_that_names_it(
    samples: list[Sample], tmp_path: Path, workers: int, side: int | None
) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(Path(samples[0].path).read_bytes())
    listed = [*samples[:5], sample_of(path, "a")]
    path.write_bytes(Path(samples[1].path).read_bytes())
    changed = Loader(listed, CLASSES, PLAIN, batch=4, workers=workers, seed=0, side=side)
    with pytest.raises(DataError, match="another photograph") as caught:
        list(changed.in_order())
    assert str(path) in caught.value.message
    assert "new run" in caught.value.hint


def test_a_side_reduces_photographs_before_they_are_transformed(samples: list[Sample]) -> None:
    small = Loader(samples, CLASSES, PLAIN, batch=4, workers=0, seed=0, side=20)
    (first, *_) = small.in_order()
    for image, sample in zip(first.images, samples, strict=False):
        pixels = reduced(read_image(sample.path), 20)
        assert pixels.shape == (20, 24, 3)
        assert (image.permute(1, 2, 0).numpy() == PLAIN(pixels)).all()


# --- views that a device renders; the CPU stands in for it


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Smooth pictures of many shapes, two of them strips."""
    folder = tmp_path_factory.mktemp("mixed")
    shapes = [(90, 140), (150, 150), (40, 64), (300, 40), (64, 64), (33, 50), (44, 500), (128, 97)]
    found = []
    for i, (height, width) in enumerate(shapes):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        path = folder / f"{i}.png"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
        found.append(sample_of(path, "ab"[i % 2]))
    return found


def rendered(
    samples: Sequence[Sample],
    transform: TrainTransform = STRONG,
    *,
    batch: int = 4,
    workers: int = 0,
) -> Loader:
    augment = DeviceAugment(transform, torch.device("cpu"))
    return Loader(
        samples, CLASSES, transform, batch=batch, workers=workers, seed=0, augment=augment
    )


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_rendered_batches_are_those_of_the_threads(mixed: list[Sample], fit: Fit) -> None:
    transform = TrainTransform(SIDE, fit, resolve_steps("standard", None))
    order = shuffled(len(mixed))
    pairs = zip(
        rendered(mixed, transform).epoch(order, 5),
        loader(mixed, transform).epoch(order, 5),
        strict=True,
    )
    for ours, theirs in pairs:
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.positions, theirs.positions)
        assert ours.images.dtype == torch.uint8
        assert ours.images.is_contiguous(memory_format=torch.channels_last)
        difference = (ours.images.float() - theirs.images.float()).abs()
        assert difference.mean(dim=(1, 2, 3)).max() < 1.0
        assert float(difference.flatten().quantile(0.999)) <= 5


def test_threads_and_a_later_start_change_nothing_that_is_rendered(mixed: list[Sample]) -> None:
    many = np.concatenate([shuffled(len(mixed), seed) for seed in range(3)])
    whole = list(rendered(mixed).epoch(many, 1))
    assert_same_batches(rendered(mixed, workers=2).epoch(many, 1), iter(whole))
    assert_same_batches(rendered(mixed, workers=2).epoch(many, 1, start_batch=2), iter(whole[2:]))
    assert threads_left() == 0


def test_a_strip_is_not_padded_together_with_the_others(
    mixed: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    padded: list[tuple[int, ...]] = []
    original = augment_device.pad_together

    def noted(images: Sequence[npt.NDArray[np.uint8]]) -> Pictures:
        pictures = original(images)
        padded.append(tuple(pictures.pixels.shape))
        return pictures

    monkeypatch.setattr(augment_device, "pad_together", noted)
    (batch,) = rendered(mixed, batch=8).in_order()
    assert sorted(padded) == [(1, 3, 44, 500), (1, 3, 300, 40), (6, 3, 150, 150)]
    padded.clear()
    (strip,) = rendered(mixed[3:4]).in_order()
    assert padded == [(1, 3, 300, 40)]
    assert torch.equal(strip.images[0], batch.images[3])


def test_an_error_in_a_thread_is_raised_where_rendered_batches_are_taken(
    samples: list[Sample],
) -> None:
    gone = [*samples[:9], Sample("f" * 16, "/nowhere/gone.png", "a")]
    with pytest.raises(DataError, match="gone"):
        list(rendered(gone, workers=2).in_order())
    assert threads_left() == 0


class Broken(EvalTransform):
    def __call__(
        self, image: npt.NDArray[np.uint8], rng: np.random.Generator | None = None
    ) -> npt.NDArray[np.uint8]:
        raise ZeroDivisionError("in a thread")


def test_an_error_in_a_thread_is_raised_where_batches_are_taken(samples: list[Sample]) -> None:
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        next(loader(samples, Broken(SIDE, "crop", 1.0), workers=2).in_order())
    assert threads_left() == 0


def test_leaving_early_stops_the_threads(samples: list[Sample]) -> None:
    for batch in loader(samples, workers=2).in_order():
        assert len(batch.labels) == 4
        break
    assert threads_left() == 0


def test_an_interrupt_stops_the_threads(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Batch:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_collect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(loader(samples, workers=2).in_order())
    assert threads_left() == 0


def test_threads_stay_only_a_few_batches_ahead(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = module.read_picture

    def counted(path: str, *, at_least: int) -> Picture:
        read.append(path)
        return original(path, at_least=at_least)

    monkeypatch.setattr(module, "read_picture", counted)
    many = samples * 10
    batches = loader(many, PLAIN, workers=1).in_order()
    next(batches)
    time.sleep(0.2)
    assert 4 <= len(read) <= 5 * 4
    batches.close()  # type: ignore[attr-defined]
    assert threads_left() == 0


def test_photographs_are_read_with_enough_pixels(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    original = module.read_picture

    def remembered(path: str, *, at_least: int) -> Picture:
        asked.append(at_least)
        return original(path, at_least=at_least)

    monkeypatch.setattr(module, "read_picture", remembered)
    list(loader(samples[:2]).in_order())
    assert asked == [STRONG.at_least] * 2


@pytest.mark.parametrize("policy", ["standard", "strong"])
def test_real_photographs(seedlings: Path, policy: str) -> None:
    files = sorted((seedlings / "train").rglob("*.*"))[::400]
    real = [sample_of(file, file.parent.name) for file in files]
    index = {name: i for i, name in enumerate(sorted({s.label or "" for s in real}))}
    transform = TrainTransform(64, "crop", resolve_steps(policy, None))
    one, two = (
        Loader(real, index, transform, batch=4, workers=workers, seed=0) for workers in (0, 2)
    )
    order = np.arange(len(real), dtype=np.int64)
    assert_same_batches(one.epoch(order, 0), two.epoch(order, 0))
    images = torch.cat([batch.images for batch in one.epoch(order, 0)]).double()
    assert 40 < images.mean() < 180
    assert images.std() > 20
