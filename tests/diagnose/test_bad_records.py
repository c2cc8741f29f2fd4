"""Records as they are found in the wild, from the file to the page: read, examined, told, alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.diagnosing import Diagnosis, diagnose, write_diagnosis
from espalier.errors import RunError

HEAD = "epoch,step,train_loss,val_loss,val_accuracy\n"
ROWS = [f"{e},{10 * e},{2 / e:.4f},{2.2 / e:.4f},{1 - 0.8 / e:.4f}\n" for e in range(1, 9)]
LOST = [f"{e},{10 * e},{{word}},{{word}},0.1\n" for e in range(5, 9)]
WHOLE = HEAD + "".join(ROWS)


def told(path: Path, out: Path) -> tuple[Diagnosis, list[bytes]]:
    """What is said of a record, and the bytes of its files."""
    found = diagnose(path)
    return found, [file.read_bytes() for file in write_diagnosis(found, out)]


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        pytest.param(HEAD + ROWS[0], 1, id="one epoch"),
        pytest.param(WHOLE + "9,90,0.2", 8, id="truncated"),
        pytest.param(WHOLE[:-3], 8, id="cut within a number"),
        pytest.param(WHOLE + WHOLE, 8, id="concatenated"),
        pytest.param(HEAD + "".join(ROWS[::-1]), 8, id="reordered"),
        pytest.param(HEAD + "".join(ROWS[:6] + ROWS[4:]), 8, id="resumed"),
        pytest.param(HEAD + ROWS[0] + ROWS[3] + ROWS[7], 3, id="missing epochs"),
        pytest.param(WHOLE.replace(ROWS[3], ROWS[3].replace("4,40", "nan,inf")), 7, id="no clock"),
        pytest.param(HEAD + "1,10,1.7e308,5e-324,0.5\n", 1, id="numbers at the bounds"),
        pytest.param(HEAD + "1,10,5e-324,1.7e308,1e300\n", 1, id="no accuracy"),
        *(
            pytest.param(HEAD + "".join([*ROWS[:4], *LOST]).format(word=word), 8, id=word)
            for word in (
                "nan",
                "NaN",
                "-nan(ind)",
                "inf",
                "-Infinity",
                "1.#QNAN",
                "np.float64(nan)",
            )
        ),
    ],
)
def test_a_bad_record_is_told_and_always_alike(tmp_path: Path, text: str, epochs: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    first, files = told(path, tmp_path / "a")
    again, same = told(path, tmp_path / "b")
    assert len(first.record.epochs) == epochs
    assert first.to_json() == again.to_json()
    assert files == same
    json.loads(files[0], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("\n \n", "is no record", id="blank"),
        pytest.param(HEAD, "no finished epoch yet", id="head alone"),
        pytest.param("round,nll\n1,2\n", "columns that are not known", id="unknown names"),
        pytest.param("just words\n", "is no record", id="words"),
    ],
)
def test_what_cannot_be_told_says_why_and_what_to_type(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=words) as caught:
        diagnose(path)
    assert caught.value.hint


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(RunError, match=r"is no record of a training run; it holds photo\.jpg"):
        diagnose(tmp_path)


@pytest.mark.slow
def test_a_long_record_is_streamed(tmp_path: Path) -> None:
    rows = 2_000_000
    path = tmp_path / "log.csv"
    with path.open("w") as file:
        file.write("epoch,step,train_loss,lr,grad_norm,val_loss\n")
        file.writelines(f"{1 + s // 100_000},{s + 1},1.5,0.01,1.25,\n" for s in range(rows))
    code = (
        "import resource; from espalier.diagnose.readers import read_record\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        f"before = most(); record = read_record({str(path)!r})\n"
        "print(len(record.epochs), most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    epochs, bytes_taken = map(int, done.stdout.split())
    assert epochs == 20
    # Ten million rows are to stay below 1 GB.
    assert bytes_taken / rows < 90
