"""Policies hold their documented facts, and a person's changes are merged or refused as a whole."""

from __future__ import annotations

import math

import pytest

from espalier.errors import RecipeError
from espalier.recipe.policies import POLICIES, STEPS, resolve_steps

NINE = [
    *("random_resized_crop", "hflip", "vflip", "rotation", "affine", "perspective"),
    *("colour_jitter", "blur", "random_erasing"),
]


def refused(policy: str, changes: dict[str, dict[str, float]]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        resolve_steps(policy, changes)
    return caught.value


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_names_every_parameter_within_its_range(policy: str) -> None:
    steps = resolve_steps(policy, None)
    assert steps.keys() == POLICIES[policy].keys()
    for step, params in steps.items():
        assert params.keys() == STEPS[step].keys()
        for name, value in params.items():
            assert STEPS[step][name].low <= value <= STEPS[step][name].high


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_pass_their_own_checks_and_resolving_twice_changes_nothing(policy: str) -> None:
    steps = resolve_steps(policy, None)
    assert resolve_steps(policy, steps) == steps


def test_defaults_of_every_step_are_within_their_ranges() -> None:
    assert list(resolve_steps("none", {step: {} for step in STEPS})) == list(STEPS)
    assert resolve_steps("none", resolve_steps("none", {step: {} for step in STEPS}))


def test_standard_has_exactly_the_nine_steps() -> None:
    assert list(resolve_steps("standard", None)) == NINE


def test_strong_has_the_facts_of_field_photographs() -> None:
    strong = resolve_steps("strong", None)
    assert strong["rotation"]["degrees"] == 45
    chances = {step: params["p"] for step, params in strong.items()}
    wanted = {"colour_jitter": 0.8, "coarse_dropout": 0.5, "vflip": 0.3, "hflip": 0.5}
    wanted |= {"grid_distortion": 0.3, "shadow": 0.2, "random_resized_crop": 1.0}
    assert {step: chances[step] for step in wanted} == wanted


def test_e8_has_the_facts_of_its_list() -> None:
    steps = resolve_steps("e8", None)
    jitter = steps["colour_jitter"]
    assert steps["enlarged_crop"] == {"p": 1.0, "factor": 1.1}
    assert steps["rotation"]["degrees"] == 15
    assert [jitter[k] for k in ("brightness", "contrast", "saturation", "hue")] == [0.2] * 3 + [0.1]
    assert [steps[k]["p"] for k in ("blur", "affine", "random_erasing")] == [0.2, 0.3, 0.1]
    assert "random_resized_crop" not in steps


@pytest.mark.parametrize("name", ["randaugment", "trivialaugment"])
def test_automatic_policies_are_a_crop_a_flip_and_torchvisions_operators(name: str) -> None:
    steps = resolve_steps(name, None)
    assert list(steps) == ["random_resized_crop", "hflip", name]
    assert steps[name]["p"] == 1.0
    assert resolve_steps("randaugment", None)["randaugment"] == {
        **{"p": 1.0, "num_ops": 2.0, "magnitude": 9.0}
    }


def test_a_change_keeps_what_it_does_not_name() -> None:
    before, after = resolve_steps("strong", None), resolve_steps("strong", {"rotation": {"p": 1}})
    assert after["rotation"] == {"p": 1.0, "degrees": 45.0}
    assert {k: v for k, v in after.items() if k != "rotation"} == {
        k: v for k, v in before.items() if k != "rotation"
    }


def test_a_step_that_the_policy_lacks_is_added_with_its_defaults() -> None:
    steps = resolve_steps("light", {"shadow": {"p": 1.0}})
    assert list(steps) == ["random_resized_crop", "hflip", "shadow"]
    assert steps["shadow"] == {
        name: 1.0 if name == "p" else spec.default for name, spec in STEPS["shadow"].items()
    }


def test_a_step_switched_off_stays_on_record() -> None:
    steps = resolve_steps("standard", {"blur": {"p": 0}})
    assert steps["blur"]["p"] == 0
    assert resolve_steps("standard", steps) == steps


def test_an_answer_does_not_share_memory_with_the_policies() -> None:
    resolve_steps("strong", None)["rotation"]["degrees"] = 1.0
    assert resolve_steps("strong", None)["rotation"]["degrees"] == 45.0


def test_an_unknown_policy_is_answered_with_the_nearest_name() -> None:
    error = refused("standart", {})
    assert "'standart'" in error.message
    assert "heavy" in error.message
    assert error.hint == "--set augment.policy=standard"


def test_unknown_names_are_answered_with_the_nearest_ones() -> None:
    error = refused("light", {"rotate": {}, "hflip": {"prob": 0.5}, "blur": {"max_sigm": 1.0}})
    assert len(error.problems) == 3
    assert "did you mean 'rotation'?" in error.problems[0]
    assert "hflip takes no 'prob'" in error.problems[1]
    assert "did you mean 'max_sigma'?" in error.problems[2]


@pytest.mark.parametrize(
    ("step", "param", "value"),
    [
        ("hflip", "p", 1.1),
        ("hflip", "p", -0.1),
        ("hflip", "p", math.nan),
        ("rotation", "degrees", 181),
        ("rotation", "degrees", math.inf),
        ("random_resized_crop", "min_area", 0.0),
        ("coarse_dropout", "max_holes", 1.5),
        ("randaugment", "num_ops", 0),
        ("randaugment", "num_ops", 1.5),
        ("randaugment", "magnitude", 31),
        ("elastic_distortion", "strength", 0.5),
        ("hflip", "p", True),
        ("hflip", "p", "0.5"),
    ],
)
def test_values_out_of_range_are_refused(step: str, param: str, value: float) -> None:
    (problem,) = refused("standard", {step: {param: value}}).problems
    assert f"{step}.{param} is {value!r}" in problem
    assert f"to {STEPS[step][param].high:g}" in problem


def test_a_minimum_above_the_maximum_is_refused_also_against_the_policy() -> None:
    (problem,) = refused("standard", {"random_resized_crop": {"max_area": 0.3}}).problems
    assert problem == (
        "random_resized_crop.min_area is 0.6, above random_resized_crop.max_area = 0.3"
    )
