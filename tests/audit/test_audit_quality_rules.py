"""Audit rules on files, classes and names: their figures, and what they say of real pictures."""

from __future__ import annotations

import itertools
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from audit_subjects import subject_of
from PIL import Image
from scipy.stats import median_abs_deviation
from sklearn.metrics import f1_score, recall_score

import espalier.audit.rules
from espalier.audit.looks import look_at_all
from espalier.audit.robust import usual
from espalier.audit.rules import class_imbalance, classes_too_small, label_mapping
from espalier.audited import Audited, Embedded
from espalier.data.catalog import build_catalog
from espalier.findings import Finding, percent
from espalier.recipe.schema import Recipe
from espalier.records import Catalog, Sample
from espalier.rules import rules_in, run_rules

OWN = (
    *("unreadable_images", "wrong_extension", "constant_images", "too_small", "extreme_aspect"),
    *("odd_exposure", "blurred", "gray_among_colour", "rotated_by_exif"),
    *("class_missing_in_split", "classes_too_small", "class_imbalance", "label_mapping"),
)
RULES = [rule for rule in rules_in(espalier.audit.rules) if rule.name in OWN]


def audited_folder(folder: Path, *, imgsz: int = 224) -> Audited:
    catalog = build_catalog(
        str(folder),
        root=None,
        classes=None,
        val_share=0.1,
        test_share=0.1,
        group_by=None,
        split_from=None,
        seed=0,
        progress=None,
    )
    looks, _ = look_at_all(catalog.samples, folder=None, progress=None)
    return Audited(catalog, looks=looks, imgsz=imgsz)


def findings_of(subject: Audited) -> dict[str, Finding]:
    return {finding.rule: finding for finding in run_rules(RULES, subject).findings}


def test_there_is_every_rule() -> None:
    assert sorted(rule.name for rule in RULES) == sorted(OWN)


def test_usual_is_median_and_median_absolute_deviation() -> None:
    values = np.random.default_rng(0).lognormal(size=101).tolist()
    found = usual(values, finest=1e-9)
    assert found.median == np.median(values)
    assert found.spread == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-4)
    assert found.distance(found.median + 2 * found.spread) == pytest.approx(2)


