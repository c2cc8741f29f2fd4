"""What a report prescribes for a recipe: order, conflicts, what is left out, what blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.diagnose.treat import Change, prescribe
from espalier.findings import Edit, Finding, Report, Severity
from espalier.recipe.load import load_recipe
from espalier.recipe.schema import Recipe

STAGES = (
    "stages=[{name: head, train: head, epochs: 2, lr: 1e-2},"
    " {name: all, train: all, epochs: 3, lr: 5e-3, backbone_lr: 1e-3}]"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    photos: Path = tmp_path_factory.mktemp("photos")
    return load_recipe(
        preset="baseline",
        sets=[STAGES, "class_weighting.sampler=balanced", "schedule.name=step"],
        flags={"source": str(photos)},
    )


def finding(
    rule: str,
    *edits: Edit,
    severity: Severity = "warning",
    then: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        rule, "RUN900", severity, f"{rule} it is", prescription=edits, consequences=then,
        advice=(f"mend {rule}",),
    )  # fmt: skip


def report(*findings: Finding) -> Report:
    return Report(findings, (), ())


def values(changes: tuple[Change, ...]) -> dict[str, object]:
    return {change.key: change.after for change in changes}


def times(key: str, factor: float, safe: bool = True) -> Edit:
    return Edit(key, "multiply", factor, "because", safe)


def put(key: str, value: float | str | bool, safe: bool = True) -> Edit:
    return Edit(key, "set", value, "because", safe)


def test_a_healthy_report_changes_nothing(recipe: Recipe) -> None:
    lever = finding("next_lever", put("training.imgsz", 224, safe=False), severity="info")
    found = prescribe(recipe, report(finding("healthy", severity="info"), lever))
    assert found.changes == ()
    assert found.by_hand == ()
    assert found.blocked is None


def test_rates_are_multiplied_and_epochs_stay_whole(recipe: Recipe) -> None:
    edits = [times("stages.all.lr", 0.07), times("stages.all.backbone_lr", 0.07)]
    found = prescribe(recipe, report(finding("a", *edits, times("stages.head.epochs", 1.3))))
    assert values(found.changes) == {
        "stages.all.lr": 3.5e-4, "stages.all.backbone_lr": 7e-5, "stages.head.epochs": 3,
    }  # fmt: skip
    assert found.changes[0].word == "stages.all.lr=0.00035"
    assert found.changes[0].before == 5e-3


def test_a_rate_below_the_last_one_of_the_schedule_takes_that_along(recipe: Recipe) -> None:
    floor = recipe.schedule.min_lr
    factor = 0.1 * floor / 5e-3
    found = prescribe(recipe, report(finding("a", times("stages.all.lr", factor))))
    assert set(values(found.changes)) == {"stages.all.lr", "schedule.min_lr"}
    rate, last = (
        float(str(values(found.changes)[k])) for k in ("stages.all.lr", "schedule.min_lr")
    )
    assert 0 < last < rate < floor


def test_a_stage_without_a_value_of_its_own_has_that_of_all(recipe: Recipe) -> None:
    edits = (times("stages.head.backbone_lr", 0.1), put("stages.all.schedule", "cosine"))
    found = prescribe(recipe, report(finding("a", *edits)))
    assert [(c.before, c.after) for c in found.changes] == [(1e-2, 1e-3), ("step", "cosine")]


def test_unset_goes_back_to_the_default(recipe: Recipe) -> None:
    edit = Edit("class_weighting.sampler", "unset", None, "because")
    assert values(prescribe(recipe, report(finding("a", edit))).changes) == {
        "class_weighting.sampler": "none"
    }


def test_of_two_edits_of_a_key_the_cause_further_up_wins(recipe: Recipe) -> None:
    upper = finding("upper", times("stages.all.lr", 0.1), severity="error")
    lower = finding("lower", times("stages.all.lr", 10), put("optimizer.clip_norm", 0.5))
    found = prescribe(recipe, report(upper, lower))
    assert values(found.changes) == {"stages.all.lr": 5e-4, "optimizer.clip_norm": 0.5}
    (left,) = found.left_out
    assert (left.key, left.rule) == ("stages.all.lr", "lower")
    assert "upper" in left.reason


def test_two_that_agree_are_one_change(recipe: Recipe) -> None:
    same = put("class_weighting.strategy", "sqrt")
    found = prescribe(recipe, report(finding("a", same), finding("b", same)))
    assert [change.rule for change in found.changes] == ["a"]
    assert found.left_out == ()


def test_what_follows_from_a_cause_is_not_treated(recipe: Recipe) -> None:
    cause = finding("cause", times("stages.all.lr", 0.1), then=("effect",))
    effect = finding("effect", put("model.dropout", 0.1))
    assert list(values(prescribe(recipe, report(cause, effect)).changes)) == ["stages.all.lr"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (put("data.val_share", 0.3), "same images"),
        (put("model.wings", 2), "no such value"),
        (put("stages.tail.lr", 0.1), "no stage tail"),
        (put("schedule.name", "step"), "so already"),
        (times("schedule.name", 2), "cannot be multiplied"),
    ],
)
def test_edits_that_change_nothing_good_are_left_out_with_a_reason(
    recipe: Recipe, edit: Edit, reason: str
) -> None:
    found = prescribe(recipe, report(finding("a", edit)))
    assert found.changes == ()
    assert reason in found.left_out[0].reason


def test_what_was_tried_is_not_tried_again(recipe: Recipe) -> None:
    asked = report(finding("a", put("model.dropout", 0.1), put("loss.label_smoothing", 0.2)))
    found = prescribe(recipe, asked, {("model.dropout", "0.1")})
    assert list(values(found.changes)) == ["loss.label_smoothing"]
    assert "did not help" in found.left_out[0].reason


def test_safe_and_unsafe_are_told_apart(recipe: Recipe) -> None:
    edits = (put("model.dropout", 0.1), put("training.imgsz", 160, safe=False))
    found = prescribe(recipe, report(finding("a", *edits)))
    assert [change.key for change in found.safe] == ["model.dropout"]
    assert [change.key for change in found.unsafe] == ["training.imgsz"]


def test_an_error_that_no_recipe_mends_blocks_what_comes_behind_it(recipe: Recipe) -> None:
    shuffled = finding("labels_shuffled", severity="error")
    other = finding("other", put("model.dropout", 0.1))
    found = prescribe(recipe, report(shuffled, other))
    assert found.blocked is shuffled
    assert found.changes == ()
    behind = prescribe(recipe, report(other, shuffled))
    assert behind.blocked is None
    assert behind.by_hand == (shuffled,)
    assert behind.changes


def test_a_warning_that_no_recipe_mends_is_named_and_passed_over(recipe: Recipe) -> None:
    found = prescribe(recipe, report(finding("soft"), finding("b", put("model.dropout", 0.1))))
    assert [f.rule for f in found.by_hand] == ["soft"]
    assert list(values(found.changes)) == ["model.dropout"]
