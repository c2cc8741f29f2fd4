"""A diagnosis in words and as report.html: in order, safe, whole, and shown by a browser."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from espalier.evaluate.evaluation import evaluate_predictions
from espalier.findings import Edit, Evidence, Finding, Report, Skipped
from espalier.records import Predictions
from espalier.report.diagnosis_curves import MOST_POINTS, draw_panel, panels_of
from espalier.report.diagnosis_page import write_page
from espalier.report.diagnosis_places import epoch_of_step, place_of
from espalier.report.diagnosis_text import (
    alarm_text,
    cause_lines,
    causes_of,
    diagnosis_lines,
    diagnosis_verdict,
    edits_text,
    following,
    loop_text,
    short_lines,
)
from espalier.run_record import DataFacts, EpochSigns, RunFacts, RunRecord, StepSigns
from html_pages import Page

NASTY = '<script>alert(1)</script>"'
RATE = Finding(
    "learning_rate_too_high", "RUN101", "error", "the learning rate is too high",
    (Evidence("training loss", 7.25, 2.48, "nats", "epoch 3"), Evidence("peak rate", 1.0)),
    0.93, ("Divide all rates by 100.",),
    (Edit("stages.a.lr", "multiply", 0.01, "it diverges"),
     Edit("stages.b.lr", "multiply", 0.01, "it diverges")),
    consequences=("dead_units",),
)  # fmt: skip
SCORE = Finding(
    "overfitting", "RUN230", "warning", "validation falls behind",
    (Evidence("val accuracy", 0.6, 0.9, "", "epochs 4 to 6"),), advice=("Augment more.",),
)  # fmt: skip
DEAD = Finding(
    "dead_units", "RUN201", "warning", "units are dead", consequences=("saturated_units",)
)
SATURATED = Finding("saturated_units", "RUN202", "info", f"units saturate {NASTY}")
SICK = Report(
    (RATE, SCORE, DEAD, SATURATED),
    ("broken_pixels", "wrong_loss"),
    (Skipped("few_images_drawn", "needs <images>"), Skipped("a", "needs b"),
     Skipped("c", "needs b")),
    ("rows were left out",),
)  # fmt: skip
HEALTHY = Report(
    (Finding("healthy", "RUN000", "info", "nothing wrong was found: 9 of 12 checks could judge",
             (Evidence("checks of numbers", 2, None, "of 3"),), 0.75, ("Take larger pictures.",)),),
    ("broken_pixels",), (),
)  # fmt: skip
REMARK = Finding(
    "validation_too_small", "RUN022", "info", "Validation is small.",
    (Evidence("validation images", 60),), 0.9, ("Hold out more.",),
)  # fmt: skip
FAMILIES = {"numbers": ["broken_pixels"], "settings": ["wrong_loss"], "data": []}


def record(epochs: int = 6, **changes: object) -> RunRecord:
    rows = tuple(
        EpochSigns(
            e, 10 * e, stage="a" if e < 3 else "b", learning_rate=1e-3, train_loss=3.0 / e,
            clean_loss=2.5 / e, val_loss=math.inf if e == 2 else 2.8 / e, val_accuracy=1 - 1 / e,
            val_macro_f1=0.9 - 0.8 / e, mean_grad_norm=2.0, dead={"stem": 0.1},
        )
        for e in range(1, epochs + 1)
    )  # fmt: skip
    steps = tuple(StepSigns(s, loss=3.0 / s, grad_norm=1.0) for s in range(1, 10 * epochs, 3))
    values: dict[str, object] = {
        "path": f"runs/{NASTY}", "tool": "espalier", "epochs": rows, "steps": steps,
        "confusion": ((5, 5), (1, 9)), "facts": RunFacts(classes=("thyme", NASTY)),
        "ended": "finished",
    }  # fmt: skip
    return RunRecord(**(values | changes))  # type: ignore[arg-type]


def write(tmp_path: Path, report: Report = SICK, run: RunRecord | None = None) -> Page:
    path = write_page(
        run or record(), report, tmp_path / "report.html",
        families=FAMILIES, commands={RATE.rule: "espalier train --set stages.a.lr=1e-05"},
    )  # fmt: skip
    return Page(path.read_text(encoding="utf-8"))


def lines(report: Report, **options: bool) -> list[str]:
    return diagnosis_lines(
        report, about="runs/a", families=FAMILIES,
        commands={RATE.rule: "espalier train --set stages.a.lr=1e-05"}, **options,
    )  # fmt: skip


def test_what_follows_from_a_cause_is_no_cause() -> None:
    assert [f.rule for f in causes_of(SICK)] == ["learning_rate_too_high", "overfitting"]
    assert [f.rule for f in following(SICK, RATE)] == ["dead_units", "saturated_units"]
    assert diagnosis_verdict(SICK) == (
        "something is wrong: 2 causes, 2 findings follow from them; "
        "2 checks in order, 3 could not judge"
    )


def test_verdict_cause_and_treatment_come_before_all_else() -> None:
    said = lines(SICK)
    text = "\n".join(said)
    order = [
        "runs/a", "something is wrong", "ERROR     The learning rate is too high [RUN101]",
        "do this   Divide all rates by 100.",
        "in the recipe: stages.a.lr x 0.01, stages.b.lr x 0.01 (it",
        "          espalier train --set stages.a.lr=1e-05",
        "because   training loss: 7.25 nats, compared with 2.48 (epoch 3)",
        "how sure: 93 %",
        "so also   Units are dead [RUN201]", "warning   Validation falls behind [RUN230]",
        "in order: numbers (1), settings (1)", "not judged: 3 checks: needs b; needs <images>",
        "rows were left out",
    ]  # fmt: skip
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert max(map(len, said)) <= 80


def test_all_names_each_check_and_one_reason_once() -> None:
    text = "\n".join(lines(SICK, everything=True))
    assert "  numbers: broken pixels" in text
    assert "  a, c (needs b)\n  few images drawn (needs <images>)" in text


def test_a_remark_beside_what_is_wrong_is_one_line_unless_all_is_asked() -> None:
    remark = replace(REMARK, rule="plateau")
    sick = replace(SICK, findings=(*SICK.findings, remark))
    text = "\n".join(lines(sick))
    assert "note      Validation is small. [RUN022]" in text
    assert "Hold out more." not in text
    everything = "\n".join(lines(sick, everything=True))
    assert "Hold out more." in everything
    assert "validation images: 60" in everything
    assert "Hold out more." in "\n".join(lines(replace(sick, findings=(remark,))))


def test_how_finely_scores_can_be_told_apart_is_one_line_unless_all_is_asked() -> None:
    healthy = replace(HEALTHY, findings=(*HEALTHY.findings, REMARK))
    assert "Hold out more." not in "\n".join(lines(healthy))
    assert "Hold out more." in "\n".join(lines(healthy, everything=True))
    short = short_lines(healthy, about="runs/a", commands={})
    assert short[-1] == "note      Validation is small. [RUN022]"


def test_each_check_is_counted_once() -> None:
    counted = "1 check in order, 1 with a remark"
    healthy = replace(HEALTHY, findings=(*HEALTHY.findings, REMARK))
    assert diagnosis_verdict(healthy) == f"nothing wrong was found: {counted}"
    two = replace(HEALTHY, findings=(*healthy.findings, replace(REMARK, rule="plateau")))
    assert diagnosis_verdict(two).endswith("1 check in order, 2 with remarks")
    sick = replace(SICK, findings=(*SICK.findings, REMARK))
    assert diagnosis_verdict(sick).endswith("2 checks in order, 1 with a remark, 3 could not judge")


def test_a_run_without_a_recipe_hears_of_one_only_where_words_are_wanting(tmp_path: Path) -> None:
    edits = "recipe: stages.a.lr"
    assert f"in the {edits}" in "\n".join(cause_lines(SICK, RATE, "espalier train"))
    # Of our own run, where a command alone cannot do it.
    assert f"in the {edits}" in "\n".join(cause_lines(SICK, RATE, ""))
    assert "recipe" not in "\n".join(cause_lines(SICK, RATE))
    silent = "\n".join(cause_lines(SICK, replace(RATE, advice=())))
    assert "in a recipe of Espalier's: stages.a.lr" in silent
    path = write_page(record(), SICK, tmp_path / "page.html", families=FAMILIES, commands={})
    assert "stages.a.lr" not in path.read_text(encoding="utf-8")


def test_a_loop_of_ones_own_is_told_what_more_to_give() -> None:
    bare = [replace(epoch, clean_accuracy=math.nan) for epoch in record().epochs]
    own = replace(record(), tool="own loop", epochs=tuple(bare))
    assert loop_text(own) == (
        "for more checks, give Vitals train_loader=, val_loader=, probe=, "
        'facts={"pretrained": True or False}'
    )
    # A loader whose pixels could not be read was given all the same.
    data = DataFacts(train_images=60, val_images=20)
    told = replace(own, data=data, facts=RunFacts(pretrained=False))
    assert loop_text(told) == "for more checks, give Vitals probe="
    probed = tuple(replace(epoch, clean_accuracy=0.5) for epoch in bare)
    assert loop_text(replace(told, epochs=probed)) == ""
    assert loop_text(replace(own, tool="keras")) == ""


def test_the_short_text_has_no_evidence() -> None:
    text = "\n".join(short_lines(SICK, about="runs/a", commands={}))
    assert "do this" in text
    assert "because" not in text
    assert "not judged" not in text


def test_health_is_said_with_what_was_looked_at_and_what_next() -> None:
    text = "\n".join(lines(HEALTHY))
    assert "healthy   Nothing wrong was found" in text
    assert "next      Take larger pictures." in text
    assert "looked at checks of numbers: 2 of 3" in text
    assert "because" not in text
    assert "right in" not in text


def test_silence_for_want_of_signs_is_said_as_such() -> None:
    silent = Report((), ("a",), ())
    assert diagnosis_verdict(silent) == (
        "too little is on record to call it healthy: 1 check in order"
    )
    assert lines(silent)[2].startswith("do this   Record more of the next run")


def test_a_finding_of_a_run_that_goes_on_is_short() -> None:
    assert alarm_text(RATE) == (
        "ERROR: The learning rate is too high [RUN101]\n  do this: Divide all rates by 100."
    )


def test_changes_of_one_reason_stand_together() -> None:
    other = Edit("optimizer.clip_norm", "set", 1.0, "")
    found = replace(RATE, prescription=(*RATE.prescription, other))
    assert edits_text(found) == [
        "stages.a.lr x 0.01, stages.b.lr x 0.01 (it diverges)", "optimizer.clip_norm = 1.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "curve", "start", "end", "text"),
    [
        (Evidence("validation loss", 1, where="epoch 4"), "loss", 4, 4, "epoch 4"),
        (Evidence("macro-F1", 1, where="epochs 2 to 5"), "score", 2, 5, "epochs 2 to 5"),
        (Evidence("learning rate", 1, where="step 15"), "rate", 1.5, 1.5, "step 15"),
        (Evidence("gradient norm", 1, where="stage b"), "gradient", 3, 6, "stage b"),
        (Evidence("dead channels", 1, where="stem, epoch 2"), "state", 2, 2, "epoch 2"),
        (Evidence("training loss", 1), "loss", 0, 6, ""),
    ],
)
def test_a_finding_lies_where_its_evidence_says(
    entry: Evidence, curve: str, start: float, end: float, text: str
) -> None:
    place = place_of(record(), Finding("x", "", "warning", "It is.", (entry,)), 7)
    assert place is not None
    assert (place.number, place.curve, place.text) == (7, curve, text)
    assert (place.start, place.end) == pytest.approx((start, end))


def test_a_finding_about_settings_lies_on_no_curve() -> None:
    outputs = Evidence("outputs", 10, 12, "classes")
    assert place_of(record(), Finding("x", "", "error", "It is.", (outputs,)), 1) is None


def test_steps_lie_between_the_ends_of_epochs_of_any_length() -> None:
    run = RunRecord("a", "t", (EpochSigns(1, 10), EpochSigns(2, 30)))
    assert epoch_of_step(run, [0, 5, 10, 20, 30, 40]) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    bare = RunRecord("a", "t", (EpochSigns(1),))
    assert epoch_of_step(bare, [1]) == []
    assert epoch_of_step(replace(bare, facts=RunFacts(steps_per_epoch=4)), [2]) == [0.5]


def test_panels_are_those_that_have_figures() -> None:
    assert [p.key for p in panels_of(record())] == ["loss", "score", "rate", "gradient", "state"]
    bare = RunRecord("a", "t", (EpochSigns(1, val_loss=2.0), EpochSigns(2, val_loss=1.0)))
    assert [p.key for p in panels_of(bare)] == ["loss"]
    assert panels_of(RunRecord("a", "t", ())) == []


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0, 1e-300, 1e300, -5.0])
def test_no_value_breaks_a_curve(value: float) -> None:
    rows = (EpochSigns(1, val_loss=1.0, mean_grad_norm=1.0, learning_rate=1.0),
            EpochSigns(2, val_loss=value, mean_grad_norm=value, learning_rate=value))  # fmt: skip
    for panel in panels_of(RunRecord("a", "t", rows)):
        drawn = draw_panel(panel, [], 2.0)
        path = re.findall(r' d="([^"]*)"', drawn)
        assert "nan" not in "".join(path)
        assert "inf" not in "".join(path)


@pytest.mark.parametrize("value", [5e-324, 1.7e308, -1.7e308])
def test_a_single_value_at_the_bounds_of_numbers_is_drawn(value: float) -> None:
    for panel in panels_of(RunRecord("a", "t", (EpochSigns(1, val_loss=value),))):
        assert "circle" in draw_panel(panel, [], 1.0)


def test_a_legend_that_is_too_long_counts_the_rest() -> None:
    dead = {f"encoder.layers.{part}": 0.1 * part for part in range(1, 9)}
    (panel,) = panels_of(RunRecord("a", "t", (EpochSigns(1, dead=dead),)))
    drawn = draw_panel(panel, [], 1.0)
    assert "encoder.layers.3<" in re.sub(r"<title>.*?</title>", "", drawn)
    assert "encoder.layers.8<" not in re.sub(r"<title>.*?</title>", "", drawn)
    assert "more</text>" in drawn


def test_a_spike_survives_the_thinning_of_a_million_steps() -> None:
    steps = tuple(StepSigns(s, loss=50.0 if s == 123_457 else 1.0) for s in range(1, 200_001))
    run = RunRecord("a", "t", (EpochSigns(1, 200_000),), steps=steps)
    line = panels_of(run)[0].series[0]
    assert len(line.values) <= MOST_POINTS
    assert max(line.values) == 50.0


def test_the_page_comes_in_order_and_skips_no_heading(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert [text for level, text in page.headings if level == 2] == [
        "What was found", "Curves, with the findings on them", "Scores", "Looked at and in order",
        "What could not be judged, and why", "How the run was read",
    ]  # fmt: skip
    levels = [level for level, _ in page.headings]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    first = page.text[page.text.index("The learning rate is too high") :]
    order = ["Do this", "Divide all rates", "stages.a.lr x 0.01", "espalier train --set",
             "Evidence", "7.25 nats", "Seen here: epoch 3", "What follows from it",
             "Units are dead"]  # fmt: skip
    places = [first.index(words) for words in order]
    assert places == sorted(places)


def test_findings_are_drawn_on_their_curves(tmp_path: Path) -> None:
    page = write(tmp_path)
    labels = [label for label in page.attributes("svg", "aria-label") if "finding" in label]
    assert sum("finding 1: epoch 3" in label for label in labels) == 2
    assert sum("finding 2: epochs 4 to 6" in label for label in labels) == 2
    ids = {str(found["id"]) for _, found in page.tags if "id" in found}
    inner = [href[1:] for href in page.attributes("a", "href")]
    assert set(inner) <= ids
    assert len(ids) == sum("id" in found for _, found in page.tags)


def test_nothing_is_fetched_nothing_runs_and_names_stay_names(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not any(key.startswith("on") for _, found in page.tags for key in found)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)
    assert page.text.count(NASTY) >= 3


def test_classes_stand_worst_first_with_and_without_predictions(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert page.text.index("thyme0.625") < page.text.index(f"{NASTY}0.750")
    predictions = Predictions(
        ("a", "b", "c"), ("a", "b", "c"), np.array([0, 1, 1]),
        np.array([[2, 0], [0, 2], [2, 0]], dtype=np.float32), ("sage", "mint"),
    )  # fmt: skip
    judged = evaluate_predictions(predictions, "test")
    path = write_page(
        record(), SICK, tmp_path / "judged.html", families=FAMILIES, commands={}, judged=[judged]
    )
    text = Page(path.read_text(encoding="utf-8")).text
    assert "test (3 images)" in text
    assert re.search(r"macro-F1.*0\.667 \[0\.\d{3}, [01]\.\d{3}\]", text)
    assert "thyme" not in text


def test_a_healthy_and_an_empty_run_have_a_page_too(tmp_path: Path) -> None:
    text = write(tmp_path, HEALTHY).text
    assert "What would still improve it most" in text
    assert "Something is wrong" not in text
    page = write(tmp_path, Report((), (), ()), RunRecord("a", "keras", ()))
    assert "No figure of any epoch is on record." in page.text
    assert "keras, 0 epochs" in page.text


@pytest.mark.parametrize(("scheme", "light"), [(1, True), (0, False)])
def test_a_browser_shows_curves_and_cuts_nothing_off(
    tmp_path: Path, screenshot: Callable[..., npt.NDArray[np.uint8]], scheme: int, light: bool
) -> None:
    write(tmp_path)
    seen = screenshot(
        tmp_path / "report.html", "--window-size=900,3000",
        f"--blink-settings=preferredColorScheme={scheme}",
    )  # fmt: skip
    paper = seen[5, 5].mean()
    assert (paper > 250) if light else (paper < 40)
    assert (seen[:, -8:] == seen[5, 5]).all()
    # The line of validation, in the colour of its legend.
    orange = (np.abs(seen.astype(int) - (0xD5, 0x5E, 0x00)) < 24).all(axis=2)
    assert orange.sum() > 500