def test_equal_values_have_the_finest_spread() -> None:
    assert usual([0.5] * 30, finest=0.03).spread == 0.03


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (3 / 4211, "0.071 %"),
        (0.05, "5 %"),
        (0.125, "12.5 %"),
        (0.88, "88 %"),
        (0.996, "99.6 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_have_one_decimal_at_most_from_one_percent_on(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("images", [1, 2, 3, 4])
def test_one_image_moves_macro_f1_by_no_more_than_is_said(images: int) -> None:
    """Every way to judge a small class of three, with one image judged otherwise."""
    truth = np.array([0] * images + [1] * 6 + [2] * 6)

    def of_small_class(said: tuple[int, ...], false_alarms: int) -> float:
        others = truth[images:].copy()
        others[:false_alarms] = 0
        scores = f1_score(truth, [*said, *others], average=None, labels=[0, 1, 2], zero_division=0)
        return 100 * float(scores[0]) / 3

    moves = [
        abs(of_small_class((0, *rest), alarms) - of_small_class((1, *rest), alarms))
        for rest in itertools.product((0, 1), repeat=images - 1)
        for alarms in range(3)
    ]
    assert max(moves) == pytest.approx(classes_too_small.points_of_one_image(images, 3))


def imbalanced(counts: dict[str, int], recall: dict[str, float] | None) -> Audited:
    """Training images only; the head finds the first share of each class and misses the rest."""
    classes = tuple(counts)
    samples = tuple(
        Sample(f"{name}-{i}", f"photos/{name}/{i}.jpg", name, split="train", width=9, height=9)
        for name, n in counts.items()
        for i in range(n)
    )
    labels = np.array([classes.index(s.label or "") for s in samples], dtype=np.int64)
    embedded = None
    if recall is not None:
        said = np.concatenate(
            [_said(i, counts[n], recall[n], len(classes)) for i, n in enumerate(classes)]
        )
        embedded = Embedded(
            model="made-up",
            sample_ids=tuple(s.sample_id for s in samples),
            features=np.zeros((len(samples), 1), dtype=np.float32),
            labels=labels,
            probabilities=np.eye(len(classes))[said],
            judged=np.ones(len(samples), dtype=np.bool_),
        )
    return Audited(Catalog(samples, classes, "photos"), embedded=embedded)


def _said(index: int, count: int, recall: float, classes: int) -> npt.NDArray[np.int64]:
    said = np.full(count, index, dtype=np.int64)
    said[round(recall * count) :] = (index + 1) % classes
    return said


COUNTS = {"a": 600, "b": 500, "c": 400, "d": 300, "e": 40, "f": 20}


@pytest.mark.parametrize(
    ("counts", "rare", "severity"),
    [
        (COUNTS, 0.5, "warning"),
        (COUNTS, 0.9, "info"),
        ({**COUNTS, "e": 60, "f": 50}, 0.5, "warning"),
        ({**COUNTS, "e": 100, "f": 90}, 0.5, "info"),
        # Two of four: what the rarest class shows is chance.
        ({"a": 400, "b": 400, "f": 4}, 0.75, "info"),
    ],
)
def test_imbalance_is_a_warning_where_rare_classes_suffer(
    counts: dict[str, int], rare: float, severity: str
) -> None:
    recall = {name: rare if name in "ef" else 0.95 for name in counts}
    finding = findings_of(imbalanced(counts, recall))["class_imbalance"]
    assert finding.severity == severity


def test_recall_of_rare_classes_is_that_of_scikit_learn() -> None:
    recall = {"a": 0.9, "b": 0.8, "c": 0.95, "d": 0.7, "e": 0.6, "f": 0.3}
    subject = imbalanced(COUNTS, recall)
    finding = findings_of(subject)["class_imbalance"]
    embedded = subject.embedded
    assert embedded is not None
    assert embedded.probabilities is not None
    each = recall_score(embedded.labels, embedded.probabilities.argmax(axis=1), average=None)
    gap = next(e for e in finding.evidence if e.name.startswith("recall"))
    assert gap.value == pytest.approx(each[:4].mean() - each[4:].mean())


def test_only_judged_images_count() -> None:
    subject = imbalanced(COUNTS, dict.fromkeys(COUNTS, 0.95))
    assert subject.embedded is not None
    subject.embedded.judged[:] = False
    assert findings_of(subject)["class_imbalance"].severity == "warning"


@pytest.mark.parametrize(
    ("ratio", "edits", "safe"),
    [
        (4, {}, True),
        (50, {"strategy": "sqrt"}, True),
        (2445, {"strategy": "sqrt", "cap": 10.0}, False),
    ],
)
def test_weights_are_moderate_and_the_recipe_takes_them(
    ratio: int, edits: dict[str, Any], safe: bool
) -> None:
    prescribed = class_imbalance.weights_for(ratio, class_imbalance.Thresholds())
    found = {edit.key.removeprefix("class_weighting."): edit.value for edit in prescribed}
    assert found == edits
    assert all(edit.safe for edit in prescribed) == safe
    assert Recipe.model_validate({"class_weighting": found})


def test_every_edit_is_a_value_of_the_recipe() -> None:
    subjects = [
        {"samples": [{"id": "a", "count": 60, "width": 32, "height": 32}]},
        {"samples": [{"id": "a", "count": 60, "width": 1200, "height": 300}]},
    ]
    for words in subjects:
        for edit in (e for f in findings_of(subject_of(words)).values() for e in f.prescription):
            section, _, key = edit.key.partition(".")
            assert Recipe.model_validate({section: {key: edit.value}})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Maize", "maize "),
        ("sugar_beet", "Sugar Beet"),
        ("sugarbeet", "Sugar-beet"),
        ("Café", "cafe"),
        ("Cafe\u0301", "Café"),
        ("leaf", "leaves"),
        ("dish", "dishes"),
        ("berry", "Berries"),
        ("healthy leaf", "healthy_leaves"),
        ("St. John", "st john"),
        ("potato", "potatoes"),
    ],
)
def test_names_of_one_class(first: str, second: str) -> None:
    finding = twins(first, second)
    assert finding is not None
    assert finding.severity == "warning"
    assert [c.value for c in finding.cases[0].corrections] == [first, first]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("class1", "class2"),
        ("10-20", "1020"),
        ("1.5 mm", "15 mm"),
        ("+5", "-5"),
        ("type A", "type B"),
        ("grade I", "grade II"),
        ("a", "A"),
        ("glass", "grass"),
        ("plan", "plane"),
        ("with mask", "without mask"),
        ("healthy", "unhealthy"),
        ("step 1 of 2", "step 2 of 1"),
        ("か", "が"),
    ],
)
def test_names_of_two_classes(first: str, second: str) -> None:
    assert twins(first, second) is None


