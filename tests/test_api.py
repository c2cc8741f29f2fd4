import pytest

import espalier
from espalier import api
from espalier.errors import RecipeError, ResumeError
from small_runs import FIXED, HEAD_THEN_ALL

VALUES = dict(text.split("=", 1) for text in (*FIXED, HEAD_THEN_ALL))


@pytest.fixture(scope="module")
def result(uneven, tmp_path_factory):
    return espalier.train_classifier(
        uneven,
        preset="baseline",
        values={**VALUES, "optimizer.clip_norm": None, "optimizer.betas": (0.8, 0.99)},
        out=str(tmp_path_factory.mktemp("api")),
        name="mine",
        seed=2,
    )


def test_values_of_python_are_values_of_the_recipe(result):
    recipe = result.run.recipe()
    assert result.run.name == "mine"
    assert recipe.training.seed == 2
    assert recipe.optimizer.clip_norm is None
    assert recipe.optimizer.betas == (0.8, 0.99)
    assert recipe.model.name == "small-cnn"
    assert recipe.training.channels_last is False


def test_a_recipe_file_may_be_named_by_text(uneven, result, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(api.pipeline, "train", lambda recipe, watch: seen.append(recipe))
    espalier.train_classifier(uneven, config=str(result.run.recipe_file), epochs=8)
    assert sum(stage.epochs for stage in seen[0].stages) == 8
    assert seen[0].optimizer.betas == (0.8, 0.99)


def test_unknown_words_are_refused_with_the_nearest(uneven):
    with pytest.raises(RecipeError, match="epochs"):
        espalier.train_classifier(uneven, epoch=3)


def test_scores_predictions_and_history_of_a_run(uneven, result):
    evaluations = espalier.evaluate_run(result.run.path)
    assert [e.split for e in evaluations] == ["val", "test"]
    assert evaluations[1].scores == result.test.scores
    assert espalier.read_history(str(result.run.path)).rows == result.history.rows
    folder = uneven / "class_2"
    whole, unreadable = espalier.predict_images(result.run, folder)
    assert len(whole.paths) == 6
    assert unreadable == ()
    first = sorted(folder.iterdir())[0]
    one, _ = espalier.predict_images(result.run, str(first))
    assert one.paths == (str(first.resolve()),)
    assert one.logits[0] == pytest.approx(whole.logits[0], abs=1e-5)


def test_a_run_is_resumed_with_the_few_values_that_may_change(result):
    with pytest.raises(ResumeError, match=r"training\.batch"):
        espalier.resume_run(result.run, epochs=5, batch=2)
    longer = espalier.resume_run(result.run.path, epochs=5, device="cpu", workers=1)
    assert len(longer.history.rows) == 5
    assert longer.run.recipe().data.workers == 1
