"""Ways to weigh classes side by side, against the formulas and against what training uses."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.audit.balance import advice
from espalier.data.balance import class_weights
from espalier.errors import DataError
from espalier.recipe.schema import ClassWeighting

FIELD = {"healthy": 2445, "rust": 1001, "mould": 49, "mites": 1}


def test_every_strategy_of_the_recipe_is_there_once() -> None:
    allowed = ClassWeighting.model_fields["strategy"].annotation.__args__
    assert sorted(one.name for one in advice(FIELD)) == sorted(allowed)
    assert advice(FIELD)[0].name == "none"


def test_ratios_are_those_of_the_formulas() -> None:
    ratios = {one.name: one.ratio for one in advice(FIELD)}
    beta = 0.999
    assert ratios["none"] == 1
    assert ratios["inverse"] == pytest.approx(2445)
    assert ratios["sqrt"] == pytest.approx(np.sqrt(2445))
    assert ratios["effective-number"] == pytest.approx((1 - beta**2445) / (1 - beta))


def test_weights_are_those_that_training_uses() -> None:
    for one in advice(FIELD):
        expected = class_weights(
            list(FIELD.values()), one.name, cap=None, beta=ClassWeighting().beta
        )
        assert list(one.weights) == list(FIELD)
        assert list(one.weights.values()) == expected.tolist()
        mean = sum(one.weights[name] * n for name, n in FIELD.items()) / sum(FIELD.values())
        assert mean == pytest.approx(1)


def test_a_class_without_images_takes_part_in_nothing() -> None:
    for one in advice({**FIELD, "nobody": 0}):
        assert one.weights["nobody"] == 0
        assert one.ratio >= 1


def test_each_says_when_to_use_it() -> None:
    sentences = [one.when for one in advice(FIELD)]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_no_images_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="no class has a training image"):
        advice({"a": 0, "b": 0})
