"""Matching of classes, noise and pairs, against brute force and closed forms."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy.stats import binom

from espalier.diagnose.matching import (
    binomial_noise,
    confused_pairs,
    match_classes,
    predicted_shares,
    recalls,
    val_counts,
)
from espalier.diagnose.rules.unshuffled_batches import expected_entropy
from espalier.run_record import EpochSigns, RunFacts, RunRecord


@pytest.mark.parametrize("seed", range(8))
def test_matching_is_the_best_of_all_renamings(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randint(2, 6)
    confusion = [[rng.randint(0, 20) for _ in range(size)] for _ in range(size)]
    total = sum(map(sum, confusion))
    best = max(
        sum(confusion[i][to] for i, to in enumerate(order))
        for order in itertools.permutations(range(size))
    )
    found = match_classes(confusion)
    assert found is not None
    assert found.matched == pytest.approx(best / total)
    assert found.plain == pytest.approx(sum(confusion[i][i] for i in range(size)) / total)
    assert found.gain >= 0


def test_what_is_equal_either_way_keeps_its_name() -> None:
    found = match_classes([[5, 5, 0], [5, 5, 0], [0, 0, 0]])
    assert found is not None
    assert found.renamed == ()
    assert found.gain == 0


def test_a_permutation_is_found() -> None:
    found = match_classes([[0, 9, 0], [0, 1, 8], [7, 0, 0]])
    assert found is not None
    assert found.renamed == ((0, 1), (1, 2), (2, 0))
    assert found.matched == pytest.approx(24 / 25)


@pytest.mark.parametrize("nothing", [[], [[0, 0], [0, 0]]])
def test_nothing_is_matched_with_nothing(nothing: list[list[int]]) -> None:
    assert match_classes(nothing) is None


@pytest.mark.parametrize(("share", "images"), [(0.5, 100), (0.2, 30), (0.9, 1000)])
def test_noise_is_that_of_a_binomial(share: float, images: int) -> None:
    assert binomial_noise(share, images) == pytest.approx(binom(images, share).std() / images)
    assert binomial_noise(0.0, images) > 0
    assert binomial_noise(1.0, images) > 0


def test_pairs_come_by_their_share_of_the_class() -> None:
    pairs = confused_pairs([[80, 20, 0], [2, 7, 1], [0, 0, 0]])
    assert [(pair.true, pair.predicted) for pair in pairs] == [(0, 1), (1, 0), (1, 2)]
    first = pairs[0]
    assert (first.share, first.back, first.images, first.errors) == (0.2, 0.2, 100, 1.0)


def test_a_confusion_matrix_says_recall_shares_and_counts() -> None:
    record = RunRecord("r", "t", (), confusion=((8, 2, 0), (5, 5, 0), (0, 0, 0)))
    found = recalls(record)
    assert found is not None
    assert found[:2] == (0.8, 0.5)
    assert math.isnan(found[2])
    assert predicted_shares(record) == (0.65, 0.35, 0.0)
    assert val_counts(record) == (10, 10, 0)


def test_without_a_matrix_the_last_epoch_that_knows_speaks() -> None:
    epochs = (EpochSigns(1, recall=(0.1, 0.2)), EpochSigns(2, recall=(0.3, 0.4)), EpochSigns(3))
    record = RunRecord("r", "t", epochs, facts=RunFacts(val_counts=(0, 0)))
    assert recalls(record) == (0.3, 0.4)
    assert predicted_shares(record) is None
    assert val_counts(record) is None


@pytest.mark.parametrize(
    ("prior", "images"), [([0.25] * 4, 32), ([0.9, 0.05, 0.05], 8), ([0.01] * 100, 16), ([1.0], 4)]
)
def test_expected_entropy_is_the_mean_over_drawn_batches(prior: list[float], images: int) -> None:
    drawn = np.random.default_rng(0).multinomial(images, prior, size=4000) / images
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(drawn > 0, drawn * np.log(drawn), 0.0).sum(1)
    assert expected_entropy(prior, images) == pytest.approx(float(entropy.mean()), abs=0.02)
