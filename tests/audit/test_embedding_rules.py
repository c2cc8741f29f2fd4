"""What the rules on features and probabilities say of larger sets, made on purpose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from espalier.audit.drift import measure_drift
from espalier.audit.rules import hard_classes, inseparable_classes, label_suspects, split_drift
from espalier.audited import AT_LEAST, Audited, Embedded
from espalier.findings import Finding
from espalier.records import Catalog, Sample, Split
from espalier.rules import CannotJudge

CLASSES = ("ash", "birch", "cedar", "dogwood")


def forest(
    labels: np.ndarray,
    *,
    probabilities: np.ndarray | None = None,
    features: np.ndarray | None = None,
    splits: Sequence[Split] | None = None,
    judged: np.ndarray | None = None,
) -> Audited:
    ids = tuple(f"tree{row}" for row in range(len(labels)))
    parts: Sequence[Split] = splits or ["train"] * len(labels)
    samples = tuple(
        Sample(sample_id, f"{sample_id}.jpg", CLASSES[label], split=split)
        for sample_id, label, split in zip(ids, labels.tolist(), parts, strict=True)
    )
    flat = np.zeros((len(labels), 2)) if features is None else features
    everyone = np.ones(len(labels), dtype=np.bool_)
    embedded = Embedded(
        "made-up",
        ids,
        flat.astype(np.float32),
        labels.astype(np.int64),
        probabilities,
        everyone if judged is None else judged,
    )
    return Audited(Catalog(samples, CLASSES, "forest"), given_split=True, embedded=embedded)


def head_on(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Probabilities of a head that is right for about nine images of ten."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(len(labels), len(CLASSES)))
    seen[np.arange(len(labels)), labels] += 2.6
    return np.asarray(softmax(2.6 * seen, axis=1))


def fires(finding: Finding | None) -> Finding:
    assert finding is not None
    return finding


def test_suspects_name_the_image_both_labels_and_the_correction() -> None:
    labels = np.repeat(np.arange(4), 100)
    probabilities = head_on(labels)
    labels[7] = 2
    probabilities[7] = [1 - 3e-6, 1e-6, 1e-6, 1e-6]
    finding = fires(
        label_suspects.check(
            forest(labels, probabilities=probabilities), label_suspects.Thresholds()
        )
    )
    assert finding.severity == "info"
    case = next(case for case in finding.cases if case.samples == ("tree7",))
    assert case.text.startswith("given cedar, looks like ash (")
    assert case.label == "cedar"
    (correction,) = case.corrections
    assert (correction.sample, correction.action, correction.value) == ("tree7", "relabel", "ash")
    assert [c.score for c in finding.cases] == sorted(
        (c.score for c in finding.cases), reverse=True
    )


def test_clean_but_hard_data_is_no_warning_and_noise_is_one() -> None:
    labels = np.repeat(np.arange(4), 200)
    probabilities = head_on(labels)
    thresholds = label_suspects.Thresholds()
    clean = label_suspects.check(forest(labels, probabilities=probabilities), thresholds)
    assert clean is None or clean.severity == "info"
    wrong = labels.copy()
    wrong[::12] = (wrong[::12] + 1 + np.arange(len(wrong[::12])) % 3) % 4
    noisy = fires(label_suspects.check(forest(wrong, probabilities=probabilities), thresholds))
    assert noisy.severity == "warning"
    # A diagnosis reads the lower bound by this name.
    figures = {one.name: one.value for one in noisy.evidence}
    assert 0 < float(figures[AT_LEAST]) < float(noisy.evidence[0].value)


def test_images_that_were_not_judged_say_nothing() -> None:
    labels = np.repeat(np.arange(4), 40)
    probabilities = head_on(labels)
    judged = np.ones(160, dtype=np.bool_)
    judged[:40] = False
    probabilities[:40] = [0, 0, 0, 1]
    subject = forest(labels, probabilities=probabilities, judged=judged)
    named = [
        sample
        for rule in (label_suspects, inseparable_classes, hard_classes)
        if (finding := rule.check(subject, rule.Thresholds())) is not None
        for case in finding.cases
        for sample in (case.samples or (case.label,))
    ]
    assert not {f"tree{row}" for row in range(40)} & set(named)
    assert "ash" not in named


def test_a_pair_is_shown_with_the_images_most_mistaken() -> None:
    labels = np.repeat(np.arange(4), 50)
    probabilities = head_on(labels)
    rng = np.random.default_rng(1)
    share = rng.uniform(0.3, 0.7, 100)
    probabilities[:100] = np.column_stack([share, 1 - share, np.zeros(100), np.zeros(100)])
    finding = fires(
        inseparable_classes.check(
            forest(labels, probabilities=probabilities), inseparable_classes.Thresholds()
        )
    )
    (case,) = finding.cases
    # By turns: where a gallery has room for two pictures only, they are of both classes.
    assert set(case.samples[::2]) == {f"tree{row}" for row in np.argsort(share[:50])[:3]}
    assert set(case.samples[1::2]) == {f"tree{50 + row}" for row in np.argsort(-share[50:])[:3]}
    assert {e.where for e in finding.evidence} == {"ash / birch"}
    assert finding.evidence[0].threshold == 90
    assert any("--imgsz 288" in line for line in finding.advice)


def test_a_rare_twin_that_is_never_called_is_a_pair_that_is_lost() -> None:
    labels = np.repeat([0, 1, 2], [200, 60, 100])
    rng = np.random.default_rng(4)
    lead = rng.normal(1.2, 0.4, 260)
    logits = np.zeros((360, 4))
    logits[:260, 0], logits[:260, 1] = 8 + lead, 8.0
    logits[260:, 2] = 9
    finding = fires(
        inseparable_classes.check(
            forest(labels, probabilities=softmax(logits, axis=1)), inseparable_classes.Thresholds()
        )
    )
    assert finding.severity == "warning"
    assert "ash / birch cannot be told apart" in finding.cause


def test_a_hard_class_is_named_with_what_it_is_taken_for() -> None:
    labels = np.repeat(np.arange(4), 60)
    probabilities = np.eye(4)[labels] * 0.9 + 0.025
    probabilities[60:84] = np.roll(probabilities[60:84], 1, axis=1)
    finding = fires(
        hard_classes.check(forest(labels, probabilities=probabilities), hard_classes.Thresholds())
    )
    (case,) = finding.cases
    assert case.label == "birch"
    assert case.text == "36 of 60 images found (60 %), F1 0.75; 24 taken for cedar"
    assert [e.threshold for e in finding.evidence] == [pytest.approx(1 - 0.15)]


def parts(train: Sequence[int], val: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and which images are of val, from images per class."""
    labels = np.concatenate([np.repeat(np.arange(len(c)), c) for c in (train, val)])
    return labels, np.arange(len(labels)) >= sum(train)


