"""espalier treat on runs that were really made: cured, healthy, beyond a recipe, stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import typer

import espalier as package
from espalier import diagnosing, pipeline
from espalier.data.catalog import read_catalog
from espalier.data.synthetic.tiny import write_tiny
from espalier.errors import TrainingInterrupted
from espalier.findings import Edit, Finding, Report
from espalier.runs import RunDir
from espalier.train.watch import Unwatched
from espalier.treating.trial import CHAIN, RECORD
from small_runs import small_recipe

# Too slow a rate to learn anything, in a recipe that is fine otherwise.
SICK = "stages=[{name: all, train: all, epochs: 3, lr: 1e-7}]"
CURE = Edit("stages.all.lr", "multiply", 1e5, "nothing moves")
HARM = Edit("stages.all.lr", "multiply", 1e-6, "it is said to diverge")
SLOW = Finding("learning_rate_too_low", "RUN102", "error", "the rate is too low",
               prescription=(CURE,))  # fmt: skip
FAST = Finding("learning_rate_too_high", "RUN101", "error", "the rate is too high",
               prescription=(HARM,))  # fmt: skip
SHUFFLED = Finding("labels_shuffled", "RUN201", "error", "labels mean nothing",
                   advice=("Look at the labels.",))  # fmt: skip
HEALTHY = Finding("healthy", "RUN000", "info", "nothing wrong was found")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that learnt nothing, and one that did; tests copy them."""
    folder = tmp_path_factory.mktemp("made")
    photos = write_tiny(folder / "photos", classes=3, per_class=32, imgsz=36, seed=0)
    sets = ("data.val_share=0.3", "training.batch=8", "schedule.min_lr=0")
    found = {}
    for name, stages in (("sick", SICK), ("well", SICK.replace("1e-7", "1e-2"))):
        recipe = small_recipe(photos, folder / "runs", *sets, f"logging.name={name}", stages=stages)
        found[name] = pipeline.train(recipe).run.path
    return found


@pytest.fixture
def sick(made, tmp_path):
    return shutil.copytree(made["sick"], tmp_path / "runs" / "sick")


@pytest.fixture
def well(made, tmp_path):
    return shutil.copytree(made["well"], tmp_path / "runs" / "well")


@pytest.fixture
def doctor(monkeypatch):
    """A doctor who says what a test wants, of the n-th run that is brought before it."""
    real = diagnosing.diagnose

    def says(*answers: Finding) -> None:
        left = list(answers)

        def diagnose(path: Path) -> diagnosing.Diagnosis:
            finding = left.pop(0) if len(left) > 1 else left[0]
            return dataclasses.replace(real(path), report=Report((finding,), ("a", "b"), ()))

        monkeypatch.setattr(diagnosing, "diagnose", diagnose)

    return says


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (CHAIN, ".lock")
    }


def runs_beside(folder: Path) -> list[str]:
    return sorted(p.parent.name for p in folder.parent.glob("*/recipe.yaml"))


