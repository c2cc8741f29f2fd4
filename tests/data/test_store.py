"""A store changes how long things take and nothing else, whatever happens to it."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cifar_files
import numpy as np
import odd_images
import pytest
import torch
from PIL import Image

from espalier.cache import GIB, cache_folder
from espalier.data import packs, store, store_choice
from espalier.data.images import Picture, inspect_image, read_image, reduced
from espalier.data.loader import Batch, Loader
from espalier.data.sources import Source, read_source, survey_source
from espalier.data.store import DiskStore, MemoryStore, PixelStore, read_reduced, store_side
from espalier.data.store_choice import (
    Survey,
    choose_store,
    disk_for_store,
    open_store,
    store_bytes,
)
from espalier.data.transforms import TrainTransform
from espalier.errors import DataError, DiskError, RecipeError
from espalier.recipe.policies import resolve_steps
from espalier.records import Sample

SIDE = 40
TRANSFORM = TrainTransform(32, "crop", resolve_steps("strong", None))
PLENTY = 10**9


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of many kinds in two classes, and three files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("a", "b"):
        (folder / name).mkdir()
    for i in range(8):
        photo = odd_images.noise(90 + 7 * i, 130 - 9 * i, seed=i).convert("RGB")
        photo.resize((300 + 40 * i, 250)).save(folder / "ab"[i % 2] / f"{i}.jpg", quality=85)
    odd = folder / "b"
    for turn in (3, 6, 8):
        data = odd_images.oriented(odd_images.noise(301, 203, seed=turn), turn, "JPEG")
        (odd / f"turned{turn}.jpg").write_bytes(data)
    deep = np.random.default_rng(0).integers(0, 65536, (70, 90), dtype=np.uint16)
    Image.fromarray(deep).save(odd / "deep.png")
    odd_images.noise(200, 160, seed=50).convert("CMYK").save(odd / "cmyk.jpg")
    odd_images.noise(200, 160, seed=51).convert("RGBA").save(odd / "alpha.png")
    odd_images.noise(12, 30, seed=52).save(odd / "tiny.png")
    (odd / "cut.jpg").write_bytes((folder / "a" / "0.jpg").read_bytes()[:3000])
    (odd / "empty.jpg").write_bytes(b"")
    (odd / "text.jpg").write_text("a shopping list\n" * 20)
    shutil.copy(folder / "a" / "2.jpg", folder / "a" / "2_copy.jpg")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pixels"


def opened(folder: Path, *, budget: int = PLENTY, required: bool = True) -> DiskStore:
    return DiskStore(folder, SIDE, budget, required=required)


def scan(photos: Path, into: PixelStore | None = None) -> Source:
    return read_source(str(photos), root=None, progress=None, store=into)


def readable(photos: Path) -> list[Sample]:
    return [sample for sample in scan(photos).samples if sample.status == "ok"]


def pack_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.pack") if not path.name.startswith("."))


def batches(
    samples: list[Sample], kept: PixelStore | None, *, workers: int = 0, epoch: int = 0
) -> list[Batch]:
    order = np.random.default_rng(1).permutation(len(samples)).astype(np.int64)
    loader = Loader(
        samples,
        {"a": 0, "b": 1},
        TRANSFORM,
        batch=4,
        workers=workers,
        seed=0,
        store=kept,
        side=SIDE,
    )
    return list(loader.epoch(order, epoch))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second) > 0
    for one, two in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def assert_holds(kept: PixelStore, samples: list[Sample]) -> None:
    for sample in samples:
        pixels = kept.get(sample.content)
        assert pixels is not None
        np.testing.assert_array_equal(pixels, reduced(read_image(sample.path, at_least=SIDE), SIDE))
        assert kept.full_size(sample.content) == (sample.width, sample.height)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hash of every file that is decoded for a store or a loader from now on."""
    found: list[str] = []
    from espalier.data import images

    original = images.decode_picture

    def remembered(data: bytes, content: str, *, at_least: int) -> Picture:
        found.append(content)
        return original(data, content, at_least=at_least)

    monkeypatch.setattr(images, "decode_picture", remembered)
    monkeypatch.setattr(store, "decode_picture", remembered)
    return found


