"""Which pictures may be crops, mirrored or turned copies of each other: keys of all windows.

A thumbnail is described by its lowest cosine frequencies. Those of any window of it are a product
with two small matrices, and those of a mirrored or turned picture are the same numbers with other
signs and places. So all 91 windows of a picture are keyed by the signs of 24 frequencies, and
another picture is looked up among them in its 8 orientations. The work grows with the number of
pictures, not with its square: buckets that are too full are left out, and the pictures in them
compared with the next ones in the order of finer frequencies, so that many shots of one scene are
still joined.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A window may lie 0.03 of the side beside the true crop: a tenth of the shortest wave of the key.
_SIDES = (1.0, 0.94, 0.88, 0.82, 0.76, 0.70)
_KEY_WAVES = 5
_WAVES = 8
_PROBED_BITS = 6
_FULL_BUCKET = 64
_NEXT_IN_CROWD = 3
_AT_ONCE = 512
ORIENTATIONS = 8
# Gray levels; a picture that varies less is flat, and like every other flat one.
_FLAT = 1.0


@dataclass(frozen=True)
class Guesses:
    """Pairs of pictures that may be copies, and how the second would lie in the first.

    Attributes:
        first: Rows of the pictures that hold the window [G].
        second: Rows of the pictures that would fill it [G].
        window: Which window of the first, a row of ``windows()`` [G].
        orientation: How the second is turned to fill it, as in ``turned`` [G].
        likeness: Correlation of window and picture, all frequencies made equally strong [G].
    """

    first: Ints
    second: Ints
    window: Ints
    orientation: Ints
    likeness: Floats

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: npt.NDArray[np.bool_] | Ints) -> Guesses:
        return Guesses(
            self.first[rows],
            self.second[rows],
            self.window[rows],
            self.orientation[rows],
            self.likeness[rows],
        )


@functools.cache
def windows() -> Floats:
    """Left, top and side of each window, as shares [91, 3]; the first is the whole picture."""
    rows = [
        (left, top, side)
        for count, side in enumerate(_SIDES, start=1)
        for top in np.linspace(0, 1 - side, count)
        for left in np.linspace(0, 1 - side, count)
    ]
    return np.array(rows, dtype=np.float32)


def turned(picture: Floats, orientation: int) -> Floats:
    """A picture [H, W] in one of 8 orientations: + 4 transposes, + 2 flips, + 1 mirrors it."""
    if orientation & 4:
        picture = picture.T
    if orientation & 2:
        picture = picture[::-1]
    if orientation & 1:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def guesses_by_key(thumbnails: npt.NDArray[np.uint8], least: float) -> Guesses:
    """Pairs found by equal keys, the best guess for each, of likeness ``least`` and above."""
    keys, owners = _window_keys(thumbnails)
    found = [
        _best_of_pairs(guesses[guesses.likeness >= least])
        for guesses in _looked_up(thumbnails, keys, owners)
    ]
    crowded = guesses_of_pairs(thumbnails, _crowded_pairs(thumbnails, keys), least)
    return best_of_pairs([*found, crowded])


def guesses_of_pairs(thumbnails: npt.NDArray[np.uint8], pairs: Ints, least: float) -> Guesses:
    """The best window and orientation of given pairs [P, 2], where it reaches ``least``."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    found = []
    for start in range(0, len(both), _AT_ONCE):
        part = both[start : start + _AT_ONCE]
        inner = _flat(_window_waves(thumbnails[part[:, 0]], _WAVES))
        outer = _flat(_all_orientations(_whole_waves(thumbnails[part[:, 1]])))
        likeness = inner @ outer.transpose(0, 2, 1)
        best = likeness.reshape(len(part), -1).argmax(axis=1)
        window, orientation = np.divmod(best, ORIENTATIONS)
        value = likeness.reshape(len(part), -1)[np.arange(len(part)), best]
        guesses = Guesses(part[:, 0], part[:, 1], window, orientation, value)
        found.append(guesses[value >= least])
    return best_of_pairs(found)


def best_of_pairs(found: Sequence[Guesses]) -> Guesses:
    """One guess for each pair of pictures, in whichever order; the likeliest pairs first."""
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Guesses(none, none, none, none, none.astype(np.float32))
    joined = Guesses(
        np.concatenate([one.first for one in found]),
        np.concatenate([one.second for one in found]),
        np.concatenate([one.window for one in found]),
        np.concatenate([one.orientation for one in found]),
        np.concatenate([one.likeness for one in found]),
    )
    return _best_of_pairs(joined)


