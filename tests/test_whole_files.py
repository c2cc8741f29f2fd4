import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from espalier import files
from espalier.errors import DiskError


def test_nothing_is_left_behind_when_a_write_is_broken_off(tmp_path):
    def broken(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(tmp_path / "a.txt", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_file_keeps_the_suffix_and_belongs_to_one_process(tmp_path):
    partial = files.partial_of(tmp_path / "curves.png")
    assert partial.suffix == ".png"
    assert partial.name.startswith(".curves")
    assert str(os.getpid()) in partial.name


def test_a_row_that_is_being_written_does_not_stop_a_reader(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_row(path, {"stage": "tête", "step": 1})
    whole = json.dumps({"stage": "tête", "step": 2}, ensure_ascii=False).encode()
    with path.open("ab") as file:
        file.write(whole[: whole.index("ê".encode()) + 1])
    assert files.read_rows(path) == [{"stage": "tête", "step": 1}]


def test_separators_of_lines_inside_a_text_do_not_split_a_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_row(path, {"stage": "a\u2028b"})
    assert files.read_rows(path) == [{"stage": "a\u2028b"}]


def test_rows_are_dropped_by_the_clock_that_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    for epoch, step in ((1, 5), (2, 8), (3, 8)):
        files.append_row(path, {"epoch": epoch, "step": step})
    files.keep_rows_until(path, 2, clock="epoch")
    assert [row["epoch"] for row in files.read_rows(path)] == [1, 2]
    files.keep_rows_until(path, 5, clock="step")
    assert [row["epoch"] for row in files.read_rows(path)] == [1]
    files.keep_rows_until(tmp_path / "none.jsonl", 5, clock="step")
    assert not (tmp_path / "none.jsonl").exists()


def test_a_full_disk_is_told_with_the_space_that_is_left(tmp_path):
    def full(partial):
        raise OSError(28, "No space left on device")

    with pytest.raises(
        DiskError, match=r"a\.txt: No space left on device; .* MB are free"
    ) as caught:
        files.write_whole(tmp_path / "a.txt", full)
    assert "free some space" in caught.value.hint


def test_what_cannot_be_appended_is_a_disk_error(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(DiskError, match="rows"):
        files.append_row(tmp_path / "rows.jsonl", {"step": 1})


def test_files_written_at_once_are_each_whole(tmp_path):
    paths = [tmp_path / f"{n}.txt" for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: files.write_text(path, path.name * 100), paths))
    assert all(path.read_text() == path.name * 100 for path in paths)
    assert len(list(tmp_path.iterdir())) == 20