def test_what_cures_is_kept_and_everything_is_on_record(espalier, doctor, sick):
    doctor(SLOW, HEALTHY)
    before = contents(sick)
    answer = espalier("treat", sick, "--yes", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    treated = Path(found["kept"])
    assert treated.name == "sick-treated"
    assert found["ended"] == "healthy"
    assert found["paired"]["verdict"] == "better"
    assert found["paired"]["images"] == len(read_catalog(sick / "catalog.csv").in_split("val"))
    assert found["trials"][0]["score"] > found["score"] + 0.2
    assert RunDir(treated).recipe().stages[0].lr == pytest.approx(1e-2)
    assert contents(sick) == before
    record = json.loads((treated / RECORD).read_text())
    assert record["original"] == str(sick)
    assert record["changes"][0]["key"] == "stages.all.lr"
    lines = [json.loads(line) for line in (sick / CHAIN).read_text().splitlines()]
    assert [line.get("outcome") for line in lines] == ["better", None]
    assert lines[-1]["kept"] == str(treated)
    said = " ".join(answer.err.split())
    assert "stages.all.lr 1e-07 0.01 nothing moves" in said
    assert "a new run from the start, on the same split" in said
    parts = [
        {s.sample_id: s.split for s in read_catalog(run / "catalog.csv").samples}
        for run in (sick, treated)
    ]
    assert parts[0] == parts[1]


def test_a_healthy_run_is_left_alone(espalier, doctor, well):
    doctor(HEALTHY)
    before = contents(well)
    answer = espalier("treat", well, "--yes")
    assert answer.code == 0
    assert "nothing wrong is left to treat" in " ".join(answer.out.split())
    assert contents(well) == before
    assert runs_beside(well) == ["well"]
    assert not (well / CHAIN).exists()


def test_what_no_recipe_mends_is_said_and_nothing_is_trained(espalier, doctor, sick):
    doctor(SHUFFLED)
    answer = espalier("treat", sick, "--yes")
    assert answer.code == 0
    assert "for you to do: Labels mean nothing" in answer.out
    assert "Look at the labels." in answer.out
    assert runs_beside(sick) == ["sick"]


def test_what_does_harm_is_not_kept_and_not_tried_again(doctor, well):
    doctor(FAST)
    course = package.treat_run(well)
    assert course.kept.path == course.original.path == well
    assert [trial.outcome for trial in course.trials] == ["worse"]
    assert course.ended == "out of ideas"
    assert "did not help" in course.last.treatment.left_out[0].reason
    assert (well.parent / "well-treated" / "checkpoints" / "best.pt").exists()


def test_a_treatment_that_dies_leaves_what_was(espalier, doctor, sick):
    doctor(dataclasses.replace(FAST, prescription=(dataclasses.replace(HARM, value=1e37),)))
    answer = espalier("treat", sick, "--yes")
    assert answer.code == 0
    said = " ".join((answer.err + answer.out).split())
    assert "sick-treated: no score (the loss is" in said
    assert f"no score: the original stays, {sick}" in said
    assert "out of ideas" in said
    assert json.loads((sick.parent / "sick-treated" / RECORD).read_text())["outcome"] == "no score"


def test_without_a_terminal_and_without_a_yes_it_only_shows(espalier, doctor, sick, monkeypatch):
    doctor(SLOW)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    answer = espalier("treat", sick)
    assert answer.code == 2
    assert "stages.all.lr" in answer.err
    assert f"espalier treat {sick} --yes" in answer.err
    assert runs_beside(sick) == ["sick"]


def test_at_a_terminal_it_asks_and_a_no_changes_nothing(espalier, doctor, sick, monkeypatch):
    unsafe = Edit("training.imgsz", "set", 48, "more to see", safe=False)
    doctor(dataclasses.replace(SLOW, prescription=(CURE, unsafe)))
    asked: list[str] = []

    def confirm(question: str, err: bool) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    answer = espalier("treat", sick)
    assert answer.code == 0
    assert len(asked) == 2
    assert "training.imgsz = 48" in asked[1]
    assert "nothing more was agreed to" in " ".join(answer.out.split())
    assert runs_beside(sick) == ["sick"]


def test_a_yes_is_no_yes_to_what_is_not_safe(doctor, sick):
    doctor(dataclasses.replace(SLOW, prescription=(dataclasses.replace(CURE, safe=False),)))
    assert package.treat_run(sick).ended == "declined"
    assert runs_beside(sick) == ["sick"]


def test_nothing_is_begun_that_would_not_end_in_time(doctor, sick):
    doctor(SLOW)
    course = package.treat_run(sick, budget=0.01)
    assert course.ended == "out of budget"
    assert course.trials == ()


def test_with_time_left_other_seeds_say_how_much_noise_there_is(doctor, sick):
    doctor(SLOW, HEALTHY)
    course = package.treat_run(sick, budget=600)
    assert len(course.repeats) == 2
    assert course.paired is not None
    assert course.paired.seeds == 3
    assert [trial.outcome for trial in course.repeats] == ["repeat", "repeat"]
    assert len({trial.run.recipe().training.seed for trial in course.repeats}) == 2
    images = {s.sample_id for s in read_catalog(sick / "catalog.csv").in_split("val")}
    for trial in course.repeats:
        there = read_catalog(trial.run.catalog_file).in_split("val")
        assert {sample.sample_id for sample in there} == images


def test_a_run_without_weights_gets_its_first_score_by_changes_that_were_wanted(doctor, sick):
    doctor(dataclasses.replace(SLOW, prescription=(dataclasses.replace(CURE, safe=False),)))
    shutil.rmtree(sick / "predictions")
    (sick / "checkpoints" / "best.pt").unlink()
    course = package.treat_run(sick, unsafe=True, rounds=1)
    assert course.score is None
    assert course.ended == "out of rounds"
    assert [trial.outcome for trial in course.trials] == ["first score"]
    assert course.kept.name == "sick-treated"


class CtrlC(Unwatched):
    """Presses Ctrl-C after the first step."""

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_in_good_order_and_the_original_stays(doctor, sick):
    doctor(SLOW)
    before = contents(sick)
    with pytest.raises(TrainingInterrupted, match="stays as it is") as stopped:
        package.treat_run(sick, watch=CtrlC())
    assert stopped.value.exit_code == 130
    assert "--resume" in stopped.value.hint
    assert contents(sick) == before
    (line,) = [json.loads(line) for line in (sick / CHAIN).read_text().splitlines()]
    assert line["outcome"] == "stopped"


def test_runs_of_other_tools_cannot_be_trained_again(espalier, tmp_path):
    log = tmp_path / "log.csv"
    rows = "".join(
        f"{e},{0.5 + e / 20},{1 / (e + 1)},{0.4 + e / 20},{1.2 / (e + 1)}\n" for e in range(6)
    )
    log.write_text("epoch,accuracy,loss,val_accuracy,val_loss\n" + rows)
    answer = espalier("treat", log, "--yes")
    assert answer.code == 2
    assert "only Espalier's own runs can be trained again" in answer.err
    assert espalier("treat", tmp_path / "nowhere").code == 2