def features_of(labels: np.ndarray, width: int = 32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(int(labels.max()) + 1, width)) * 3
    return (middles[labels] + rng.normal(size=(len(labels), width))).astype(np.float32)


def alone(labels: np.ndarray) -> list[str]:
    return [str(row) for row in range(len(labels))]


def test_other_shares_of_the_classes_are_no_drift() -> None:
    labels, val = parts([300, 50, 100], [30, 200, 40])
    drift = measure_drift(features_of(labels), labels, val, alone(labels))
    assert drift is not None
    assert drift.interval[0] < 0.5 < drift.interval[1]


def test_drift_is_as_large_as_the_normal_model_says() -> None:
    labels, val = parts([800, 800], [400, 400])
    features = features_of(labels)
    features[val, 0] += 1
    drift = measure_drift(features, labels, val, alone(labels))
    assert drift is not None
    # Two normals one standard deviation apart: 0.76; shrinkage and 32 directions cost a little.
    assert drift.auc == pytest.approx(0.75, abs=0.03)
    assert drift.images == (1600, 800)


def test_the_most_unlike_images_come_first() -> None:
    labels, val = parts([200, 200], [100, 100])
    features = features_of(labels)
    strange = np.flatnonzero(val)[::10]
    features[strange, 3] += 12
    drift = measure_drift(features, labels, val, alone(labels))
    assert drift is not None
    assert set(drift.rows[: len(strange)].tolist()) == set(strange.tolist())
    assert (np.diff(drift.scores) <= 0).all()


def test_images_of_one_series_do_not_give_their_part_away() -> None:
    """Each series looks alike and lies in one part: known series would be recognised."""
    rng = np.random.default_rng(0)
    series = np.repeat(np.arange(60), 10)
    labels, val = np.zeros(600, dtype=np.int64), (series % 3 == 0)
    features = (4 * rng.normal(size=(60, 200)))[series] + rng.normal(size=(600, 200))
    features = features.astype(np.float32)
    grouped = measure_drift(features, labels, val, [str(s) for s in series])
    free = measure_drift(features, labels, val, alone(labels))
    assert grouped is not None
    assert free is not None
    assert free.auc > 0.9
    assert grouped.auc < 0.65


