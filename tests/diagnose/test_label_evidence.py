"""Estimates of wrong labels against simulated runs whose share is known."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.diagnose.label_evidence import high_losses, labels_mean_something, wrong_label_share
from espalier.run_record import EpochSigns, RunFacts, RunRecord

CLASSES = 10


def noisy_run(share: float, accuracy: float = 0.85, seed: int = 0) -> RunRecord:
    """A network of that accuracy, judged on 512 training and 1,000 validation images."""
    rng = np.random.default_rng(seed)
    epochs = []
    for number in range(1, 6):
        right = rng.random(512) < accuracy
        replaced = rng.random(512) < share
        lucky = rng.random(512) < 1 / CLASSES
        clean = np.where(replaced, lucky, right).mean()
        val = (rng.random(1000) < accuracy).mean()
        epochs.append(EpochSigns(number, clean_accuracy=float(clean), val_accuracy=float(val)))
    facts = RunFacts(val_counts=(100,) * CLASSES, train_counts=(300,) * CLASSES)
    return RunRecord("r", "t", tuple(epochs), facts)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.8])
def test_the_share_of_wrong_labels_is_found(share: float) -> None:
    for seed in range(5):
        found = wrong_label_share(noisy_run(share, seed=seed))
        assert found is not None
        assert found.share == pytest.approx(share, abs=0.08)


def test_right_labels_are_never_suspected() -> None:
    assert all(wrong_label_share(noisy_run(0.0, seed=seed)) is None for seed in range(50))


def losses_of(rng: np.random.Generator, wrong: int, right: int) -> dict[str, tuple[float, ...]]:
    high = {f"wrong{i}": tuple(rng.normal(3.5, 0.3, 6)) for i in range(wrong)}
    low = {f"right{i}": tuple(np.abs(rng.normal(0.3, 0.2, 6))) for i in range(right)}
    return {**low, **high}


def test_images_that_are_contradicted_are_named() -> None:
    losses = losses_of(np.random.default_rng(1), wrong=12, right=88)
    record = RunRecord("r", "t", (), RunFacts(head_classes=CLASSES), sample_losses=losses)
    found = high_losses(record, 0.3, 5)
    assert found is not None
    assert found.share == pytest.approx(0.12)
    assert set(found.samples) == {f"wrong{i}" for i in range(12)}


def test_rows_with_holes_and_infinities_are_read() -> None:
    losses = {"a": (0.1, 0.1, 0.1), "b": (float("inf"), 3.0, 3.0), "c": (0.2, 0.1), "d": ()}
    record = RunRecord("r", "t", (), RunFacts(head_classes=CLASSES), sample_losses=losses)
    assert high_losses(record, 0.3, 5) is None


@pytest.mark.parametrize(("first", "says"), [(0.1, False), (0.13, False), (0.25, True)])
def test_what_is_right_before_it_was_ever_seen_carries_over(first: float, says: bool) -> None:
    facts = RunFacts(train_counts=(60,) * CLASSES, val_counts=(24,) * CLASSES)
    run = RunRecord("r", "t", (EpochSigns(1, train_accuracy=first),), facts)
    assert labels_mean_something(run) is says


def test_a_later_epoch_may_know_its_images_by_heart() -> None:
    facts = RunFacts(train_counts=(60,) * CLASSES, val_counts=(24,) * CLASSES)
    assert not labels_mean_something(
        RunRecord("r", "t", (EpochSigns(7, train_accuracy=0.9),), facts)
    )
