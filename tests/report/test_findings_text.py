"""A report of rules as lines for a terminal: the verdict first, then what to do, with examples."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from espalier.findings import Case, Edit, Finding, Report, Skipped
from espalier.report.findings_text import (
    concerned_text,
    edit_text,
    findings_lines,
    verdict_text,
)


def finding(severity: str = "warning", **changes: object) -> Finding:
    values: dict[str, object] = {
        "rule": "label_suspects",
        "code": "AUD030",
        "severity": severity,
        "cause": "12 of 3,319 images are probably labelled wrongly.",
        "advice": ("Look at each.", "Accept or refuse its row in corrections.csv."),
    }
    return Finding(**(values | changes))  # type: ignore[arg-type]


def report(*findings: Finding, **changes: object) -> Report:
    values: dict[str, object] = {"clear": (), "skipped": ()}
    return Report(findings, **(values | changes))  # type: ignore[arg-type]


def test_the_verdict_comes_first_and_counts_each_severity() -> None:
    found = report(
        finding("error"),
        finding("warning"),
        finding("warning"),
        finding("info"),
        clear=("constant_images", "wrong_extension"),
        skipped=(Skipped("split_drift", "fewer than 50 images in test"),),
    )
    assert findings_lines(found)[0] == verdict_text(found)
    assert verdict_text(found) == (
        "1 error, 2 warnings, 1 note; 2 checks in order, 1 could not judge"
    )


def test_each_finding_says_what_and_then_what_to_do() -> None:
    lines = findings_lines(report(finding("error")))
    assert lines[2].startswith("ERROR    12 of 3,319 images")
    assert "[AUD030]" in " ".join(lines)
    assert "         do: Look at each." in lines


def test_examples_are_the_strongest_cases_with_their_paths() -> None:
    cases = tuple(Case((f"id{i}",), f"looks like {i}", score=i / 10) for i in range(9))
    lines = findings_lines(report(finding(cases=cases)), paths={"id8": "photos/a b/8.jpg"}, limit=2)
    examples = [line.strip() for line in lines if line.strip().startswith("- ")]
    assert examples == ["- photos/a b/8.jpg: looks like 8", "- id7: looks like 7"]
    assert "         and 7 more" in lines


def test_images_that_belong_together_stand_below_each_other() -> None:
    pair = Case(("a", "b"), "crop of 81 %")
    group = Case(tuple("cdefg"), "one series")
    lines = findings_lines(report(finding(cases=(pair, group))), paths={"a": "x/1.jpg"})
    text = "\n".join(lines)
    assert "- crop of 81 %\n             x/1.jpg\n             b" in text
    assert "- one series\n             c\n             d\n             e" in text
    assert "and 2 more images" in text


def test_classes_recipe_changes_and_consequences_are_named() -> None:
    found = finding(
        cases=(Case((), "2 images", label="Maize"),),
        prescription=(Edit("stages.head.lr", "multiply", 0.1, "the loss rises"),),
        consequences=("overfitting_early", "low_recall"),
    )
    text = "\n".join(findings_lines(report(found)))
    assert "- Maize: 2 images" in text
    assert "recipe: stages.head.lr x 0.1 (the loss rises)" in text
    assert "from this follows: overfitting early, low recall" in text


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (Edit("a.b", "set", True, ""), "a.b = True"),
        (Edit("a.b", "unset", None, "not needed"), "a.b back to its default (not needed)"),
    ],
)
def test_an_edit_reads_as_a_sentence(edit: Edit, text: str) -> None:
    assert edit_text(edit) == text


def test_what_was_in_order_and_what_was_not_judged_ends_it() -> None:
    lines = findings_lines(
        report(
            clear=("constant_images", "too_small"),
            skipped=(Skipped("near_duplicates", "not asked for"),),
            notes=("no group was given",),
        )
    )
    assert lines == [
        "nothing found; 2 checks in order, 1 could not judge",
        "in order: constant images, too small",
        "not judged:",
        "  near duplicates (not asked for)",
        "no group was given",
    ]


def test_lines_fit_a_terminal_and_paths_stay_whole() -> None:
    long = "/photos/" + "d" * 100 + "/1.jpg"
    wordy = finding(
        cause="many words " * 30,
        advice=("do this or that " * 20, "写真を見てください " * 20),
        cases=(Case(("a",), "text " * 40), Case(("a", "b"), "pair")),
    )
    names = tuple(f"rule_number_{i}" for i in range(40))
    lines = findings_lines(report(wordy, clear=names), paths={"a": long})
    too_wide = [line for line in lines if cell_len(line) > 80]
    assert too_wide
    assert all(long in line and len(line.split()) <= 2 for line in too_wide)


def test_names_cannot_write_over_the_terminal() -> None:
    lines = findings_lines(
        report(finding(cases=(Case(("a",), "x\x1b[2Jy\nz"),))), paths={"a": "p\u202egpj.exe\n"}
    )
    text = "\n".join(lines)
    assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize(
    ("cases", "text"),
    [
        ((), ""),
        ((Case(("a",), ""), Case(("b",), "")), "2 images"),
        ((Case(("a", "b"), ""), Case(("c", "a"), "")), "2 pairs (3 images)"),
        ((Case(("a", "b", "c"), ""),), "1 group (3 images)"),
        ((Case((), "", label="x"), Case((), "", label="y")), "2 classes"),
    ],
)
def test_how_much_a_finding_is_about(cases: tuple[Case, ...], text: str) -> None:
    assert concerned_text(finding(cases=cases)) == text
