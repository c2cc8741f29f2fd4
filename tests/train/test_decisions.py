"""What a run decides on its way is on record in its recipe, and orders nothing elsewhere."""

import signal
from dataclasses import replace

import pytest

from espalier import pipeline
from espalier.data.store import DiskStore, MemoryStore
from espalier.errors import TrainingInterrupted
from espalier.recipe.load import change_recipe, load_recipe
from espalier.recipe.schema import Recipe
from espalier.train.decisions import with_keeping, with_store
from espalier.train.interrupts import Interrupts
from espalier.train.keeping import Keeping
from espalier.train.loop import fit
from espalier.train.resume import check_changes
from espalier.train.session import open_session
from small_runs import Seen, open_job, small_recipe

STAGES = (
    "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-2},"
    " {name: top, train: 0.4, epochs: 6, lr: 5e-3}, {name: all, train: all, epochs: 1, lr: 1e-3}]"
)
OPEN = ("features.keep=auto", "data.store=auto", "augment.policy=light")
HEAD, TOP, WHOLE = (f"features.keep.{stage}" for stage in ("head", "top", "all"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))


def left_open(uneven, folder, *values):
    return small_recipe(uneven, folder, *OPEN, *values, stages=STAGES)


def stopped_at(recipe, step):
    job, state = open_job(recipe)
    interrupts = Interrupts()

    class Stop(Seen):
        def on_step(self, done, total, loss):
            if done == step:
                interrupts.signal = signal.SIGINT

    with pytest.raises(TrainingInterrupted):
        fit(replace(job, watch=Stop()), state, interrupts)
    return job.run


def test_the_recipe_of_a_run_says_what_was_decided_and_why(uneven, tmp_path):
    recipe = pipeline.train(left_open(uneven, tmp_path)).run.recipe()
    assert (recipe.data.store, recipe.features.keep, recipe.features.views) == ("auto",) * 3
    assert recipe.why["data.store"] == "auto disk: photographs are decoded once, for all runs"
    assert recipe.why[HEAD] == "auto disk: one unaugmented view of each image"
    assert recipe.why[TOP].startswith("auto disk: 4 views of each image, ")
    assert recipe.why["features.views.top"].startswith("auto 4: 4 views of each image, ")
    assert recipe.why[WHOLE].startswith("auto off: all layers learn")
    assert "features.views.all" not in recipe.why


def test_what_a_person_gave_keeps_its_origin(uneven, tmp_path):
    given = ("features.keep=memory", "features.views=2", "data.store=memory")
    recipe = pipeline.train(left_open(uneven, tmp_path, *given)).run.recipe()
    assert recipe.why["features.keep"] == "--set features.keep=memory"
    assert recipe.why["data.store"] == "--set data.store=memory"
    assert not [key for key in recipe.why if key.startswith(("features.keep.", "features.views."))]


def test_a_run_from_the_same_file_decides_again(uneven, tmp_path):
    first = pipeline.train(left_open(uneven, tmp_path)).run
    loaded = load_recipe(file=first.recipe_file)
    assert (loaded.data.store, loaded.features.keep, loaded.features.views) == ("auto",) * 3
    assert not [key for key in loaded.why if key.startswith("features.keep.")]
    # As on a machine without room: nothing that the first run chose is an order here.
    small = change_recipe(loaded, ["data.store_gib=1e-9", "features.budget_gib=1e-9"])
    again = pipeline.train(small).run.recipe()
    assert again.why["data.store"].startswith("auto off: ")
    assert "over features.budget_gib" in again.why[TOP]
    assert again.why[TOP].startswith("auto off: ")
    assert "features.views.top" not in again.why


def test_a_resumed_run_keeps_what_is_on_record_of_its_stages(uneven, tmp_path):
    run = stopped_at(left_open(uneven, tmp_path), step=4)
    before = run.recipe()
    assert {HEAD, TOP} <= before.why.keys()
    assert WHOLE not in before.why
    # As the command line does it, which makes the reasons anew from the values.
    asked = change_recipe(before, ["data.workers=1"])
    check_changes(before, asked)
    after = pipeline.resume(run, asked).run.recipe()
    assert [after.why[key] for key in (HEAD, TOP)] == [before.why[key] for key in (HEAD, TOP)]
    assert after.why["data.store"] == before.why["data.store"]
    assert after.why[WHOLE].startswith("auto off: ")


def test_where_features_are_kept_can_be_said_when_a_run_is_resumed(uneven, tmp_path):
    run = stopped_at(left_open(uneven, tmp_path), step=4)
    asked = change_recipe(run.recipe(), ["features.keep=memory"])
    after = pipeline.resume(run, asked).run.recipe()
    assert after.why["features.keep"] == "--set features.keep=memory"
    assert after.why[HEAD].startswith("auto disk: ")
    assert TOP not in after.why
    assert after.why["features.views.top"].startswith("auto 4: ")


def test_a_stage_that_keeps_nothing_has_the_same_reason_after_it_was_resumed(uneven, tmp_path):
    run = stopped_at(left_open(uneven, tmp_path, "features.budget_gib=1e-9"), step=4)
    before = run.recipe()
    assert "over features.budget_gib" in before.why[TOP]
    after = pipeline.resume(run, change_recipe(before)).run.recipe()
    assert after.why[TOP] == before.why[TOP]


@pytest.mark.parametrize("edit", ["# mine\n{}", "{}  not: [yaml"])
def test_a_recipe_that_a_person_edits_meanwhile_is_left_to_them(uneven, tmp_path, edit):
    seen = Seen()
    job, state = open_job(left_open(uneven, tmp_path), seen)
    text = edit.format(job.run.recipe_file.read_text())
    job.run.recipe_file.write_text(text)
    open_session(job, state)
    assert job.run.recipe_file.read_text() == text
    assert any("was edited: what stage head keeps" in note for note in seen.notes)


def test_the_store_that_was_opened_is_named(tmp_path):
    disk = DiskStore(tmp_path, 32, 10**6, required=False)
    words = [
        with_store(Recipe(), store).why["data.store"] for store in (disk, MemoryStore(32, 1), None)
    ]
    assert [text.partition(":")[0] for text in words] == ["auto disk", "auto memory", "auto off"]
    given = Recipe.model_validate({"data": {"store": "off"}})
    assert with_store(given, None) == given


def test_a_second_decision_takes_the_place_of_the_first():
    kept = with_keeping(Recipe(), "top", Keeping("disk", 4, "4 views"))
    live = with_keeping(kept, "top", Keeping("off", 0, "no room"))
    assert kept.why == {
        "features.keep.top": "auto disk: 4 views",
        "features.views.top": "auto 4: 4 views",
    }
    assert live.why == {"features.keep.top": "auto off: no room"}
