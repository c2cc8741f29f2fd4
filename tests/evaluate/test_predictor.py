import json

import numpy as np
import pytest
import torch

from espalier import pipeline
from espalier.data.catalog import read_catalog
from espalier.errors import CheckpointError, ModelError, RunError
from espalier.evaluate.evaluation import read_predictions
from espalier.evaluate.predictor import Predictor, checkpoint_of, choose_device
from espalier.models.checkpoints import NO_HISTORY
from espalier.records import Sample
from espalier.runs import RunDir
from small_runs import HEAD_THEN_ALL, small_recipe


@pytest.fixture(scope="module")
def run(uneven, tmp_path_factory):
    return pipeline.train(small_recipe(uneven, tmp_path_factory.mktemp("judged"))).run


@pytest.fixture
def altered(run, tmp_path):
    """A checkpoint like that of the run, with changes in its recipe and its fields."""

    def alter(recipe=None, without=(), **fields):
        content = torch.load(run.best, weights_only=True) | fields
        tree = json.loads(content["recipe"])
        for key, value in (recipe or {}).items():
            section, _, name = key.rpartition(".")
            (tree[section] if section else tree)[name] = value
        content["recipe"] = json.dumps(tree)
        path = tmp_path / "altered.pt"
        torch.save({k: v for k, v in content.items() if k not in without}, path)
        return path

    return alter


def samples_of(run):
    return read_catalog(run.catalog_file).in_split("val")


def test_predictions_are_those_that_were_written_when_training_ended(run):
    samples = samples_of(run)
    written = read_predictions(run.predictions("val"))
    found = Predictor(run).predict(samples)
    assert np.array_equal(found.logits, written.logits)
    assert found.sample_ids == written.sample_ids == tuple(s.sample_id for s in samples)


def test_each_image_keeps_its_answer_in_any_order_and_company(run):
    samples = samples_of(run)
    predictor = Predictor(run)
    whole = predictor.predict(samples)
    turned = predictor.predict(samples[::-1])
    assert turned.logits[::-1] == pytest.approx(whole.logits, abs=1e-5)
    alone = predictor.predict(samples[2:3])
    assert alone.logits[0] == pytest.approx(whole.logits[2], abs=1e-5)
    assert predictor.model.training is False


def test_images_without_a_known_label_get_no_class(run):
    first, second, *_ = samples_of(run)
    unlabelled = Sample(first.sample_id, first.path, None, width=36, height=36)
    foreign = Sample(second.sample_id, second.path, "elsewhere", width=36, height=36)
    assert Predictor(run).predict([unlabelled, foreign]).labels.tolist() == [-1, -1]


def test_no_image_gives_no_prediction(run):
    found = Predictor(run).predict([])
    assert found.logits.shape == (0, 3)
    assert found.probabilities.shape == (0, 3)


def test_a_run_of_mixed_precision_is_judged_on_a_cpu(run, altered):
    samples = samples_of(run)
    exact = Predictor(run, "cpu").predict(samples).logits
    halved = Predictor(altered({"training.precision": "fp16"}), "cpu").predict(samples).logits
    # A CPU has no useful fp16: the same in fp32.
    assert np.array_equal(halved, exact)
    rounded = Predictor(altered({"training.precision": "bf16"}), "cpu").predict(samples).logits
    assert rounded.dtype == np.float32
    # bf16 has 8 bits: near 20 its numbers lie 0.125 apart, and these logits reach 26. So the bound
    # is relative to the largest: four roundings of it, as every layer rounds.
    assert rounded == pytest.approx(exact, abs=4 * 2**-9 * float(np.abs(exact).max()))
    assert not np.array_equal(rounded, exact)


def test_the_memory_layout_changes_no_answer(run, altered):
    samples = samples_of(run)
    path = altered({"training.channels_last": True})
    assert Predictor(path).predict(samples).logits == pytest.approx(
        Predictor(run).predict(samples).logits, abs=1e-4
    )


def test_weights_are_used_at_the_size_of_the_stage_they_come_from(uneven, tmp_path):
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 48").replace(
        "epochs: 2", "epochs: 1"
    )
    run = pipeline.train(small_recipe(uneven, tmp_path, stages=stages)).run
    stage = torch.load(run.best, weights_only=True)["stage_index"]
    assert Predictor(run.best).imgsz == (32, 48)[stage]
    assert Predictor(run.last).imgsz == 48


def test_the_best_checkpoint_is_used_else_the_last_else_it_is_said(run, tmp_path):
    assert checkpoint_of(run) == checkpoint_of(run.path) == run.best
    assert checkpoint_of(run.last) == run.last
    other = RunDir(tmp_path)
    other.recipe_file.write_bytes(run.recipe_file.read_bytes())
    with pytest.raises(RunError, match=r"last\.pt"):
        checkpoint_of(other)
    other.last.parent.mkdir()
    other.last.write_bytes(run.last.read_bytes())
    assert checkpoint_of(other) == other.last


def test_an_old_file_predicts_and_says_what_it_lacks(run, altered):
    path = altered(without=("history", "scaler", "step", "imgsz", "stage_index"))
    predictor = Predictor(path)
    assert predictor.notes == (NO_HISTORY,)
    assert predictor.imgsz == 32
    assert Predictor(run).notes == ()


def test_a_recipe_of_another_version_is_an_error_in_words(altered):
    with pytest.raises(CheckpointError, match="cannot be read by this version"):
        Predictor(altered({"training.quantum": 1}))


@pytest.mark.parametrize("wanted", ["cuda:99", "cuda:x", "tpu", "cpu:3"])
def test_devices_that_are_not_here_are_named_with_those_that_are(wanted):
    with pytest.raises(ModelError, match="cpu") as caught:
        choose_device(wanted)
    assert wanted in caught.value.message
    assert caught.value.hint == "--device auto"


def test_auto_takes_an_accelerator_where_there_is_one(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