# --- the same with a store as without one ----------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_batches_are_the_same_bit_for_bit(
    photos: Path, folder: Path, kind: str, workers: int
) -> None:
    samples = readable(photos)
    kept = opened(folder) if kind == "disk" else MemoryStore(SIDE, PLENTY)
    scan(photos, kept)
    for epoch in range(2):
        without = batches(samples, None, epoch=epoch)
        assert_same(without, batches(samples, kept, workers=workers, epoch=epoch))
    if kind == "disk":
        assert_same(batches(samples, None), batches(samples, opened(folder), workers=workers))


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_the_catalog_is_the_same_with_every_reason(photos: Path, folder: Path, kind: str) -> None:
    plain = scan(photos)
    kept = opened(folder) if kind == "disk" else MemoryStore(SIDE, PLENTY)
    assert scan(photos, kept) == plain
    assert scan(photos, kept) == plain
    assert sum(sample.status == "unreadable" for sample in plain.samples) == 3


def test_every_photograph_is_decoded_once_and_never_again(
    photos: Path, folder: Path, decoded: list[str]
) -> None:
    samples = readable(photos)
    contents = {sample.content for sample in samples}
    unreadable = {inspect_image(str(photos / "b" / name)).content for name in ("cut.jpg",)}
    told: list[tuple[int, int]] = []
    first = opened(folder)
    found = read_source(
        str(photos), root=None, progress=lambda *done: told.append(done), store=first
    )
    assert contents | unreadable <= set(decoded)
    assert told == [(i + 1, len(found.samples)) for i in range(len(found.samples))]
    assert_holds(first, samples)
    for kept in (first, opened(folder)):
        decoded.clear()
        scan(photos, kept)
        batches(samples, kept, workers=2)
        assert not contents & set(decoded)


def test_one_photograph_more_is_one_decoding_more(
    photos: Path, folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    mine = shutil.copytree(photos, tmp_path / "mine")
    scan(mine, opened(folder))
    odd_images.noise(99, 88, seed=99).save(mine / "a" / "new.png")
    new = inspect_image(str(mine / "a" / "new.png"))
    decoded.clear()
    later = opened(folder)
    scan(mine, later)
    assert [content for content in decoded if later.full_size(content)] == [new.content]
    assert_holds(opened(folder), readable(mine))


def test_a_turned_photograph_is_stored_upright_with_its_upright_size(
    photos: Path, folder: Path
) -> None:
    kept = opened(folder)
    scan(photos, kept)
    seen = inspect_image(str(photos / "b" / "turned6.jpg"))
    assert kept.full_size(seen.content) == (seen.width, seen.height) == (203, 301)
    pixels = kept.get(seen.content)
    assert pixels is not None
    assert pixels.shape[0] > pixels.shape[1] >= SIDE


def test_what_a_memory_store_gives_cannot_be_written_to() -> None:
    kept = MemoryStore(SIDE, PLENTY)
    kept.put(Picture("a", np.zeros((4, 6, 3), np.uint8)[:, 1:], 5, 4))
    pixels = kept.get("a")
    assert pixels is not None
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1


def test_members_of_torchvision_sets_need_no_store(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar_files.write_cifar10(tmp_path / "root", monkeypatch)
    kept = opened(folder)
    plain = read_source("torchvision:CIFAR10", root=str(tmp_path / "root"), progress=None)
    found = read_source(
        "torchvision:CIFAR10", root=str(tmp_path / "root"), progress=None, store=kept
    )
    assert found == plain
    samples = list(found.samples[:8])
    assert_same(batches(samples, None), batches(samples, kept, workers=2))
    kept.close()
    assert not pack_files(folder)


# --- photographs that change -----------------------------------------------------------------


def test_content_decides_and_not_the_path(photos: Path, folder: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(photos, tmp_path / "mine")
    before = readable(mine)
    kept = opened(folder)
    scan(mine, kept)
    wanted = batches(before, None)
    shutil.copy(mine / "a" / "4.jpg", mine / "a" / "0.jpg")
    # The old picture is in the store, and it is the one that the catalog means.
    assert_same(wanted, batches(before, kept))
    with pytest.raises(DataError, match="another photograph"):
        batches(before, None)
    after = opened(folder)
    scan(mine, after)
    assert_holds(after, readable(mine))


# --- accidents -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_open", [True, False])
def test_a_store_may_vanish_in_the_middle_of_an_epoch(
    photos: Path, folder: Path, is_open: bool
) -> None:
    samples = readable(photos)
    scan(photos, opened(folder))
    kept = opened(folder)
    if is_open:
        batches(samples, kept)
    loader = Loader(samples, {"a": 0, "b": 1}, TRANSFORM, batch=4, workers=2, seed=0, store=kept)
    order = np.arange(len(samples), dtype=np.int64)
    wanted = list(Loader(samples, {"a": 0, "b": 1}, TRANSFORM, batch=4, workers=0, seed=0,
                         side=SIDE).epoch(order, 0))  # fmt: skip
    running = loader.epoch(order, 0)
    first = next(running)
    shutil.rmtree(folder)
    assert_same(wanted, [first, *running])
    kept.publish()
    assert_same(wanted, list(loader.epoch(order, 0)))
    scan(photos, opened(folder))
    assert_holds(opened(folder), samples)


def test_a_store_may_vanish_while_it_is_built(photos: Path, folder: Path) -> None:
    def remove(done: int, _: int) -> None:
        if done == 6:
            shutil.rmtree(folder)

    kept = opened(folder)
    read_source(str(photos), root=None, progress=remove, store=kept)
    assert kept.note == ""
    assert_holds(kept, readable(photos))


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def damage_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data)


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * 3 + b"pixels 1" * 4)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_versions(path: Path) -> None:
    data = path.read_bytes()
    assert b"opencv " in data
    path.write_bytes(data.replace(b"opencv ", b"opencw "))


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_bytes, damage_garbage, damage_empty, damage_versions]
)
@pytest.mark.parametrize("when", ["before", "while open"])
def test_a_damaged_pack_is_as_good_as_absent(
    photos: Path, folder: Path, damage: object, when: str
) -> None:
    samples = readable(photos)
    scan(photos, opened(folder))
    (pack,) = pack_files(folder)
    kept = opened(folder)
    if when == "before":
        damage(pack)  # type: ignore[operator]
        kept = opened(folder)
    else:
        kept.get(samples[0].content)
        damage(pack)  # type: ignore[operator]
    assert_same(batches(samples, None), batches(samples, kept, workers=2))
    kept.close()
    later = opened(folder)
    scan(photos, later)
    assert_holds(later, samples)