def twins(first: str, second: str) -> Finding | None:
    """Both names in train and val, the first more frequent."""
    rows = [
        {"id": f"{which}-{split}", "label": name, "count": count, "split": split}
        for which, name, count in (("x", first, 5), ("y", second, 1))
        for split in ("train", "val")
    ]
    return label_mapping.check(subject_of({"samples": rows}), label_mapping.Thresholds())


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"leaf spots": "val", "spot leaf": "val", "LEAF SPOTS": "test"},
        {"leaf spit": "val"},
        {"Leaf Spot": "val", "leaf spots": "val", "leaf_spot": "val", "LEAF SPOTS": "test"},
    ],
)
def test_no_image_is_relabelled_to_a_name_that_is_itself_relabelled(where: dict[str, str]) -> None:
    names = ("Leaf Spot", "leaf spots", "leaf_spot", "spot leaf", "LEAF SPOTS", "leaf spit")
    rows = [
        {"id": f"{i}-", "label": name, "count": i + 1, "split": where.get(name, "train")}
        for i, name in enumerate(names)
    ]
    finding = label_mapping.check(subject_of({"samples": rows}), label_mapping.Thresholds())
    assert finding is not None
    changes = {c.sample: c.value for case in finding.cases for c in case.corrections}
    labels = {row["label"]: f"{row['id']}0" for row in rows}
    assert changes
    assert not {labels[value] for value in changes.values()} & set(changes)


def test_cases_come_strongest_first() -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "count": 60}]
    rows += [{"id": f"d{i}", "brightness": 0.07 - 0.01 * i} for i in range(5)]
    finding = findings_of(subject_of({"samples": rows}))["odd_exposure"]
    assert [case.samples[0] for case in finding.cases] == ["d4", "d3", "d2", "d1", "d0"]
    assert finding.cases[0].text == "dark: brightness 0.03, usual 0.50"


