"""Images that show the same picture: equal bytes, the same photograph changed, or one of a series.

Near copies are guessed from windows of thumbnails and, where there are features, from nearest
neighbours; each guess is then verified on the pixels, so a likeness alone makes no pair.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from espalier.audit.alignment import SIDE, Alignment, align, small_gray
from espalier.audit.groups import Chains
from espalier.audit.looks import Hashes, Progress
from espalier.audit.neighbours import nearest_pairs, principal
from espalier.audit.windows import (
    Guesses,
    best_of_pairs,
    guesses_by_key,
    guesses_of_pairs,
    likeliest,
    windows,
)
from espalier.audited import Pair
from espalier.data.images import Pixels, read_image
from espalier.errors import UnreadableImageError
from espalier.records import Sample

Floats = npt.NDArray[np.float32]

# Of planted copies of seedlings, waste and 32-pixel photographs (crops of 70-95 %, mirrored, JPEG
# quality 20-60, light, size) 98 % are above 0.93 and upright, with 0.8 where they agree least;
# other photographs of one thing reach 0.9, nearly always turned or squeezed, with 0.7.
_SAME, _SAME_WEAKEST = 0.9, 0.78
_TURNED, _TURNED_WEAKEST = 0.95, 0.85
_SERIES = 0.75
_SERIES_COSINE = 0.9
# Planted copies: 0.83 at least by key. Of random pairs of photographs 1 in 1,000 is above 0.85.
_LEAST_LIKENESS = 0.8
_NEIGHBOURS = 6
# So that a set of 100,000 look-alikes is verified in minutes, not days.
_GUESSES_EACH = 8
# 9 kB each.
_PICTURES_AT_ONCE = 16384
_WHOLE = 0.97
_TURNS = (
    "",
    "mirrored",
    "upside down, mirrored",
    "upside down",
    "on its side, mirrored",
    "turned by 90°",
    "turned by 90°",
    "on its side, mirrored",
)
"""By orientation, see ``windows.turned``."""


def find_pairs(
    samples: Sequence[Sample],
    hashes: Hashes,
    features: npt.NDArray[np.float32] | None,
    feature_ids: Sequence[str],
    *,
    read: Callable[[Sample], Pixels] | None = None,
    progress: Progress | None = None,
) -> tuple[Pair, ...]:
    """All images that show the same picture; of m equal images a chain of m - 1 pairs.

    Args:
        samples: All images; unreadable ones are left out.
        hashes: Of the readable ones.
        features: Of a frozen backbone [N, F], for more candidates and for series; None: without.
        feature_ids: ``sample_id`` of each row of ``features``.
        read: Pixels [H, W, 3] of an image; None: from its file. Called a few times per candidate.
        progress: Called with (candidates verified, candidates in all).

    Returns:
        Exact pairs, in catalog order, then near pairs and pairs of a series by falling similarity.
        Of images of equal bytes only the first is compared with others.
    """
    firsts = _firsts(samples)
    exact = exact_pairs(samples)
    known = [(row, name) for row, name in enumerate(hashes.sample_ids) if name in firsts]
    thumbnails = hashes.thumbnails[[row for row, _ in known]]
    chosen = [firsts[name] for _, name in known]
    units = _units(features, feature_ids)
    guesses = _guesses(chosen, thumbnails, units)
    found = _verified(chosen, guesses, units, read or _from_file, progress)
    return (*exact, *sorted(found, key=lambda pair: -pair.similarity))


def _firsts(samples: Sequence[Sample]) -> dict[str, Sample]:
    """The first readable image of each content, by its ``sample_id``."""
    firsts: dict[str, Sample] = {}
    for sample in samples:
        if sample.status == "ok":
            firsts.setdefault(sample.content, sample)
    return {sample.sample_id: sample for sample in firsts.values()}


def exact_pairs(samples: Sequence[Sample]) -> list[Pair]:
    """Each readable copy with the first image of the same bytes, in catalog order."""
    firsts = _firsts(samples)
    by_content = {sample.content: name for name, sample in firsts.items()}
    return [
        Pair(by_content[sample.content], sample.sample_id, "exact", 1.0, "equal bytes")
        for sample in samples
        if sample.status == "ok" and sample.sample_id not in firsts
    ]


def _units(features: Floats | None, feature_ids: Sequence[str]) -> dict[str, Floats]:
    if features is None or len(features) < 2:
        return {}
    return dict(zip(feature_ids, principal(features), strict=True))


def _guesses(
    chosen: Sequence[Sample], thumbnails: npt.NDArray[np.uint8], units: dict[str, Floats]
) -> Guesses:
    if len(chosen) < 2:
        return best_of_pairs([])
    found = [guesses_by_key(thumbnails, _LEAST_LIKENESS)]
    rows = np.array([i for i, s in enumerate(chosen) if s.sample_id in units], dtype=np.int64)
    if len(rows) > 1:
        near = nearest_pairs(np.stack([units[chosen[i].sample_id] for i in rows]), _NEIGHBOURS)
        found.append(guesses_of_pairs(thumbnails, rows[near], _LEAST_LIKENESS))
    return likeliest(best_of_pairs(found), _GUESSES_EACH)


def _verified(
    chosen: Sequence[Sample],
    guesses: Guesses,
    units: dict[str, Floats],
    read: Callable[[Sample], Pixels],
    progress: Progress | None,
) -> list[Pair]:
    """The guesses that hold; those between pictures already known to be the same are left out."""

    @functools.lru_cache(maxsize=_PICTURES_AT_ONCE)
    def picture(row: int) -> Pixels | None:
        try:
            return small_gray(read(chosen[row]))
        except UnreadableImageError:
            return None

    chains = {"near": Chains(), "series": Chains()}
    pairs = []
    for row in range(len(guesses)):
        ends = sorted((int(guesses.first[row]), int(guesses.second[row])))
        if not chains["near"].joined(*ends):
            pair = _judged([chosen[end] for end in ends], _aligned(guesses, row, picture), units)
            if pair is not None and chains[pair.kind].join(*ends):
                pairs.append(pair)
        if progress is not None:
            progress(row + 1, len(guesses))
    return pairs


def _aligned(
    guesses: Guesses, row: int, picture: Callable[[int], Pixels | None]
) -> tuple[Alignment, int] | None:
    """How the two pictures of a guess lie over each other, and how the second is turned."""
    first, second = picture(int(guesses.first[row])), picture(int(guesses.second[row]))
    if first is None or second is None:
        return None
    turn = int(guesses.orientation[row])
    found = align(first, second, windows()[guesses.window[row]], turn)
    return None if found is None else (found, turn)


def _judged(
    ends: Sequence[Sample], aligned: tuple[Alignment, int] | None, units: dict[str, Floats]
) -> Pair | None:
    if aligned is None:
        return None
    found, turn = aligned
    first, second = (sample.sample_id for sample in ends)
    similarity = max(0.0, min(1.0, found.similarity))
    if _is_same(found):
        return Pair(first, second, "near", similarity, _how(found.share, turn))
    if found.similarity < _SERIES:
        return None
    # Without features, two views of one empty table would be a series.
    if first not in units or second not in units or units[first] @ units[second] < _SERIES_COSINE:
        return None
    return Pair(first, second, "series", similarity, "another shot of the same")


def _is_same(found: Alignment) -> bool:
    if found.upright:
        return found.similarity >= _SAME and found.weakest >= _SAME_WEAKEST
    return found.similarity >= _TURNED and found.weakest >= _TURNED_WEAKEST


def _how(share: float, turn: int) -> str:
    cut = f"crop of {100 * share:.0f} %" if share < _WHOLE else ""
    return ", ".join(filter(None, (_TURNS[turn], cut))) or "same picture, saved again"


def _from_file(sample: Sample) -> Pixels:
    return read_image(sample.path, at_least=SIDE)
