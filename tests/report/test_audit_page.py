"""audit.html: one whole file, in the right order, safe with any name, and shown by a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFilter

from espalier.audited import Audited, Embedded, Look
from espalier.findings import Case, Correction, Edit, Evidence, Finding, Report, Skipped
from espalier.records import Catalog, Sample
from espalier.report.audit_findings import number_text
from espalier.report.audit_page import write_page
from espalier.report.audit_pictures import draw_classes
from espalier.report.markup import element, escaped, joined
from html_pages import Page

NASTY = (
    '<script>alert(1)</script>"',
    "a' onerror='x",
    "🍎 яблоко",
    "\u202egnp.exe",
    "تفاحة",
    "&amp;",
)
MAGENTA = (255, 0, 255)


def sample(index: int, **changes: object) -> Sample:
    label = NASTY[index % len(NASTY)]
    values: dict[str, object] = {
        "sample_id": f"id{index}",
        "path": f"/photos/{label}/{index}.jpg",
        "label": label,
        "split": ("train", "val", "test")[index % 3],
        "width": 300 + index,
        "height": 200,
    }
    return Sample(**(values | changes))  # type: ignore[arg-type]


def audited(count: int = 12, **changes: object) -> Audited:
    broken = sample(99, status="unreadable", reason="truncated at 12 kB", width=0, height=0)
    samples = (*(sample(i) for i in range(count) if i != 99), broken)
    looks = {s.sample_id: Look("JPEG", 1, 0.5, 0.2, 0.6, 0.1) for s in samples[:-1]}
    values: dict[str, object] = {
        "catalog": Catalog(samples, tuple(sorted(NASTY)), "/photos", ("a note of the catalog",)),
        "looks": looks,
        "unknown": {"embedded": "there are no weights"},
    }
    return Audited(**(values | changes))  # type: ignore[arg-type]


def report() -> Report:
    pair = Case(("id0", "id3"), "crop of 81 %", 0.9, (Correction("id3", "drop", "", "copy"),))
    suspect = Case(("id1",), "looks like <b>", 0.8, (Correction("id1", "relabel", NASTY[0], "x"),))
    findings = (
        Finding("leaked_copies", "AUD012", "error", "1 image is in train & test.",
                (Evidence("copies", 1, 0), Evidence("share", 8.3333, 1.0, "%")),
                0.97, ("Leave it out.",), (), (pair,)),
        Finding("label_suspects", "AUD030", "warning", "1 label is suspect.", (), 0.7,
                ("Look at it.",), (), (suspect,)),
        Finding("unreadable", "AUD001", "warning", "1 file cannot be read.", (), 1.0,
                ("Save it again.",), (), (Case(("id99",), "truncated at 12 kB"),)),
        Finding("imbalance", "AUD020", "info", "Classes differ.", (), 1.0, ("Weigh them.",),
                (Edit("class_weighting.strategy", "set", "sqrt", "2 : 1"),),
                (Case((), "2 images", label=NASTY[0]),)),
    )  # fmt: skip
    skipped = (Skipped("split_drift", "fewer than 50 <images>"),)
    return Report(findings, ("constant_images",), skipped, ("a note",))


def magenta(sample: Sample) -> npt.NDArray[np.uint8]:
    return np.full((120, 160, 3), MAGENTA, dtype=np.uint8)


def written(
    tmp_path: Path,
    found: Report | None = None,
    subject: Audited | None = None,
    pictures: Mapping[str, Path] | None = None,
) -> Page:
    path = write_page(
        subject or audited(), found or report(), pictures or {}, magenta, tmp_path / "audit.html"
    )
    return Page(path.read_text(encoding="utf-8"))


def test_verdict_findings_data_and_what_was_in_order_come_in_this_order(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert [text for level, text in page.headings if level < 3] == [
        "Audit of /photos",
        "What was found",
        "The findings, one by one",
        "The data",
        "Map of the images",
        "How hard each class is",
        "Looked at and in order",
        "What could not be judged, and why",
        "How the data was read",
    ]
    assert page.text.index("Something is wrong") < page.text.index("What was found")
    causes = [text for level, text in page.headings if level == 3]
    assert causes == [finding.cause for finding in report().findings]


def test_headings_skip_no_level(tmp_path: Path) -> None:
    levels = [level for level, _ in written(tmp_path).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_link_leads_somewhere_and_every_picture_has_words(tmp_path: Path) -> None:
    page = written(tmp_path)
    places = [value for _, found in page.tags if (value := found.get("id"))]
    assert len(places) == len(set(places))
    inner = [href[1:] for href in page.attributes("a", "href") if href.startswith("#")]
    assert set(inner) <= set(places)
    images = [found for tag, found in page.tags if tag == "img"]
    assert images
    assert all(found["alt"] for found in images)


def test_nothing_is_fetched_and_nothing_runs(tmp_path: Path) -> None:
    page = written(tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert all(src.startswith("data:image/") for src in page.attributes("img", "src"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not any(key.startswith("on") for _, found in page.tags for key in found)
    assert not re.search(r"https?://|url\(|@import", text)
    assert all(href[:1] == "#" or href[:8] == "file:///" for href in page.attributes("a", "href"))


def test_names_are_shown_as_they_are_and_cannot_become_markup(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "<script>alert(1)</script>" in page.text
    assert "a' onerror='x" in page.text
    assert "🍎 яблоко" in page.text
    assert "تفاحة" in page.text
    assert "&amp;" in page.text
    assert "\u202e" not in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_evidence_advice_and_suggestions_stand_with_their_finding(tmp_path: Path) -> None:
    page = written(tmp_path).text
    # A constant of a rule is no measurement.
    assert "of all cases" not in page
    text = page[page.index("The findings, one by one") :]
    for words in (
        "copies",
        "8.33 %",
        "Leave it out.",
        "crop of 81 %",
        "leave out",
        f"relabel: {NASTY[0]}",
        "class_weighting.strategy = sqrt (2 : 1)",
        "truncated at 12 kB",
        "there are no weights",
        "constant images",
        "fewer than 50 <images>",
        "a note of the catalog",
    ):
        assert words in text


def test_pairs_are_one_case_with_two_pictures(tmp_path: Path) -> None:
    written(tmp_path)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    cases = re.findall(r'<li class="case">.*?</li>', text)
    assert [case.count("<figure>") for case in cases] == [2, 1, 1]
    assert [case.count("<img") for case in cases] == [2, 1, 0]


def test_pictures_are_within_the_page(tmp_path: Path) -> None:
    drawn = draw_classes({"train": {"a": 3, "b": 70}}, tmp_path / "classes.png")
    page = written(tmp_path, pictures={"classes": drawn, "map": drawn})
    sources = page.attributes("img", "src")
    assert sum(source.startswith("data:image/png") for source in sources) == 2
    assert (tmp_path / "audit.html").stat().st_size > 2 * drawn.stat().st_size


def test_clean_data_has_a_page_too(tmp_path: Path) -> None:
    page = written(tmp_path, Report((), ("constant_images",), ()), audited(0))
    assert "Nothing was found" in page.text
    assert "All checks could judge." in page.text
    inner = [href[1:] for href in page.attributes("a", "href") if href.startswith("#")]
    assert set(inner) <= {found.get("id") for _, found in page.tags}


def test_hard_classes_stand_in_a_table(tmp_path: Path) -> None:
    labels = np.array([0, 0, 1, 1], dtype=np.int64)
    embedded = Embedded(
        "made-up",
        ("id0", "id1", "id2", "id3"),
        np.zeros((4, 2), dtype=np.float32),
        labels,
        np.eye(6)[[0, 1, 1, 1]],
        np.ones(4, dtype=np.bool_),
    )
    text = written(tmp_path, subject=audited(embedded=embedded, unknown={})).text
    assert "0.500 [0.095, 0.905]" in text
    assert "There is no map" in text


def photograph(sample: Sample) -> npt.NDArray[np.uint8]:
    """Noise as fine as what a lens leaves of it."""
    rng = np.random.default_rng(int(sample.sample_id[2:]))
    noise = Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8))
    return np.asarray(noise.filter(ImageFilter.GaussianBlur(1.0)))


def test_many_findings_with_many_cases_stay_below_five_megabytes(tmp_path: Path) -> None:
    cases = tuple(Case((f"id{i}", f"id{i + 1}"), f"pair {i}", i) for i in range(600))
    findings = tuple(
        Finding(f"rule_{n}", f"AUD{n:03}", "warning", f"Cause {n}.", cases=cases) for n in range(20)
    )
    path = write_page(
        audited(700), Report(findings, (), ()), {}, photograph, tmp_path / "audit.html"
    )
    assert 1e6 < path.stat().st_size < 5e6
    assert "more, by name" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234567, "", "1,234,567"),
        (6.9612, "%", "6.96 %"),
        (12345.678, "px", "12,346 px"),
        (0.000123, "", "0.000123"),
        ("mirrored", "", "mirrored"),
        (15 / 708, "share", "2.1 %"),
        (0.05, "share", "5 %"),
        (0.9871, "share", "98.7 %"),
        (1.0, "share", "100 %"),
        (0.00071, "share", "0.071 %"),
        (0.0162, "share of the labels", "1.6 % of the labels"),
        (float("nan"), "share", "nan %"),
        (float("nan"), "", "nan"),
        (float("inf"), "", "inf"),
    ],
)
def test_measured_values_read_well(value: float | str, unit: str, text: str) -> None:
    assert number_text(value, unit) == text


def test_elements_escape_text_and_attributes() -> None:
    made = element("p", "<b>", element("i", "x"), title='"&\n', class_="a", hidden=None)
    assert made == '<p title="&quot;&amp; " class="a">&lt;b&gt;<i>x</i></p>'
    assert joined("a<", escaped("b>")) == "a&lt;b&gt;"
    assert escaped("\x00\ud800") == "\ufffd\ufffd"


@pytest.mark.parametrize(("scheme", "light"), [(1, True), (0, False)])
def test_a_browser_shows_the_page(
    tmp_path: Path, screenshot: Callable[..., npt.NDArray[np.uint8]], scheme: int, light: bool
) -> None:
    written(tmp_path)
    seen = screenshot(
        tmp_path / "audit.html",
        "--window-size=1280,2600",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    thumbnails = (np.abs(seen.astype(int) - MAGENTA) < 24).all(axis=2)
    assert thumbnails.sum() == pytest.approx(3 * 160 * 120, rel=0.05)
    paper = seen[5, 5].mean()
    assert (paper > 250) if light else (paper < 40)
    # Nothing runs over the right edge.
    assert (seen[:, -8:] == seen[5, 5]).all()


def test_a_narrow_window_cuts_nothing_off(
    tmp_path: Path, screenshot: Callable[..., npt.NDArray[np.uint8]]
) -> None:
    written(tmp_path)
    seen = screenshot(tmp_path / "audit.html", "--window-size=520,5000")
    assert (seen[:, -6:] == seen[5, 5]).all()
