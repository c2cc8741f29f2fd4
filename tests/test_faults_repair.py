"""Repair in the benchmark of faults: it measures what ``espalier treat`` would do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.faults import in_plan, recipes, repair
from benchmarks.faults.recipes import R1, R2
from benchmarks.faults.repair import possible, prescribed, recipe_of, treated, treated_values
from espalier.findings import Edit, Finding, Report
from espalier.recipe.keys import field_schema

NOWHERE = Path("nowhere")


def finding(rule, *edits, severity="warning", then=()):
    return Finding(rule, "X", severity, rule, prescription=edits, consequences=then)


def put(key, value, safe=True):
    return Edit(key, "set", value, "because", safe)


def report(*findings):
    return Report(findings, (), ())


def values(edits):
    return {edit.key: edit.value for edit in edits}


def test_all_causes_are_treated_and_nothing_that_follows_or_is_not_safe():
    found = report(
        finding("a", put("stages.train.lr", 0.01), then=("b",)),
        finding("b", put("optimizer.momentum", 0.5)),
        finding("c", put("stages.train.lr", 0.5), put("training.batch", 64)),
        finding("d", put("stages.train.epochs", 99, safe=False)),
        finding("e", put("model.dropout", 0.9), severity="info"),
    )
    edits = prescribed(recipe_of(R2, NOWHERE), found)
    assert values(edits) == {"stages.train.lr": 0.01, "training.batch": 64}
    assert prescribed(recipe_of(R2, NOWHERE), None) == ()


@pytest.mark.parametrize("plan", [R1, R2])
@pytest.mark.parametrize(
    "fault",
    [
        in_plan.rate_diverges,
        in_plan.decays_early,
        in_plan.odd_momentum,
        in_plan.huge_decay,
        in_plan.batch_mismatch,
        in_plan.stops_early,
        in_plan.heavy_dropout,
        in_plan.destructive_augmentation,
        in_plan.extreme_weights,
        in_plan.over_regularised,
    ],
)
def test_what_is_wrong_with_a_plan_is_wrong_with_its_recipe(plan, fault):
    """Each value that a fault changes differs in the recipe as well: a cure is a change there."""
    sick = fault(plan, 2)
    before, after = (recipe_of(one, NOWHERE).model_dump() for one in (plan, sick))
    assert before != after


def test_a_schedule_that_ends_too_early_is_no_cosine_to_the_product():
    early = dataclasses.replace(R1, decay_share=0.15)
    edits = prescribed(
        recipe_of(early, NOWHERE), report(finding("a", put("stages.train.schedule", "cosine")))
    )
    assert treated(early, edits) == R1


def test_weights_are_those_of_the_counts_and_not_of_the_weights():
    wild = dataclasses.replace(R2, class_weights=(1000.0, *[1.0] * 9))
    strategy, cap = "class_weighting.strategy", "class_weighting.cap"
    even = treated(wild, [put(strategy, "sqrt"), put(cap, 10.0)]).class_weights
    assert even == pytest.approx([1.0] * 10)
    assert treated(wild, [put(strategy, "none")]).class_weights is None
    uneven = dataclasses.replace(recipes.PLANS["R4"], class_weights=(1000.0, *[1.0] * 5))
    root = treated(uneven, [put(strategy, "sqrt")]).class_weights
    assert max(root) / min(root) == pytest.approx((403 / 91) ** 0.5)
    capped = treated(uneven, [put(strategy, "inverse"), put(cap, 1.5)]).class_weights
    assert max(capped) / min(capped) == pytest.approx(1.5)


def test_the_memory_of_adam_is_its_first_beta():
    long = dataclasses.replace(R1, momentum=0.999)
    edits = prescribed(
        recipe_of(long, NOWHERE), report(finding("a", Edit("optimizer.betas", "unset", None, "")))
    )
    assert treated(long, edits).momentum == 0.9


def test_values_for_training_are_set():
    edits = [put("stages.top.lr", 0.01), put("model.dropout", 0.0)]
    assert treated_values({"model.dropout": 0.9, "x": 1}, edits) == {
        "model.dropout": 0.0, "x": 1, "stages.top.lr": 0.01,
    }  # fmt: skip
    stepped = {"stages.top.schedule": "step", "schedule.gamma": 1e-3}
    cosine = [put("stages.top.schedule", "cosine")]
    assert treated_values(stepped, cosine) == {"stages.top.schedule": "cosine"}


def test_random_changes_become_values_and_what_cannot_hold_is_left_out():
    recipe = recipe_of(R1, NOWHERE)
    edits = [
        Edit("stages.train.lr", "multiply", 0.1, ""),
        put("stages.none.lr", 1.0),
        put("optimizer.momentum", 0.5),
        put("model.dropout", 0.0),
    ]
    assert values(possible(recipe, edits)) == {"stages.train.lr": 1e-4}


def test_every_action_is_one_that_recipes_have():
    assert all(field_schema(edit.key) is not None for edit in repair.ACTIONS)
