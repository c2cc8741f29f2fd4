"""Corrections: a table that survives every spreadsheet, and a catalog that follows what it says."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import odd_images
import pandas as pd
import pytest

from espalier.data.catalog import build_catalog, read_catalog, write_catalog
from espalier.data.correcting import accepted_moves, apply_corrections
from espalier.data.corrections import (
    COLUMNS,
    Corrections,
    read_corrections,
    write_corrections,
    write_quarantine,
)
from espalier.data.moves import split_around
from espalier.data.split import assign_splits
from espalier.data.spreadsheets import guarded, read_table, unguarded, write_table
from espalier.errors import DataError
from espalier.findings import Case, Correction, Finding, Report
from espalier.records import SPLITS, Catalog, Sample

FOLDER = "/data"


def one(name: str, label: str = "rust", **more: object) -> Sample:
    content = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Sample(content, f"{FOLDER}/{label}/{name}.png", label, **more)  # type: ignore[arg-type]


def some(counts: Mapping[str, int]) -> list[Sample]:
    return [one(f"{label}{i}", label) for label, count in counts.items() for i in range(count)]


def table_of(path: Path, *rows: str, header: str = "sample,path,action,value,accepted") -> Path:
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def rows_of(path: Path, *rows: str) -> Corrections:
    return read_corrections(table_of(path / "corrections.csv", *rows))


def applied(
    samples: Sequence[Sample], table: Corrections, **more: object
) -> tuple[dict[str, Sample], str]:
    """Samples by the stem of their path, and all notes as one text."""
    found, notes = apply_corrections(samples, table, folder=FOLDER, **more)  # type: ignore[arg-type]
    assert [(s.sample_id, s.path) for s in found] == [(s.sample_id, s.path) for s in samples]
    return {Path(s.path).stem: s for s in found}, "\n".join(notes)


def refused(samples: Sequence[Sample], table: Corrections, **more: object) -> DataError:
    with pytest.raises(DataError) as caught:
        applied(samples, table, **more)
    assert caught.value.hint
    return caught.value


def build(source: Path | str, **changes: object) -> Catalog:
    arguments: dict[str, object] = {
        "root": None, "classes": None, "val_share": 0.1, "test_share": 0.1, "group_by": None,
        "split_from": None, "seed": 0, "progress": None, **changes,
    }  # fmt: skip
    return build_catalog(str(source), **arguments)  # type: ignore[arg-type]


# --- cells that a spreadsheet would change ----------------------------------------------------

DANGEROUS = (
    '=HYPERLINK("http://x","y")', "+1", "-odd/x.jpg", "@home", "\t=1", " =1", "\uff1d1", "007",
    "1-2", "10:30", "12e4567890123456", "1234567890123456", "TRUE", "wahr", "5%", "'007",
    "'=x", "''a", "MAR1", "Sep 2", "1-Mar", "5 mai", "Jan-05", "$5", "5€", "(5)", "3 PM",
)  # fmt: skip
HARMLESS = (
    "rust/IMG_1.jpg",
    "healthy",
    "3d_print",
    "a=b",
    "0x1f",
    "12a4567890123456~2",
    "",
    "é",
    "march",
    "marble",
    "plate 3",
    "may",
)


@pytest.mark.parametrize("text", DANGEROUS)
def test_what_a_spreadsheet_would_change_is_written_behind_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


def test_any_text_comes_back_exactly(tmp_path: Path) -> None:
    draw = random.Random(0)
    signs = "=+-@'\"\t\r\n,; 019eE.%:/aäß葉\uff1d\udce9~"
    texts = ["".join(draw.choices(signs, k=draw.randrange(1, 9))) for _ in range(3000)]
    assert [unguarded(guarded(text)) for text in texts] == texts
    rows = [[*texts[i : i + 3], "end"] for i in range(0, 3000, 3)]
    write_table(tmp_path / "t.csv", ("a", "b", "c", "d"), rows)
    assert [cells for _, cells in read_table(tmp_path / "t.csv")[1]] == rows


def test_no_cell_of_a_written_table_starts_a_formula(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ("a",), [[text] for text in DANGEROUS])
    # Not our reader: what any other program sees.
    seen = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    assert all(cell.startswith("'") for cell in seen["a"])
    assert (tmp_path / "t.csv").read_bytes().startswith(codecs.BOM_UTF8)


# --- tables as people save them ---------------------------------------------------------------

ROWS = [
    ("sample", "path", "action", "value", "reason", "rule", "accepted"),
    ("aa", "Köln/a.jpg", "drop", "", "same as b; smaller", "exact_duplicates", "{yes}"),
    ("bb", "Köln/b.jpg", "relabel", "Grünspan", 'looks "green", not rusty', "suspects", "{yes}"),
    ("cc", "Köln/c.jpg", "move", "test", "", "leakage", "{no}"),
]


def saved(mark: str, quoting: int, end: str, yes: str, no: str, *, upper: bool = False) -> str:
    out = io.StringIO()
    table = csv.writer(out, delimiter=mark, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    for number, row in enumerate(ROWS):
        cells = [cell.replace("{yes}", yes).replace("{no}", no) for cell in row]
        table.writerow([cell.upper() for cell in cells] if upper and not number else cells)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (saved(",", csv.QUOTE_MINIMAL, "\n", "yes", "no"), "utf-8"),
        (saved(";", csv.QUOTE_MINIMAL, "\r\n", "ja", "nein"), "utf-8-sig"),
        (saved(";", csv.QUOTE_MINIMAL, "\r\n", "WAHR", "FALSCH"), "cp1252"),
        (saved("\t", csv.QUOTE_MINIMAL, "\r\n", "TRUE", "FALSE"), "utf-16"),
        (saved(",", csv.QUOTE_ALL, "\r\n", "x", ""), "utf-8-sig"),
        (saved("\t", csv.QUOTE_ALL, "\n", "1", "0", upper=True), "utf-8"),
        (saved(";", csv.QUOTE_ALL, "\r\n", " Yes ", "-") + ";;;;;;\r\n", "utf-8-sig"),
    ],
    ids=["plain", "german", "excel-ansi", "excel-unicode", "libreoffice", "tabs", "blank-row"],
)
def test_every_way_to_save_the_table_reads_the_same(
    tmp_path: Path, text: str, encoding: str
) -> None:
    (tmp_path / "c.csv").write_bytes(text.encode(encoding))
    first, second, third = read_corrections(tmp_path / "c.csv").proposals
    assert [first.row, second.row, third.row] == [2, 3, 4]
    assert [first.accepted, second.accepted, third.accepted] == [True, True, False]
    assert (first.sample, first.path, first.action) == ("aa", "Köln/a.jpg", "drop")
    assert (second.action, second.value) == ("relabel", "Grünspan")
    assert second.reason == 'looks "green", not rusty'
    assert (third.action, third.value, third.rule) == ("move", "test", "leakage")


def test_a_person_may_leave_columns_out_and_add_notes_of_their_own(tmp_path: Path) -> None:
    table = table_of(
        tmp_path / "c.csv", "rust/a.jpg,Drop,Y,ask Anna", header="path,action,accepted,my note"
    )
    (row,) = read_corrections(table).proposals
    assert (row.sample, row.path, row.action, row.accepted) == ("", "rust/a.jpg", "drop", True)


def test_all_problems_of_a_table_are_named_with_their_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        rows_of(
            tmp_path,
            "aa,,dorp,,yes",
            "aa,,relabel, ,yes",
            "aa,,move,training,yes",
            ",,drop,,yes",
            "",
            "aa,,drop,,perhaps",
            "aa,,drop,,yes,too,many",
            "aa,,drop,,yes",
        )
    said = caught.value.problems
    assert len(said) == 6
    for problem, words in zip(
        said,
        ("row 2 `drop`", "row 3 class", "row 4 `training`", "row 5 path", "row 7 perhaps", "row 8"),
        strict=True,
    ):
        assert all(word in problem for word in words.split(" ", 2)), problem
    assert str(tmp_path / "corrections.csv") in caught.value.message


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("sample,action,acepted", "acepted"),
        ("sample,accepted", "action"),
        ("action,accepted", "path"),
        ("sample,action,action,accepted", "twice"),
        ("", "action"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, header: str, said: str) -> None:
    table = table_of(tmp_path / "c.csv", "a,b,c", header=header)
    with pytest.raises(DataError, match="cannot be used") as caught:
        read_corrections(table)
    assert any(said in problem for problem in caught.value.problems)


def test_no_file_and_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of corrections"):
        read_corrections(tmp_path / "gone.csv")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\x81\x8d\x00")
    with pytest.raises(DataError, match=r"cannot be (read|used)"):
        read_corrections(tmp_path / "picture.csv")


# --- written by an audit ----------------------------------------------------------------------


def finding(rule: str, *cases: Case) -> Finding:
    return Finding(rule, "AUD000", "warning", "something", cases=cases)


def case(score: float, *fixes: Correction) -> Case:
    return Case(tuple(fix.sample for fix in fixes), "seen", score, fixes)


def test_an_audit_writes_each_suggestion_once_strongest_first(tmp_path: Path) -> None:
    a, b, c = (one(name) for name in "abc")
    b = replace(b, path=f"{FOLDER}/=rust/b.png")
    c = replace(c, path="/elsewhere/c.png")
    drop = Correction(a.sample_id, "drop", "", "same as b")
    report = Report(
        (
            finding(
                "weak_then_strong",
                case(0.2, Correction(b.sample_id, "relabel", "007", "looks like it")),
                case(0.9, drop),
            ),
            finding(
                "second", case(1.0, replace(drop, reason="again")),
                case(0.5, Correction(c.sample_id, "move", "train", "leaks")),
            ),
        ),
        (),
        (),
    )  # fmt: skip
    place = tmp_path / "corrections.csv"
    assert write_corrections(report, Catalog((a, b, c), ("rust",), FOLDER), place) == 3
    with place.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1:] == [
        [a.sample_id, "rust/a.png", "drop", "", "same as b", "weak_then_strong", ""],
        [b.sample_id, "'=rust/b.png", "relabel", "'007", "looks like it", "weak_then_strong", ""],
        [c.sample_id, "/elsewhere/c.png", "move", "train", "leaks", "second", ""],
    ]
    read = read_corrections(place).proposals
    assert [row.path for row in read] == ["rust/a.png", "=rust/b.png", "/elsewhere/c.png"]
    assert [row.value for row in read] == ["", "007", "train"]
    assert not any(row.accepted for row in read)


def test_what_a_person_may_have_edited_is_never_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "corrections.csv"
    place.write_text("mine")
    for write in (
        partial(write_corrections, Report((), (), ()), Catalog((), (), FOLDER)),
        partial(write_quarantine, ()),
    ):
        with pytest.raises(DataError, match="nothing is overwritten") as caught:
            write(place)
        assert "corrections-2.csv" in caught.value.hint
    assert place.read_text() == "mine"


def test_quarantined_files_can_be_left_out(tmp_path: Path) -> None:
    data = odd_images.write_photos(tmp_path / "data", {"a": 12, "b": 12})
    for name in ("x", "y"):
        (data / "a" / f"{name}.jpg").write_bytes(b"")
    (data / "b" / "z.jpg").symlink_to(tmp_path / "gone")
    before = build(data)
    place = tmp_path / "quarantine.csv"
    assert write_quarantine(before.samples, place) == 3
    after = build(data, corrections=place)
    assert after.unreadable == ()
    # Three files without bytes are one content: the paths tell them apart.
    assert Counter(s.reason for s in after.dropped) == Counter(s.reason for s in before.unreadable)
    assert after.counts("train") == before.counts("train")
    assert any("3 of 3 corrections applied: 3 dropped" in note for note in after.notes)


# --- applied ----------------------------------------------------------------------------------


def test_each_action_does_its_work_and_says_so(tmp_path: Path) -> None:
    samples = [*some({"rust": 3, "well": 2}), one("gray", "rust", split="test", group="g1")]
    ids = {Path(s.path).stem: s.sample_id for s in samples}
    found, notes = applied(
        samples,
        rows_of(
            tmp_path,
            f"{ids['rust0']},rust/rust0.png,drop,,yes",
            f"{ids['rust1']},,relabel,well,yes",
            f"{ids['rust2']},,group,plant 7,yes",
            f"{ids['gray']},,move,training,yes".replace("training", "TRAIN"),
            f"{ids['well0']},,drop,,",
        ),
    )
    assert found["rust0"].status == "dropped"
    assert found["rust0"].reason
    assert (found["rust1"].label, found["rust1"].status) == ("well", "ok")
    assert "relabelled from rust" in found["rust1"].reason
    assert found["rust2"].group == "plant 7"
    assert (found["gray"].split, found["gray"].group) == ("train", "g1")
    assert "moved from test" in found["gray"].reason
    assert found["well0"] == samples[3]
    assert "4 of 4 corrections applied: 1 dropped, 1 relabelled, 1 moved, 1 grouped" in notes
    assert "1 more are not accepted" in notes


def test_nothing_accepted_changes_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    samples = some({"rust": 2})
    table = rows_of(tmp_path, f"{samples[0].sample_id},,drop,,", ",rust/rust1.png,drop,,no")
    found, notes = applied(samples, table)
    assert list(found.values()) == samples
    assert "none of the 2 corrections" in notes
    assert "yes" in notes
    assert "holds no corrections" in applied(samples, rows_of(tmp_path))[1]


@pytest.mark.parametrize(
    "path", ["rust/a.png", "/data/rust/a.png", " rust/../rust/a.png ", "./rust/a.png"]
)
def test_an_image_may_be_named_by_its_path_alone(tmp_path: Path, path: str) -> None:
    found, _ = applied([one("a"), one("b")], rows_of(tmp_path, f",{path},drop,,yes"))
    assert [found["a"].status, found["b"].status] == ["dropped", "ok"]


def test_the_spelling_of_accents_does_not_matter(tmp_path: Path) -> None:
    sample = one(unicodedata.normalize("NFD", "blé"))
    path = unicodedata.normalize("NFC", "rust/blé.png")
    found, notes = apply_corrections(
        [sample, one("b")], rows_of(tmp_path, f",{path},drop,,yes"), folder=FOLDER
    )
    assert found[0].status == "dropped", notes


def test_the_path_decides_between_exact_copies(tmp_path: Path) -> None:
    first = one("a")
    copies = [first] + [
        replace(first, sample_id=f"{first.content}~{n}", path=f"{FOLDER}/rust/{name}.png")
        for n, name in ((2, "b"), (3, "c"))
    ]
    # The second copy was deleted by hand, so that the third one now carries its number.
    left = [first, replace(copies[2], sample_id=copies[1].sample_id)]
    rows = [
        f"{copies[1].sample_id},rust/b.png,drop,,yes",
        f"{copies[2].sample_id},rust/c.png,drop,,yes",
    ]
    found, notes = applied(left, rows_of(tmp_path, *rows))
    assert [found["a"].status, found["c"].status] == ["ok", "dropped"]
    assert "row 2: rust/b.png" in notes
    # Both were deleted: the one that was to be kept is not what is dropped now.
    kept, notes = applied([first], rows_of(tmp_path, *rows, ",rust/a.png,drop,,no"))
    assert kept["a"].status == "ok"
    assert "0 of 2 corrections applied" in notes


def test_a_renamed_photograph_is_known_by_its_bytes_but_not_dropped_under_a_new_name(
    tmp_path: Path,
) -> None:
    sample = replace(one("a"), path=f"{FOLDER}/rust/renamed.png")
    rows = [f"{sample.sample_id},rust/a.png,relabel,well,yes", f"{sample.sample_id},,group,g,yes"]
    found, _ = applied([sample], rows_of(tmp_path, *rows))
    assert (found["renamed"].label, found["renamed"].group) == ("well", "g")


def test_images_that_are_gone_or_changed_are_a_note_and_no_obstacle(tmp_path: Path) -> None:
    samples = some({"rust": 3})
    rows = [
        "0123456789abcdef,rust/gone.png,drop,,yes",
        "fedcba9876543210,rust/rust1.png,relabel,well,yes",
        f"{samples[0].sample_id},rust/rust0.png,drop,,yes",
    ]
    found, notes = applied(samples, rows_of(tmp_path, *rows))
    assert [sample.status for sample in found.values()] == ["dropped", "ok", "ok"]
    assert found["rust1"].label == "rust"
    assert "1 of 3 corrections applied" in notes
    assert "row 2: rust/gone.png" in notes
    assert "row 3: rust/rust1.png, changed since" in notes


def test_corrections_of_other_data_are_refused(tmp_path: Path) -> None:
    rows = [f"{n:016x},other/{n}.png,drop,,yes" for n in range(30)]
    error = refused(some({"rust": 3}), rows_of(tmp_path, *rows))
    assert "none of the 30" in error.message
    assert len(error.problems) == 11


def test_contradictions_are_listed_with_their_rows(tmp_path: Path) -> None:
    samples = some({"rust": 4, "well": 1, "blight": 1})
    ids = [sample.sample_id for sample in samples]
    error = refused(
        samples,
        rows_of(
            tmp_path,
            f"{ids[0]},,relabel,well,yes",
            f"{ids[1]},,drop,,yes",
            ",rust/rust0.png,relabel,blight,yes",
            f"{ids[1]},,relabel,well,yes",
            f"{ids[2]},,move,val,yes",
            f"{ids[2]},,move,test,yes",
            f"{ids[3]},,relabel,well,yes",
            f"{ids[3]},,relabel,blight,no",
            f"{ids[3]},,relabel,well,yes",
        ),
    )
    assert len(error.problems) == 3
    for problem, rows in zip(error.problems, ("2 and 4", "3 and 5", "6 and 7"), strict=True):
        assert f"rows {rows}:" in problem
    assert "dropped and relabelled as well" in error.problems[1]


def test_a_dropped_image_needs_no_part_and_no_group(tmp_path: Path) -> None:
    samples = some({"rust": 2})
    name = samples[0].sample_id
    found, notes = applied(
        samples, rows_of(tmp_path, *(f"{name},,{what},yes" for what in ("move,val", "drop,")))
    )
    assert found["rust0"].status == "dropped"
    assert "1 of 2 corrections applied: 1 dropped" in notes
    assert "no effect" in notes


def test_a_class_dropped_to_nothing_is_refused_by_name(tmp_path: Path) -> None:
    samples = some({"rust": 3, "well": 2, "blight": 2})
    ids = [sample.sample_id for sample in samples]
    table = rows_of(tmp_path, f"{ids[3]},,drop,,yes", f"{ids[4]},,drop,,yes")
    error = refused(samples, table)
    assert "`well`: all 2 images are dropped, by rows 2, 3" in error.problems[0]
    assert "data.classes=[blight, rust]" in error.hint
    # Who names the classes has decided to do without it.
    found, _ = applied(samples, table, classes=["blight", "rust"])
    assert found["well0"].status == "dropped"


def test_a_class_may_be_merged_into_another(tmp_path: Path) -> None:
    samples = some({"rust": 3, "Rust": 2})
    rows = [f"{s.sample_id},,relabel,rust,yes" for s in samples if s.label == "Rust"]
    found, notes = applied(samples, rows_of(tmp_path, *rows))
    assert {sample.label for sample in found.values()} == {"rust"}
    assert "no longer a class" in notes


def test_a_new_class_is_noted_and_a_slip_is_suspected(tmp_path: Path) -> None:
    samples = some({"rust": 3, "powdery mildew": 3})
    rows = [
        f"{samples[0].sample_id},,relabel,powdery mildw,yes",
        f"{samples[1].sample_id},,relabel, scab ,yes",
    ]
    found, notes = applied(samples, rows_of(tmp_path, *rows))
    assert found["rust1"].label == "scab"
    assert "new class `powdery mildw`; did you mean `powdery mildew`?" in notes
    assert "new class `scab`" in notes


def test_a_class_whose_name_ends_in_a_blank_can_be_meant(tmp_path: Path) -> None:
    samples = [one("a"), one("b"), one("c", "well ")]
    found, notes = applied(samples, rows_of(tmp_path, f"{samples[0].sample_id},,relabel,well ,yes"))
    assert found["a"].label == "well "
    assert "new class" not in notes


def test_groups_join_what_belonged_together(tmp_path: Path) -> None:
    draw = random.Random(3)
    samples = [one(f"s{i}", group=draw.choice([None, *"ABCDEF"])) for i in range(60)]
    links = [(draw.randrange(60), draw.choice("ABxyz")) for _ in range(25)]
    rows = [f"{samples[i].sample_id},,group,{name},yes" for i, name in links]
    found = apply_corrections(samples, rows_of(tmp_path, *rows))[0]
    # Independently: images that share a name, over any number of steps.
    named: dict[str, set[int]] = defaultdict(set)
    for i, sample in enumerate(samples):
        if sample.group:
            named[sample.group].add(i)
    for i, name in links:
        named[name].add(i)
    for i in range(60):
        together, size = {i}, 0
        while size < len(together):
            size = len(together)
            for members in named.values():
                together |= members if members & together else set()
        expected = together if any(i in members for members in named.values()) else set()
        group = found[i].group
        assert {j for j in range(60) if group and found[j].group == group} == expected


# --- in the catalog ---------------------------------------------------------------------------


def photos(tmp_path: Path, counts: Mapping[str, int] | None = None) -> Path:
    return odd_images.write_photos(tmp_path / "data", counts or {"rust": 20, "well": 20})


def test_a_corrected_catalog_reads_back_and_no_file_was_touched(tmp_path: Path) -> None:
    data = photos(tmp_path)
    table = rows_of(
        tmp_path,
        ",rust/photo000.png,drop,,yes",
        ",rust/photo001.png,relabel,well,yes",
        ",rust/photo002.png,relabel,scab,yes",
    )
    before = odd_images.snapshot(tmp_path)
    catalog = build(data, corrections=table.file)
    assert catalog.notes[0] == "3 of 3 corrections applied: 1 dropped, 2 relabelled"
    assert catalog.classes == ("rust", "scab", "well")
    assert catalog.counts() == {"rust": 17, "scab": 1, "well": 21}
    (dropped,) = catalog.dropped
    assert dropped.path == str(data / "rust" / "photo000.png")
    assert dropped.reason
    assert catalog.unreadable == ()
    assert odd_images.snapshot(tmp_path) == before
    write_catalog(catalog, tmp_path / "catalog.csv")
    assert read_catalog(tmp_path / "catalog.csv") == catalog


def test_a_slip_in_the_table_is_found_before_a_photograph_is_read(tmp_path: Path) -> None:
    table = table_of(tmp_path / "c.csv", "aa,,dorp,,yes")
    seen: list[int] = []
    with pytest.raises(DataError, match="cannot be used"):
        build(photos(tmp_path), corrections=table, progress=lambda done, total: seen.append(done))
    assert not seen


def test_the_copy_that_is_left_is_no_longer_called_one(tmp_path: Path) -> None:
    data = photos(tmp_path)
    (data / "rust" / "again.png").write_bytes((data / "rust" / "photo000.png").read_bytes())
    assert any("exact cop" in note for note in build(data).notes)
    table = rows_of(tmp_path, ",rust/again.png,drop,,yes")
    assert not any("exact cop" in note for note in build(data, corrections=table.file).notes)


@pytest.mark.parametrize("seed", range(20))
def test_moves_hold_and_company_follows_wherever_parts_are_made(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    given = draw.choice([(None,), ("train", "test"), ("train", "val", "test"), (None, "val")])
    samples = [
        one(
            f"s{draw.randrange(80)}", draw.choice(("a", "b")),
            group=draw.choice([None, None, None, *"ABC"]), split=draw.choice(given),
        )
        for _ in range(120)
    ]  # fmt: skip
    samples = [replace(s, sample_id=f"{s.content}~{i}") for i, s in enumerate(samples)]
    chosen = draw.sample(range(120), 6)
    moves = {samples[i].sample_id: draw.choice(SPLITS) for i in chosen}
    assign = partial(assign_splits, val_share=0.2, test_share=0.2, seed=seed)
    found, _ = split_around(samples, moves, assign)
    plain, _ = assign(samples)
    assert all(s.split == moves[s.sample_id] for s in found if s.sample_id in moves)
    assert all(s.split for s in found)
    assert [replace(s, split=None) for s in found] == [replace(s, split=None) for s in samples]
    by_id = {s.sample_id: s for s in found}
    for asked, without, got in zip(samples, plain, found, strict=True):
        tied = [
            by_id[s.sample_id].split
            for s in samples
            if s.sample_id in moves and s.content == asked.content
        ]
        if asked.sample_id not in moves and asked.split is None and tied:
            assert got.split in tied
        # Who is tied to nothing that was moved is where he would be, or trains as given.
        if asked.split in ("val", "test") and asked.sample_id not in moves:
            assert got.split == asked.split == without.split


def test_without_moves_the_split_is_what_it_was() -> None:
    samples = some({"a": 30, "b": 9})
    assign = partial(assign_splits, val_share=0.1, test_share=0.2, seed=5)
    assert split_around(samples, {}, assign) == assign(samples)


def test_one_move_to_val_does_not_make_val_of_that_one_image(tmp_path: Path) -> None:
    data = photos(tmp_path)
    table = rows_of(tmp_path, ",rust/photo003.png,move,val,yes")
    catalog = build(data, corrections=table.file)
    moved = next(s for s in catalog.samples if s.path.endswith("rust/photo003.png"))
    assert moved.split == "val"
    plain = build(data)
    others = [(s, p) for s, p in zip(catalog.samples, plain.samples, strict=True) if s != moved]
    assert all(s == p for s, p in others)


def test_a_leak_that_a_move_heals_is_no_longer_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number, part in enumerate(("train", "val", "test")):
        odd_images.write_photos(data / part, {"rust": 6, "well": 6}, seed=number + 1)
    leak = data / "test" / "rust" / "again.png"
    leak.write_bytes((data / "train" / "rust" / "photo000.png").read_bytes())
    assert any("more than one of the given parts" in note for note in build(data).notes)
    table = rows_of(tmp_path, ",test/rust/again.png,move,train,yes")
    catalog = build(data, corrections=table.file)
    assert not any("more than one" in note for note in catalog.notes)
    assert catalog.counts("train") == {"rust": 7, "well": 6}


def test_groups_of_a_pattern_take_in_corrected_ones(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for plant in range(8):
        odd_images.write_photos(
            data, {"rust": 2, "well": 2}, seed=plant + 1, prefix=f"plant{plant}_"
        )
    table = rows_of(
        tmp_path, ",rust/plant0_000.png,group,both,yes", ",rust/plant1_000.png,group,both,yes"
    )
    catalog = build(data, group_by=r"plant\d", corrections=table.file)
    parts = {s.split for s in catalog.samples if "plant0" in s.path or "plant1" in s.path}
    assert len(parts) == 1
    assert any("6 images come along" in note for note in catalog.notes)


def test_an_earlier_split_is_followed_but_for_moves(tmp_path: Path) -> None:
    data = photos(tmp_path)
    first = build(data, seed=1)
    write_catalog(first, tmp_path / "catalog.csv")
    train = next(s for s in first.samples if s.split == "train" and s.label == "rust")
    table = rows_of(tmp_path, f"{train.sample_id},,move,test,yes")
    again = build(data, split_from=tmp_path, corrections=table.file)
    assert [s.sample_id for s, f in zip(again.samples, first.samples, strict=True)
            if s.split != f.split] == [train.sample_id]  # fmt: skip
    assert not any("split_from decides" in note for note in again.notes)
    assert accepted_moves(first.samples, table) == {train.sample_id: "test"}


def test_what_an_earlier_run_dropped_does_not_come_back_in_silence(tmp_path: Path) -> None:
    data = photos(tmp_path)
    table = rows_of(tmp_path, ",rust/photo000.png,drop,,yes")
    write_catalog(build(data, corrections=table.file), tmp_path / "catalog.csv")
    again = build(data, split_from=tmp_path)
    assert again.dropped == ()
    assert any("1 image that the earlier run dropped" in note for note in again.notes)
    both = build(data, split_from=tmp_path, corrections=table.file)
    assert len(both.dropped) == 1
    assert not any("earlier run dropped" in note for note in both.notes)


# --- for an audit -----------------------------------------------------------------------------


def test_an_audit_may_look_at_what_cannot_be_trained_on(tmp_path: Path) -> None:
    one_class = odd_images.write_photos(tmp_path / "flat", {"rust": 5})
    assert build(one_class, complete=False).classes == ("rust",)
    parts = tmp_path / "parts"
    odd_images.write_photos(parts / "train", {"rust": 5})
    odd_images.write_photos(parts / "val", {"rust": 2, "Rust": 2}, seed=1)
    catalog = build(parts, complete=False, test_share=0.0)
    assert catalog.counts("train") == {"Rust": 0, "rust": 5}
    for source in (one_class, parts):
        with pytest.raises(DataError):
            build(source)
    (tmp_path / "none" / "rust").mkdir(parents=True)
    with pytest.raises(DataError):
        build(tmp_path / "none", complete=False)
