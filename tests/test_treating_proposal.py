"""A changed recipe: what only the earlier choice had a use for goes with it."""

from __future__ import annotations

import pytest

from espalier.diagnose.treat import Change, Treatment
from espalier.errors import RecipeError
from espalier.recipe.load import load_recipe
from espalier.treating.proposal import changed_recipe, holding

STAGE = "stages=[{name: all, train: all, epochs: 4, lr: 1e-3, schedule: step}]"


def change(key, after, before=None):
    return Change(key, before, after, "because", True, "a_rule")


@pytest.fixture
def stepped(tmp_path):
    sets = [STAGE, "schedule.name=step", "schedule.gamma=1e-3", "schedule.step_epochs=1"]
    return load_recipe(preset="baseline", sets=sets, flags={"source": str(tmp_path)})


def test_a_new_schedule_takes_the_steps_of_the_old_one_along(stepped):
    edits = (change("stages.all.schedule", "cosine"), change("schedule.name", "cosine"))
    treatment = holding(stepped, Treatment(edits))
    assert treatment.changes == edits
    found = changed_recipe(stepped, edits)
    assert found.stages[0].schedule == "cosine"
    assert found.schedule.gamma == type(found.schedule).model_fields["gamma"].default


def test_no_class_weights_need_no_cap(tmp_path):
    sets = ["class_weighting.strategy=inverse", "class_weighting.cap=50"]
    recipe = load_recipe(preset="baseline", sets=sets, flags={"source": str(tmp_path)})
    found = changed_recipe(recipe, [change("class_weighting.strategy", "none")])
    assert (found.class_weighting.strategy, found.class_weighting.cap) == ("none", None)


def test_what_contradicts_for_another_reason_still_does(stepped):
    with pytest.raises(RecipeError):
        changed_recipe(stepped, [change("optimizer.momentum", 0.5)])
    left = holding(stepped, Treatment((change("optimizer.momentum", 0.5),))).left_out
    assert [entry.key for entry in left] == ["optimizer.momentum"]
