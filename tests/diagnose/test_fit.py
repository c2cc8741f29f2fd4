"""Where training ended, and which lever is named for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from espalier.diagnose.fit import (
    fit_of,
    gap_noise,
    same_mix,
    settled,
    still_rising,
    train_guess,
)
from espalier.diagnose.levers import levers, more_to_learn_with
from espalier.diagnose.regularisers import stronger_augmentation, weaker_augmentation
from espalier.rules import CannotJudge
from espalier.run_record import EpochSigns, RunFacts, RunRecord, StageFacts


def run_with(clean: list[float], val: list[float], **facts: object) -> RunRecord:
    epochs = tuple(
        EpochSigns(i + 1, clean_accuracy=a, val_accuracy=b)
        for i, (a, b) in enumerate(zip(clean, val, strict=True))
    )
    return RunRecord("r", "t", epochs, RunFacts(**facts))  # type: ignore[arg-type]


def test_only_the_last_stage_says_where_training_ended() -> None:
    epochs = (
        *(EpochSigns(i, stage="head", val_accuracy=0.3) for i in range(1, 6)),
        EpochSigns(6, stage="all", val_accuracy=0.8),
        EpochSigns(7, stage="all", val_accuracy=math.nan),
    )
    assert settled(RunRecord("r", "t", epochs), "val_accuracy") == 0.8
    assert settled(RunRecord("r", "t", ()), "val_accuracy") is None


def test_a_fit_needs_the_clean_probe() -> None:
    with pytest.raises(CannotJudge, match="without augmentation"):
        fit_of(run_with([math.nan] * 3, [0.5] * 3))


def test_noise_adds_both_samples() -> None:
    record = run_with([0.9], [0.8], val_counts=(100, 100), train_counts=(50, 50))
    expected = math.sqrt(0.9 * 0.1 / 100 + 0.8 * 0.2 / 200)
    assert gap_noise(record, 0.9, 0.8) == pytest.approx(expected)


def test_a_steady_gain_rises_and_noise_does_not() -> None:
    climbing = [0.2 + 0.04 * i for i in range(12)]
    level = [0.5, 0.51, 0.5, 0.49, 0.5, 0.51, 0.49, 0.5, 0.51, 0.5, 0.49, 0.5]
    counts = (300, 300)
    assert still_rising(run_with(climbing, climbing, val_counts=counts))
    assert not still_rising(run_with(level, level, val_counts=counts))
    assert still_rising(run_with([0.5], [0.5], val_counts=counts))


def test_mixes_are_compared_beyond_what_chance_does() -> None:
    def mix(train: tuple[int, ...], val: tuple[int, ...]) -> bool | None:
        return same_mix(run_with([], [], train_counts=train, val_counts=val))

    assert mix((900, 100), (90, 10)) is True
    assert mix((900, 100), (500, 500)) is False
    assert mix((900, 100), (0, 0)) is None


@pytest.mark.parametrize(
    ("name", "weaker", "stronger"),
    [
        ("none", None, "light"),
        ("standard", "light", "strong"),
        ("heavy", "strong", None),
        ("RandAugment(num_ops=2)", "standard", None),
    ],
)
def test_augmentation_goes_one_step(name: str, weaker: str | None, stronger: str | None) -> None:
    record = run_with([], [], augment=name)
    down, up = weaker_augmentation(record, "why"), stronger_augmentation(record, "why")
    assert [edit.value for edit in down] == ([weaker] if weaker else [])
    assert [edit.value for edit in up] == ([stronger] if stronger else [])


def test_what_is_missing_most_comes_first() -> None:
    record = run_with([0.99] * 6, [0.6] * 6, val_counts=(200, 200, 200), imgsz=96)
    found = levers(record, fit_of(record))
    assert [lever.gain for lever in found] == sorted((x.gain for x in found), reverse=True)
    assert found[0].name == "close the gap to new images"


def test_more_to_learn_with_goes_from_layers_to_pixels_to_epochs() -> None:
    def keys(trainable: int, pixels: int) -> list[str]:
        parts, learns = {"body": 900, "head": 100}, {"body": trainable, "head": 100}
        stage = StageFacts("main", learning_rate=1e-3, parts=parts, trainable=learns)
        record = run_with([], [], stages=(stage,), imgsz=pixels)
        return [edit.key for edit in more_to_learn_with(record)]

    assert keys(0, 96) == ["stages.main.train", "stages.main.backbone_lr"]
    assert keys(900, 96) == ["training.imgsz"]
    assert keys(900, 224) == ["stages.main.epochs"]
    assert more_to_learn_with(run_with([], [])) == ()


def test_two_draws_from_one_mix_are_of_one_mix() -> None:
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.full(10, 20.0))
    draws = [(rng.multinomial(580, shares), rng.multinomial(240, shares)) for _ in range(300)]
    same = [
        same_mix(run_with([], [], train_counts=tuple(map(int, a)), val_counts=tuple(map(int, b))))
        is True
        for a, b in draws
    ]
    assert np.mean(same) >= 0.99
    other = {"train_counts": (290, 290, *[0] * 8), "val_counts": (24,) * 10}
    assert same_mix(run_with([], [], **other)) is False


def test_guessing_on_training_images_goes_by_their_own_mix() -> None:
    run = run_with([], [], train_counts=(90, 10), val_counts=(50, 50))
    assert train_guess(run) == 0.9
    assert train_guess(run_with([], [], head_classes=4)) == 0.25
