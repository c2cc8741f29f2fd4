"""What will be made: shares, names and ratios, decided by seed and bytes alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from espalier.errors import DataError
from espalier.synth.plan import Original, Variant, missing_for_ratio, parse_shares, variants

SHARES = {"light": 0.3, "medium": 0.5, "heavy": 0.2}
ORIGINALS = [Original(Path(f"photos/{i}.png"), f"{i:016x}") for i in range(200)]


def planned(
    originals: list[Original], count: int, seed: int = 0, shares: dict[str, float] = SHARES
) -> list[Variant]:
    endless = variants(originals, painter="dirty", kinds=("a", "b"), shares=shares, seed=seed)
    return list(islice(endless, count))


def test_the_shares_hold_on_average() -> None:
    found = Counter(one.intensity for one in planned(ORIGINALS, 2000))
    for name, share in SHARES.items():
        assert found[name] / 2000 == pytest.approx(share, abs=0.03)
    assert set(Counter(one.kind for one in planned(ORIGINALS, 400))) == {"a", "b"}


def test_a_share_of_zero_is_never_drawn() -> None:
    shares = parse_shares("heavy=2")
    assert {one.intensity for one in planned(ORIGINALS, 500, shares=shares)} == {"heavy"}


def test_every_original_has_its_first_variant_before_any_has_its_second() -> None:
    found = planned(ORIGINALS, 400)
    assert {one.original for one in found[:200]} == set(ORIGINALS)
    assert [one.number for one in found] == [1] * 200 + [2] * 200


def test_a_variant_does_not_depend_on_the_other_photographs() -> None:
    all_names = {one.name for one in planned(ORIGINALS, 400)}
    assert {one.name for one in planned(ORIGINALS[:7], 14)} <= all_names
    assert len(all_names) == 400
    moved = [Original(Path("elsewhere") / one.path.name, one.content) for one in ORIGINALS[:7]]
    assert {v.name for v in planned(moved, 14)} <= all_names
    assert all_names.isdisjoint(one.name for one in planned(ORIGINALS, 400, seed=1))


def test_names_say_what_they_are() -> None:
    name = planned(ORIGINALS[:1], 2)[1].name
    assert name.startswith("0__dirty_2_")
    assert name.endswith(".jpg")


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.1, 2.0, 3.3])
@pytest.mark.parametrize("clean", [1, 7, 10, 20])
def test_what_is_missing_is_the_least_that_reaches_the_ratio(ratio: float, clean: int) -> None:
    for real in (0, 3, 50):
        missing = missing_for_ratio(ratio, clean=clean, real=real, made=2)
        assert (real + 2 + missing) / clean >= ratio - 1e-9
        assert missing == 0 or (real + 2 + missing - 1) / clean < ratio


def test_shares_are_read_and_brought_to_one() -> None:
    assert parse_shares("light=3, medium=5,heavy=2") == pytest.approx(SHARES)
    assert parse_shares("medium=.5") == {"light": 0, "medium": 1, "heavy": 0}


@pytest.mark.parametrize("text", ["", "light", "light=x", "strong=1", "light=-1", "light=0"])
def test_shares_that_cannot_be_used_are_one_error(text: str) -> None:
    with pytest.raises(DataError, match="cannot be used") as caught:
        parse_shares(text)
    assert caught.value.problems
    assert "light=0.3" in caught.value.hint


def test_a_long_name_leaves_room_for_what_is_written_behind_it() -> None:
    names = [Original(Path(f"photos/{'葉' * 80}{i}.png"), f"{i:016x}") for i in range(2)]
    found = {one.name for one in planned(names, 2)}
    assert len(found) == 2
    assert all(len(name.encode()) < 230 for name in found)