def test_a_closed_store_is_read_by_the_next(photos: Path, folder: Path) -> None:
    kept = opened(folder)
    for sample in readable(photos):
        kept.put(read_reduced(sample.path, SIDE))
    assert not pack_files(folder)
    kept.close()
    assert len(pack_files(folder)) == 1
    assert_holds(kept, readable(photos))


BUILD = """
import sys, time
from espalier.data import store
from espalier.data.sources import read_source
store.PACK_PICTURES = 5
source, folder, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
def told(done, count):
    print(done, flush=True)
    time.sleep(pause)
from pathlib import Path
kept = store.DiskStore(Path(folder), 40, 10**9, required=True)
print("ready", flush=True)
sys.stdin.readline()
read_source(source, root=None, progress=told, store=kept)
"""


def building(photos: Path, folder: Path, pause: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(photos), str(folder), str(pause)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_build_the_same_store_at_once(photos: Path, folder: Path) -> None:
    both = [building(photos, folder, 0.005) for _ in range(2)]
    for process in both:
        start(process)
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    samples = readable(photos)
    assert_holds(opened(folder), samples)
    # They went in the same order, so they made the same packs: nothing is there twice.
    assert len(pack_files(folder)) == -(-len({sample.content for sample in samples}) // 5)
    assert not list(folder.rglob(".*"))


def test_a_killed_build_loses_no_published_pack(
    photos: Path, folder: Path, decoded: list[str]
) -> None:
    process = building(photos, folder, 0.05)
    start(process)
    assert process.stdout is not None
    while len(pack_files(folder)) < 2:
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    published = {
        content for pack in packs.open_packs(folder / str(SIDE)) for content in pack.places
    }
    assert len(published) >= 10
    samples = readable(photos)
    kept = opened(folder)
    scan(photos, kept)
    assert not published & set(decoded)
    assert_holds(kept, samples)


def test_an_interrupted_build_keeps_what_it_has(photos: Path, folder: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_source(str(photos), root=None, progress=interrupt, store=opened(folder))
    assert_holds(opened(folder), [s for s in scan(photos).samples[:9] if s.status == "ok"])


def test_half_written_packs_go_when_nobody_writes_to_them_any_more(folder: Path) -> None:
    (folder / str(SIDE)).mkdir(parents=True)
    old, fresh = (folder / str(SIDE) / f".{name}.partial-7.pack" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"pixels")
    os.utime(old, (time.time() - 7200,) * 2)
    opened(folder)
    assert fresh.exists()
    assert not old.exists()


def test_threads_may_share_a_store(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PACK_PICTURES", 3)
    samples = readable(photos)
    kept = opened(folder)

    def put_and_get(sample: Sample) -> bool:
        picture = read_reduced(sample.path, SIDE)
        kept.put(picture)
        pixels = kept.get(sample.content)
        return pixels is not None and bool((pixels == picture.pixels).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put_and_get, samples * 5))
    kept.close()
    assert_holds(opened(folder), samples)


# --- room ------------------------------------------------------------------------------------


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may become larger than 60 kB, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_noted_and_the_photographs_are_decoded(photos: Path, folder: Path) -> None:
    kept = opened(folder, required=False)
    assert scan(photos, kept) == scan(photos)
    assert "store stopped at" in kept.note
    assert str(folder) in kept.note
    samples = readable(photos)
    assert_same(batches(samples, None), batches(samples, kept, workers=2))
    assert not list(folder.rglob(".*"))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_an_error_where_the_store_was_asked_for(photos: Path, folder: Path) -> None:
    with pytest.raises(DiskError) as caught:
        scan(photos, opened(folder))
    assert "free" in caught.value.message
    assert caught.value.hint
    assert not list(folder.rglob(".*"))


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_fills_up_does_not_stop_training(photos: Path, folder: Path) -> None:
    samples = readable(photos)
    assert_same(batches(samples, None), batches(samples, opened(folder), workers=2))


def test_some_space_is_left_to_others(
    photos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "free_bytes", lambda _: store.RESERVE - 1)
    kept = opened(folder, required=False)
    scan(photos, kept)
    assert "1 GiB" in kept.note
    assert not pack_files(folder)


def test_a_folder_that_cannot_be_made_is_handled(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = opened(tmp_path / "file" / "pixels", required=False)
    assert scan(photos, kept) == scan(photos)
    assert "store stopped" in kept.note
    with pytest.raises(DiskError):
        scan(photos, opened(tmp_path / "file" / "pixels"))


def test_the_longest_unused_packs_go_and_never_those_in_use(photos: Path, folder: Path) -> None:
    hour = 3600.0
    for age, side in enumerate((SIDE, 30, 50), start=1):
        other = DiskStore(folder, side, PLENTY, required=True)
        scan(photos, other)
        for pack in pack_files(folder / str(side)):
            os.utime(pack, (time.time() - age * hour,) * 2)
    sizes = {
        side: sum(pack.stat().st_size for pack in pack_files(folder / str(side)))
        for side in (SIDE, 30, 50)
    }
    samples = readable(photos)
    kept = opened(folder, budget=sizes[SIDE] + sizes[30])
    scan(photos, kept)
    assert not pack_files(folder / "50")
    assert pack_files(folder / "30")
    assert_holds(kept, samples)
    # The oldest of all, but in use.
    for pack in pack_files(folder / str(SIDE)):
        os.utime(pack, (time.time() - 9 * hour,) * 2)
    kept = opened(folder, budget=sizes[SIDE])
    scan(photos, kept)
    assert not pack_files(folder / "30")
    assert_holds(opened(folder), samples)


@pytest.mark.parametrize("kind", ["disk", "memory"])
@pytest.mark.parametrize("budget", [0, 30_000])
def test_a_budget_holds_what_it_can(photos: Path, folder: Path, budget: int, kind: str) -> None:
    kept: PixelStore = (
        MemoryStore(SIDE, budget) if kind == "memory" else opened(folder, budget=budget)
    )
    scan(photos, kept)
    assert "store full" in kept.note
    samples = readable(photos)
    held = [sample for sample in samples if kept.get(sample.content) is not None]
    assert len(held) < len(samples)
    assert bool(held) == bool(budget)
    assert sum(path.stat().st_size for path in pack_files(folder)) <= budget + 4000
    assert_same(batches(samples, None), batches(samples, kept))


# --- the choice ------------------------------------------------------------------------------

SURVEY = Survey(1000, ((4000, 3000), (3000, 4000)))
NEEDED = 1000 * 3 * 260 * 347


def chosen(mode: str, **changes: object) -> tuple[str, str]:
    arguments = {
        "side": 200,
        "epochs": 5,
        "budget": 20 * GIB,
        "free_disk": 100 * GIB,
        "free_memory": 16 * GIB,
    }
    choice = choose_store(mode, changes.pop("survey", SURVEY), **(arguments | changes))  # type: ignore[arg-type]
    assert choice.reason.startswith("store ")
    return choice.mode, choice.reason


def test_auto_takes_the_disk_then_memory_then_nothing() -> None:
    assert store_bytes(SURVEY, 200) == NEEDED
    assert chosen("auto")[0] == "disk"
    assert chosen("auto", free_disk=GIB)[0] == "memory"
    mode, reason = chosen("auto", free_disk=GIB, free_memory=NEEDED)
    assert mode == "off"
    assert "0.3 GiB" in reason
    assert chosen("auto", budget=NEEDED - 1)[0] == "off"
    assert chosen("auto", free_disk=GIB + NEEDED)[0] == "disk"


def test_auto_is_off_where_it_would_not_pay() -> None:
    assert chosen("auto", epochs=1) == ("off", "store off: one epoch reads every photograph once")
    assert chosen("auto", survey=Survey(0, ()))[0] == "off"


def test_what_is_asked_for_holds_or_is_an_error_with_figures() -> None:
    assert chosen("off")[0] == "off"
    assert chosen("disk", epochs=1)[0] == "disk"
    assert chosen("memory")[0] == "memory"
    with pytest.raises(DiskError, match=r"0\.3 GiB.*allow 0\.2 GiB") as caught:
        chosen("disk", free_disk=GIB + GIB // 5)
    assert caught.value.hint == "--set data.store=auto"
    with pytest.raises(RecipeError) as refused:
        chosen("memory", budget=NEEDED // 2)
    assert "store_gib" in refused.value.hint


def test_a_survey_counts_files_and_bounds_what_is_stored(photos: Path, folder: Path) -> None:
    survey = survey_source(str(photos), root=None)
    assert survey.images == len(scan(photos).samples)
    assert (301, 203) in survey.sizes
    kept = opened(folder)
    scan(photos, kept)
    held = sum(path.stat().st_size for path in pack_files(folder))
    assert held / 2 < store_bytes(survey, SIDE)
    assert survey_source("torchvision:CIFAR10", root=None) == Survey(0, ())


def test_a_choice_opens_a_store(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    stores = {}
    for mode in ("off", "memory", "disk"):
        choice = choose_store(
            mode,  # type: ignore[arg-type]
            SURVEY,
            side=200,
            epochs=9,
            budget=20 * GIB,
            free_disk=100 * GIB,
            free_memory=16 * GIB,
        )
        stores[mode] = open_store(choice, side=SIDE, budget=PLENTY, required=True)
    assert stores["off"] is None
    assert isinstance(stores["memory"], MemoryStore)
    scan(photos, stores["disk"])
    assert pack_files(cache_folder("pixels"))
    held = sum(path.stat().st_size for path in pack_files(cache_folder("pixels")))
    # What stores hold already may be used again, also on a disk that is full of them.
    monkeypatch.setattr(store_choice, "free_bytes", lambda _: 5)
    assert disk_for_store() == held + 5


# --- the side --------------------------------------------------------------------------------


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    error = float(((one.astype(np.float64) - two) ** 2).mean())
    return 10.0 * np.log10(255.0**2 / max(error, 1e-3))


def test_views_of_reduced_photographs_are_as_good(trashnet: Path) -> None:
    """Averaged to the view's size over the same area, so that only what was lost counts."""
    files = sorted((trashnet / "train").rglob("*.jpg"))[::150]
    found = []
    for file, imgsz in itertools.product(files, (48, 64, 96)):
        full = read_image(str(file))
        small = read_reduced(str(file), store_side(imgsz)).pixels
        assert imgsz <= min(small.shape[:2]) < min(full.shape[:2])
        size = (imgsz * full.shape[1] // 240, imgsz * full.shape[0] // 240)
        whole, kept = (
            np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
            for pixels in (full, small)
        )
        found.append(psnr(whole, kept))
    assert np.mean(found) > 38.0


def test_hashes_are_those_of_the_files(photos: Path) -> None:
    path = photos / "a" / "0.jpg"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert read_reduced(str(path), SIDE).content == expected
    assert replace(readable(photos)[0], sample_id=f"{expected}~2").content == expected
