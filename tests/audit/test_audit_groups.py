"""Groups of images in what a person sees: both sides of a case first, and advice that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_subjects import subject_of
from torch import nn

from espalier.audit.groups import in_turn
from espalier.audit.rules import conflicting_labels, group_leakage, near_duplicates_across_splits
from espalier.auditing import features
from espalier.auditing.features import independent_groups
from espalier.auditing.write import AuditFiles
from espalier.findings import Finding
from espalier.preparation import prepare
from espalier.records import Catalog, Sample
from small_runs import small_recipe, uneven_photos


def fires(finding: Finding | None) -> Finding:
    assert finding is not None
    return finding


def test_things_in_turn() -> None:
    assert in_turn("aabca", str) == ["a", "b", "c", "a", "a"]
    assert in_turn([], str) == []


def test_the_first_images_of_a_conflict_have_different_labels() -> None:
    words = {
        "samples": [{"id": "x", "count": 5}, {"id": "y", "count": 2, "label": "b"}],
        "pairs": [[f"x{i}", other, "near", 0.97, "mirrored"] for i in range(4)
                  for other in (f"x{i + 1}", "y0", "y1")],
    }  # fmt: skip
    finding = fires(conflicting_labels.check(subject_of(words), conflicting_labels.Thresholds()))
    assert finding.cases[0].samples[:4] == ("x0", "y0", "x1", "y1")


def test_the_first_images_of_a_leak_lie_in_different_parts() -> None:
    words = {
        "samples": [{"id": "x", "count": 5}, {"id": "y", "split": "val"}, {"id": "t", "count": 50}],
        "pairs": [[f"x{i}", "y", "near", 0.97, "mirrored"] for i in range(5)],
    }
    rule = near_duplicates_across_splits
    finding = fires(rule.check(subject_of(words), rule.Thresholds()))
    assert finding.cases[0].samples[:2] == ("x0", "y")


def test_where_most_of_training_are_copies_another_split_is_advised() -> None:
    words = {
        "given_split": True,
        "samples": [{"id": "x", "count": 5}, {"id": "y", "split": "val"}, {"id": "t", "count": 5}],
        "pairs": [[f"x{i}", "y", "near", 0.97, "mirrored"] for i in range(5)],
    }
    rule = near_duplicates_across_splits
    finding = fires(rule.check(subject_of(words), rule.Thresholds()))
    assert "5 of 10 training images" in finding.advice[0]
    assert "one folder per class" in finding.advice[1]
    few = {**words, "samples": [*words["samples"], {"id": "u", "count": 90}]}  # type: ignore[misc]
    finding = fires(rule.check(subject_of(few), rule.Thresholds()))
    assert finding.advice[0].startswith("Leave out the copies")


def test_groups_alone_are_not_advised_where_a_person_made_the_split() -> None:
    words = {
        "samples": [
            {"id": "x", "path": "photos/train/a/plant07_001.jpg"},
            {"id": "y", "path": "photos/val/a/plant07_002.jpg", "split": "val"},
            {"id": "i", "count": 20},
        ],
        "pairs": [["x", "y", "series", 0.85, "another shot of the same"]],
    }
    for given in (True, False):
        subject = subject_of({**words, "given_split": given})
        finding = fires(group_leakage.check(subject, group_leakage.Thresholds()))
        assert ("one folder per class" in finding.advice[0]) is given


def test_what_is_painted_on_a_photograph_never_judges_it() -> None:
    photograph = Sample("a" * 16, "/p/a.jpg", "clean", split="train")
    copy = Sample(f"{'a' * 16}~2", "/p/b.jpg", "clean", split="train")
    painted = [
        Sample(str(i) * 16, f"/s/{i}.jpg", "dirty", split="train", origin="a" * 16)
        for i in range(2)
    ]
    other = Sample("b" * 16, "/p/c.jpg", "clean", split="train")
    catalog = Catalog((photograph, copy, other, *painted), ("clean", "dirty"), "p")
    groups = independent_groups(catalog, ())
    tied = {groups[sample.sample_id] for sample in (photograph, copy, *painted)}
    assert len(tied) == 1
    assert groups[other.sample_id] not in tied


def test_the_next_command_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "my audits"
    files = AuditFiles(folder, None, folder / "corrections.csv", "my photos")
    assert files.lines()[-1].split("espalier ")[1] == (
        f"train 'my photos' --corrections '{folder / 'corrections.csv'}'"
    )


def test_features_that_are_no_numbers_are_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(small_recipe(uneven_photos(tmp_path / "photos"), tmp_path))
    model = prepared.recipe.model.model_copy(update={"weights": "pretrained"})
    prepared = replace(prepared, recipe=prepared.recipe.model_copy(update={"model": model}))
    catalog = prepared.catalog
    broken = np.full((len(catalog.samples), 4), np.nan, dtype=np.float32)
    monkeypatch.setattr(features, "start_model", lambda _: (nn.Identity(), None))
    monkeypatch.setattr(features, "split_features", lambda _: (catalog.samples, broken))
    embedded, why = features.embed(prepared, lambda text: None)
    assert embedded is None
    assert "NaN" in why
    assert "--precision fp32" in why
