"""The split is stratified, whole for copies and groups, and a function of bytes and seed alone."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from espalier.data.split import assign_splits, follow_split
from espalier.errors import DataError
from espalier.records import Sample, Split


def one(name: str, label: str, **more: object) -> Sample:
    content = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Sample(content, f"/data/{label}/{name}.png", label, **more)  # type: ignore[arg-type]


def many(counts: Mapping[str, int]) -> list[Sample]:
    return [one(f"{label}{i}", label) for label, count in counts.items() for i in range(count)]


def divide(
    samples: Sequence[Sample], *, val: float = 0.1, test: float = 0.1, seed: int = 0
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    return assign_splits(samples, val_share=val, test_share=test, seed=seed)


def table(samples: Sequence[Sample]) -> dict[str, tuple[int, int, int]]:
    """Label -> images in (train, val, test)."""
    found = Counter((sample.label, sample.split) for sample in samples)
    labels = sorted({sample.label or "" for sample in samples})
    return {
        name: (found[name, "train"], found[name, "val"], found[name, "test"]) for name in labels
    }


def parts_of(samples: Sequence[Sample], key: str) -> dict[str, set[Split | None]]:
    found: dict[str, set[Split | None]] = defaultdict(set)
    for sample in samples:
        if (value := getattr(sample, key)) is not None:
            found[value].add(sample.split)
    return found


def test_each_class_is_divided_by_the_shares() -> None:
    counts = {"a": 1000, "b": 100, "c": 40, "d": 23}
    samples, notes = divide(many(counts))
    assert table(samples) == {
        "a": (800, 100, 100),
        "b": (80, 10, 10),
        "c": (32, 4, 4),
        "d": (19, 2, 2),
    }
    assert notes == ()
    assert table(divide(many(counts), val=0.25, test=0)[0])["a"] == (750, 250, 0)
    assert table(divide(many(counts), val=0, test=0)[0])["a"] == (1000, 0, 0)


def test_classes_with_few_images_follow_the_rules_and_are_named() -> None:
    counts = {"one": 1, "two": 2, "three": 3, "four": 4, "many": 50, "uno": 1}
    samples, notes = divide(many(counts))
    found = table(samples)
    assert found["one"] == found["uno"] == (1, 0, 0)
    assert found["two"] == (1, 0, 1)
    assert found["three"] == (1, 1, 1)
    assert found["four"] == (2, 1, 1)
    assert len(notes) == 3
    assert notes == (
        "2 classes with 1 independent image (one for train): one, uno",
        "1 class with 2 independent images (one for train, one for test): two",
        "1 class with 3 independent images (one for train, one for test, one for val): three",
    )


def test_two_images_train_and_validate_where_no_test_is_made() -> None:
    samples, _ = divide(many({"two": 2, "many": 50}), test=0)
    assert table(samples)["two"] == (1, 1, 0)


def test_nothing_fails_where_every_class_has_one_image() -> None:
    samples, notes = divide(many({"a": 1, "b": 1}))
    assert table(samples) == {"a": (1, 0, 0), "b": (1, 0, 0)}
    assert sum("no image is left" in note for note in notes) == 2


def test_the_split_depends_on_bytes_and_seed_alone() -> None:
    samples = many({"a": 60, "b": 30, "c": 3})
    by_content = {s.content: s.split for s in divide(samples)[0]}
    moved = [replace(s, path=f"/other/{i}.jpg") for i, s in enumerate(reversed(samples))]
    random.Random(3).shuffle(moved)
    assert {s.content: s.split for s in divide(moved)[0]} == by_content
    assert {s.content: s.split for s in divide(samples, seed=1)[0]} != by_content


def test_exact_copies_stay_together_and_count_once() -> None:
    samples = many({"a": 40, "b": 40})
    copies = [replace(s, sample_id=f"{s.content}~2", path=f"{s.path}.copy") for s in samples[::3]]
    pair = [one("same", "rare"), one("same", "rare", split=None)]
    pair[1] = replace(pair[1], sample_id=f"{pair[1].content}~2")
    found, notes = divide([*samples, *copies, *pair])
    assert all(len(parts) == 1 for parts in parts_of(found, "content").values())
    assert table(found)["rare"] == (2, 0, 0)
    assert any("rare" in note for note in notes)
    totals = Counter(sample.split for sample in found)
    assert abs(totals["val"] - 11) <= 2
    assert abs(totals["test"] - 11) <= 2


def test_groups_stay_together_also_over_classes_and_through_copies() -> None:
    rng = random.Random(0)
    samples = [
        one(f"{i}", rng.choice("abc"), group=f"plant{rng.randrange(40)}") for i in range(400)
    ]
    # A copy ties the two plants that hold it into one unit.
    tied = [one("tie", "a", group="plant1"), one("tie", "b", group="plant2")]
    found, _ = divide([*samples, *tied])
    groups = parts_of(found, "group")
    assert all(len(parts) == 1 for parts in groups.values())
    assert groups["plant1"] == groups["plant2"]
    totals = Counter(sample.split for sample in found)
    assert 0.07 < totals["val"] / len(found) < 0.14
    assert 0.07 < totals["test"] / len(found) < 0.14


def test_few_large_groups_still_reach_every_part() -> None:
    samples = [one(f"{g}{i}", "ab"[i % 2], group=g) for g in "pqrs" for i in range(10)]
    for seed in range(5):
        found, _ = divide(samples, seed=seed)
        assert table(found) == {"a": (10, 5, 5), "b": (10, 5, 5)}


@pytest.mark.parametrize("seed", range(20))
def test_no_class_is_left_without_training_images(seed: int) -> None:
    rng = random.Random(seed)
    labels = "abcdefgh"
    samples = [
        one(f"{seed}-{i}", rng.choice(labels), group=rng.choice([None, f"g{rng.randrange(15)}"]))
        for i in range(rng.randrange(10, 60))
    ]
    found, _ = divide(samples, val=0.3, test=0.3, seed=seed)
    assert all(sample.split for sample in found)
    assert all(len(parts) == 1 for parts in parts_of(found, "group").values())
    assert all(train > 0 for train, _, _ in table(found).values())


def test_a_missing_part_is_taken_from_the_training_images_only() -> None:
    train = [replace(s, split="train") for s in many({"a": 100, "b": 50})]
    test = [replace(one(f"t{i}", "ab"[i % 2]), split="test") for i in range(60)]
    found, notes = divide([*train, *test])
    assert table(found) == {"a": (90, 10, 30), "b": (45, 5, 30)}
    assert all(s.split == "test" for s in found[150:])
    assert notes == ("no val part was given: 15 of 150 training images are now it",)
    without_test, _ = divide([replace(s, split="val") if s in test else s for s in [*train, *test]])
    assert table(without_test) == {"a": (90, 30, 10), "b": (45, 30, 5)}
    only_train, _ = divide(train)
    assert table(only_train) == {"a": (80, 10, 10), "b": (40, 5, 5)}


def test_a_whole_given_split_is_never_changed() -> None:
    parts: list[Split] = ["train", "val", "test"]
    samples = [replace(s, split=parts[i % 3]) for i, s in enumerate(many({"a": 30, "b": 9}))]
    assert divide(samples) == (tuple(samples), ())


def test_copies_over_given_parts_stay_and_are_reported() -> None:
    parts: list[Split] = ["train", "val", "test"]
    samples = [replace(s, split=parts[i % 3]) for i, s in enumerate(many({"a": 30, "b": 9}))]
    leak = replace(samples[0], sample_id=f"{samples[0].content}~2", split="test")
    grouped = [one("g1", "a", group="g", split="val"), one("g2", "a", group="g", split="test")]
    found, notes = divide([*samples, leak, *grouped])
    assert found == (*samples, leak, *grouped)
    assert len(notes) == 2
    assert notes[0].startswith("1 images with exact copies")
    assert notes[1].startswith("1 groups")


def test_a_training_image_stays_one_when_its_copy_is_in_the_given_test() -> None:
    samples = [replace(s, split="train") for s in many({"a": 20, "b": 20})]
    leaks = [replace(s, sample_id=f"{s.content}~2", split="test") for s in samples[:10]]
    found, notes = divide([*samples, *leaks])
    assert all(sample.split == "train" for sample in found[:10])
    assert notes[0].startswith("10 images with exact copies")


def test_rows_without_a_part_are_divided_when_others_have_one() -> None:
    samples = many({"a": 100, "b": 100})
    marked = [replace(s, split="test") if i % 10 == 0 else s for i, s in enumerate(samples)]
    found, _ = divide(marked)
    assert table(found) == {"a": (81, 9, 10), "b": (81, 9, 10)}
    # A copy of a test image goes where the original was put.
    copy = replace(marked[0], sample_id=f"{marked[0].content}~2", split=None)
    assert divide([*marked, copy])[0][-1].split == "test"


def test_unreadable_images_take_no_part() -> None:
    bad = [one(f"bad{i}", "a", status="unreadable", reason="empty") for i in range(50)]
    found, _ = divide([*many({"a": 20, "b": 20}), *bad])
    assert table(found[:40]) == {"a": (16, 2, 2), "b": (16, 2, 2)}
    assert {sample.split for sample in found[40:]} == {None}


def test_an_earlier_split_is_followed_by_bytes() -> None:
    samples = many({"a": 100, "b": 50})
    earlier, _ = divide(samples, seed=5)
    renamed = [replace(s, path=f"/new/{i}") for i, s in enumerate(samples)]
    found, notes = follow_split(renamed, earlier, seed=0)
    assert [s.split for s in found] == [s.split for s in earlier]
    assert notes == ("150 images keep the part of the earlier split",)


def test_new_images_keep_the_earlier_shares() -> None:
    earlier, _ = assign_splits(many({"a": 100, "b": 50}), val_share=0.2, test_share=0.3, seed=5)
    kept = [replace(s, split=None) for s in earlier[10:]]
    new = [one(f"new{i}", "abc"[i % 3]) for i in range(90)]
    copy = replace(kept[0], sample_id=f"{kept[0].content}~2", path="/new/copy")
    found, notes = follow_split([*kept, *new, copy], earlier, seed=0)
    known = {s.content: s.split for s in earlier}
    assert all(s.split == known[s.content] for s in found if s.content in known)
    totals = table(found)
    assert totals["b"] == (40, 16, 24)
    assert totals["c"] == (15, 6, 9)
    assert notes[1].startswith("90 images are new")
    assert notes[2].startswith("10 images of the earlier split are no longer there")


def test_an_earlier_split_overrules_the_folders_and_says_so() -> None:
    earlier, _ = divide(many({"a": 20, "b": 20}))
    turned = [replace(s, split="train") for s in earlier]
    found, notes = follow_split(turned, earlier, seed=0)
    assert [s.split for s in found] == [s.split for s in earlier]
    assert any("split_from decides" in note for note in notes)


def test_an_earlier_split_of_other_images_is_refused() -> None:
    earlier, _ = divide(many({"x": 20, "y": 20}))
    with pytest.raises(DataError, match="none of the 40 images"):
        follow_split(many({"a": 20, "b": 20}), earlier, seed=0)