def test_classes_of_one_part_are_left_out() -> None:
    labels, val = parts([50, 50, 0], [50, 0, 50])
    drift = measure_drift(features_of(labels), labels, val, alone(labels))
    assert drift is not None
    assert drift.images == (50, 50)
    assert measure_drift(features_of(labels), labels, labels == 1, alone(labels)) is None


def test_the_part_that_drifts_is_named_and_its_strangest_images_shown() -> None:
    labels = np.tile(np.arange(4), 150)
    splits: list[Split] = ["train"] * 400 + ["val"] * 100 + ["test"] * 100
    features = features_of(labels)
    features[500:, 1] += 5
    finding = fires(
        split_drift.check(
            forest(labels, features=features, splits=splits), split_drift.Thresholds()
        )
    )
    assert finding.severity == "warning"
    assert finding.cause.startswith("test can be told from train")
    assert "val" not in finding.cause
    assert [e.where for e in finding.evidence] == ["val", "test"]
    assert all(int(case.samples[0].removeprefix("tree")) >= 500 for case in finding.cases)


def test_unlabelled_images_do_not_matter_to_drift() -> None:
    labels = np.tile(np.arange(4), 50)
    splits: list[Split] = ["train"] * 120 + ["val"] * 80
    subject = forest(labels, features=features_of(labels), splits=splits)
    assert subject.embedded is not None
    subject.embedded.labels[::7] = -1
    assert split_drift.check(subject, split_drift.Thresholds()) is None


def test_one_part_alone_cannot_drift() -> None:
    labels = np.tile(np.arange(4), 20)
    with pytest.raises(CannotJudge, match="too few images of train"):
        split_drift.check(forest(labels, features=features_of(labels)), split_drift.Thresholds())


def test_drift_of_a_large_set_takes_seconds() -> None:
    labels, val = parts([4000, 4000], [2000, 2000])
    started = time.process_time()
    drift = measure_drift(features_of(labels, 1280), labels, val, alone(labels))
    assert time.process_time() - started < 5
    assert drift is not None
    assert drift.interval[0] < 0.52


def test_a_part_of_one_group_cannot_be_compared() -> None:
    labels, val = parts([60, 60], [30, 30])
    groups = ["field 2" if of_val else str(row) for row, of_val in enumerate(val)]
    assert measure_drift(features_of(labels), labels, val, groups) is None


def test_painted_pictures_are_no_drift() -> None:
    labels, val = parts([200, 200], [100, 100])
    features = features_of(labels)
    painted = ~val & (np.arange(len(labels)) % 2 == 0)
    features[painted, 3] += 12
    splits: list[Split] = ["val" if of_val else "train" for of_val in val]
    subject = forest(labels, features=features, splits=splits)
    assert split_drift.check(subject, split_drift.Thresholds()) is not None
    samples = tuple(
        replace(sample, origin="e" * 16) if drawn else sample
        for sample, drawn in zip(subject.catalog.samples, painted, strict=True)
    )
    subject = replace(subject, catalog=replace(subject.catalog, samples=samples))
    assert split_drift.check(subject, split_drift.Thresholds()) is None


def test_many_images_and_many_classes_are_judged_in_seconds() -> None:
    """Half a minute where each image or each pair of classes looked through all images."""
    labels = np.arange(12_000) % 4
    splits: list[Split] = ["val" if row % 7 == 0 else "train" for row in range(len(labels))]
    subject = forest(labels, features=features_of(labels, 4), splits=splits)
    started = time.process_time()
    split_drift.check(subject, split_drift.Thresholds())
    assert time.process_time() - started < 5


def test_a_larger_size_is_larger() -> None:
    labels = np.repeat(np.arange(4), 50)
    subject = forest(labels, probabilities=np.full((200, 4), 0.25))
    for imgsz, larger in ((32, 64), (128, 160), (160, 224), (224, 288)):
        finding = fires(
            inseparable_classes.check(
                replace(subject, imgsz=imgsz), inseparable_classes.Thresholds()
            )
        )
        assert f"--imgsz {larger} " in finding.advice[1]