def likeliest(guesses: Guesses, each: int) -> Guesses:
    """Of guesses by falling likeness, those among the first ``each`` of one of their pictures."""
    taken: Counter[int] = Counter()
    kept = []
    for row, ends in enumerate(zip(guesses.first.tolist(), guesses.second.tolist(), strict=True)):
        if min(taken[end] for end in ends) < each:
            kept.append(row)
        taken.update(ends)
    return guesses[np.array(kept, dtype=np.int64)]


def _best_of_pairs(guesses: Guesses) -> Guesses:
    guesses = guesses[np.argsort(-guesses.likeness, kind="stable")]
    low = np.minimum(guesses.first, guesses.second)
    high = np.maximum(guesses.first, guesses.second)
    _, rows = np.unique(low * (high.max(initial=0) + 1) + high, return_index=True)
    return guesses[np.sort(rows)]


def _window_keys(thumbnails: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Keys of all windows of all pictures, sorted, and picture * 91 + window of each."""
    count = len(windows())
    keys = np.empty((len(thumbnails), count), dtype=np.int64)
    for start in range(0, len(thumbnails), _AT_ONCE):
        waves = _window_waves(thumbnails[start : start + _AT_ONCE], _KEY_WAVES)
        keys[start : start + _AT_ONCE] = _signs(waves) @ _bits()
    telling = np.repeat(_textured(thumbnails), count)
    order = np.argsort(keys.ravel(), kind="stable")
    order = order[telling[order]]
    return keys.ravel()[order], order


def _looked_up(thumbnails: npt.NDArray[np.uint8], keys: Ints, owners: Ints) -> Iterator[Guesses]:
    """Windows of other pictures with the key of each picture, or nearly so, by blocks."""
    for start in range(0, len(thumbnails), _AT_ONCE):
        whole = _all_orientations(_whole_waves(thumbnails[start : start + _AT_ONCE]))
        probes = _probes(whole[..., :_KEY_WAVES, :_KEY_WAVES])
        low = np.searchsorted(keys, probes.ravel(), side="left")
        counts = np.searchsorted(keys, probes.ravel(), side="right") - low
        counts[counts > _FULL_BUCKET] = 0
        counts *= np.repeat(_textured(thumbnails[start : start + _AT_ONCE]), probes[0].size)
        asking = np.repeat(np.arange(probes.size), counts)
        offset = np.arange(len(asking)) - np.repeat(np.cumsum(counts) - counts, counts)
        first, window = np.divmod(owners[low[asking] + offset], len(windows()))
        second, orientation = np.divmod(asking // probes.shape[-1], ORIENTATIONS)
        other = first != second + start
        yield from _compared(
            thumbnails, whole, start, first[other], second[other], window[other], orientation[other]
        )


def _crowded_pairs(thumbnails: npt.NDArray[np.uint8], keys: Ints) -> Ints:
    """Pictures whose own bucket is too full, each with the next ones of the same key [P, 2]."""
    waves = _whole_waves(thumbnails)
    own = _signs(waves[:, :_KEY_WAVES, :_KEY_WAVES]) @ _bits()
    counts = np.searchsorted(keys, own, side="right") - np.searchsorted(keys, own, side="left")
    rows = np.flatnonzero(_textured(thumbnails) & (counts > _FULL_BUCKET))
    finer = _signs(waves) @ (1 << np.arange(_WAVES**2 - 1, dtype=np.int64))[::-1]
    rows = rows[np.lexsort((finer[rows], own[rows]))]
    pairs = [np.stack([rows[:-n], rows[n:]], axis=1) for n in range(1, _NEXT_IN_CROWD + 1)]
    joined = np.concatenate(pairs)
    alike: Ints = joined[own[joined[:, 0]] == own[joined[:, 1]]]
    return alike


def _compared(
    thumbnails: npt.NDArray[np.uint8],
    whole: Floats,
    start: int,
    first: Ints,
    second: Ints,
    window: Ints,
    orientation: Ints,
) -> Iterator[Guesses]:
    outer = _flat(whole)
    across, down = _bases_of_windows()
    for at in range(0, len(first), 8 * _AT_ONCE):
        part = slice(at, at + 8 * _AT_ONCE)
        pixels = thumbnails[first[part]].astype(np.float32)
        waves = down[window[part]] @ pixels @ across[window[part]].transpose(0, 2, 1)
        inner = _flat(waves.astype(np.float32))
        likeness = np.einsum("gf,gf->g", inner, outer[second[part], orientation[part]])
        yield Guesses(first[part], second[part] + start, window[part], orientation[part], likeness)


def _textured(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    pixels = thumbnails.reshape(len(thumbnails), -1)
    telling: npt.NDArray[np.bool_] = pixels.std(axis=1) >= _FLAT
    return telling


def _basis(left: float, side: float, waves: int, pixels: int) -> Floats:
    """Cosines [waves, pixels] over a window of the unit line, integrated over each pixel."""
    edges = (np.clip(np.linspace(0, 1, pixels + 1), left, left + side) - left) / side
    waves_of = np.arange(1, waves)[:, None] * np.pi
    rows = np.diff(np.sin(waves_of * edges) / waves_of, axis=1)
    return np.concatenate([np.diff(edges)[None], rows]).astype(np.float32)


@functools.cache
def _bases(side: float, count: int, waves: int) -> Floats:
    """The bases of all windows of one side, one above the other [count * waves, 32]."""
    return np.concatenate([_basis(x, side, waves, 32) for x in np.linspace(0, 1 - side, count)])


@functools.cache
def _bases_of_windows() -> tuple[Floats, Floats]:
    """For each window its basis across and its basis down, each [91, 8, 32]."""
    across = np.stack([_basis(left, side, _WAVES, 32) for left, _, side in windows()])
    down = np.stack([_basis(top, side, _WAVES, 32) for _, top, side in windows()])
    return across, down


def _window_waves(thumbnails: npt.NDArray[np.uint8], waves: int) -> Floats:
    """Frequencies of all windows [N, 91, waves, waves], those down before those across."""
    pixels = thumbnails.astype(np.float32)
    found = []
    for count, side in enumerate(_SIDES, start=1):
        basis = _bases(side, count, waves)
        product = (basis @ pixels @ basis.T).reshape(-1, count, waves, count, waves)
        found.append(product.transpose(0, 1, 3, 2, 4).reshape(-1, count * count, waves, waves))
    return np.concatenate(found, axis=1)


def _whole_waves(thumbnails: npt.NDArray[np.uint8]) -> Floats:
    basis = _bases(1.0, 1, _WAVES)
    return basis @ thumbnails.astype(np.float32) @ basis.T


def _all_orientations(waves: Floats) -> Floats:
    """The frequencies [N, F, F] of a picture as ``turned`` would give them [N, 8, F, F]."""
    odd = np.where(np.arange(waves.shape[-1]) % 2, -1, 1).astype(np.float32)
    found = []
    for orientation in range(ORIENTATIONS):
        one = waves.transpose(0, 2, 1) if orientation & 4 else waves
        one = one * odd[:, None] if orientation & 2 else one
        found.append(one * odd if orientation & 1 else one)
    return np.stack(found, axis=1)


def _flat(waves: Floats) -> Floats:
    """As vectors of length one [..., F * F], without the mean.

    Frequencies of photographs fall as 1 / f: times f, each says equally much.
    """
    steps = np.arange(waves.shape[-1], dtype=np.float32)
    vectors = (waves * np.hypot(steps[:, None], steps)).reshape(*waves.shape[:-2], -1)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    flat: Floats = vectors / np.maximum(lengths, 1e-6)
    return flat


def _signs(waves: Floats) -> Ints:
    """Which of the 24 frequencies are positive, 0 or 1 [..., 24]."""
    return (waves.reshape(*waves.shape[:-2], -1)[..., 1:] > 0).astype(np.int64)


def _bits() -> Ints:
    return 1 << np.arange(_KEY_WAVES**2 - 1, dtype=np.int64)


def _probes(waves: Floats) -> Ints:
    """Keys to look up [N, 8, 16]: the own one, and those with the least sure bits the other way."""
    flat = waves.reshape(*waves.shape[:-2], -1)[..., 1:]
    unsure = _bits()[np.argsort(np.abs(flat), axis=-1)[..., :_PROBED_BITS]]
    choices = np.array(list(itertools.product((0, 1), repeat=_PROBED_BITS)))
    keys = _signs(waves) @ _bits()
    probes: Ints = keys[..., None] ^ (unsure @ choices.T)
    return probes