def planted(folder: Path, source: Path) -> dict[str, set[str]]:
    """Real photographs, some of them spoilt; rule -> names of the files that it should find."""
    files = sorted(source.rglob("*.jpg"))[:: max(1, len(list(source.rglob("*.jpg"))) // 100)]
    for i, file in enumerate(files):
        place = folder / ("a" if i % 2 else "b") / f"{i:03d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    picture = Image.open(files[0]).convert("RGB")
    spoilt = folder / "a"
    picture.point(lambda value: value // 12).save(spoilt / "dark.jpg")
    picture.point(lambda value: 255 - (255 - value) // 14).save(spoilt / "bright.jpg")
    # Enlarged from a few pixels: what a picture far out of focus looks like.
    picture.resize((16, 12)).resize(picture.size, Image.Resampling.BICUBIC).save(
        spoilt / "soft.jpg"
    )
    Image.new("RGB", picture.size, (9, 9, 9)).save(spoilt / "black.jpg")
    picture.convert("L").save(spoilt / "gray.jpg")
    picture.resize((40, 30)).save(spoilt / "thumb.jpg")
    picture.resize((1600, 180)).save(spoilt / "strip.jpg")
    picture.save(spoilt / "really.jpg", format="PNG")
    exif = Image.Exif()
    exif[274] = 6
    picture.save(spoilt / "sideways.jpg", exif=exif)
    (spoilt / "cut.jpg").write_bytes(files[0].read_bytes()[:2000])
    return {
        "unreadable_images": {"cut.jpg"},
        "wrong_extension": {"really.jpg"},
        "constant_images": {"black.jpg"},
        "too_small": {"thumb.jpg"},
        "extreme_aspect": {"strip.jpg"},
        "odd_exposure": {"dark.jpg", "bright.jpg"},
        "rotated_by_exif": {"sideways.jpg"},
    }


def test_spoilt_files_among_real_ones_are_found(trashnet: Path, tmp_path: Path) -> None:
    expected = planted(tmp_path, trashnet / "val")
    subject = audited_folder(tmp_path)
    findings = findings_of(subject)
    names = {s.sample_id: Path(s.path).name for s in subject.catalog.samples}
    found = {
        rule: {names[sample] for case in finding.cases for sample in case.samples}
        for rule, finding in findings.items()
    }
    for rule, files in expected.items():
        assert found[rule] == files, rule
    assert "soft.jpg" in found["blurred"]
    # A black frame and a nearly black one have no colour either.
    assert {"gray.jpg"} <= found["gray_among_colour"] <= {"gray.jpg", "black.jpg", "dark.jpg"}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_five_percent_of_the_light_is_dark_or_bright_and_not_one_tone(
    suffix: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for i in range(24):
        pale = rng.normal(128, 32, (24, 24, 3)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pale).resize((96, 96), Image.Resampling.BICUBIC)
        place = tmp_path / ("a" if i % 2 else "b") / f"{i:02d}{suffix}"
        place.parent.mkdir(exist_ok=True)
        if i == 0:
            image = image.point(lambda value: round(0.1 * value))
        elif i == 1:
            image = image.point(lambda value: round(255 - 0.1 * (255 - value)))
        image.save(place)
    subject = audited_folder(tmp_path)
    dim = [look for look in subject.looks.values() if not 0.1 < look.brightness < 0.9]
    assert all(look.contrast < 0.01 for look in dim)
    findings = findings_of(subject)
    assert "constant_images" not in findings
    assert findings["odd_exposure"].cause.endswith("1 dark, 1 bright")


def test_the_command_for_unreadable_files_is_one_that_runs() -> None:
    rows = [{"id": "a", "count": 3}, {"id": "bad", "status": "unreadable", "reason": "empty"}]
    finding = findings_of(subject_of({"samples": rows, "source": "my photos"}))["unreadable_images"]
    (command,) = (text.split("`")[1] for text in finding.advice if "`" in text)
    assert shlex.split(command)[1:] == ["audit", "my photos", "--quarantine", "unreadable.csv"]


@pytest.mark.parametrize(
    ("name", "part", "imgsz"), [("trashnet6", "val", 224), ("cifar10_small", "test", 64)]
)
def test_clean_sets_are_silent(shared: Path, name: str, part: str, imgsz: int) -> None:
    folder = shared / "datasets" / name / part
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    findings = findings_of(audited_folder(folder, imgsz=imgsz)).values()
    loud = [finding for finding in findings if finding.severity != "info"]
    assert len(loud) <= 1, loud
    files = [finding for finding in findings if finding.code < "AUD020"]
    assert sum(len(finding.cases) for finding in files) <= 40
    assert all(math.isfinite(case.score) for finding in files for case in finding.cases)
