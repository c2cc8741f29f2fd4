"""espalier diagnose on runs that were really made, and train while the doctor looks on."""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil

import pytest

import espalier as package
from espalier.errors import RunError

QUESTIONS = {"rule", "code", "severity", "cause", "confidence", "evidence", "prescription"}


@pytest.fixture
def own(trained, tmp_path):
    """A finished run of one's own, to write into."""
    return shutil.copytree(trained[0], tmp_path / "mine", symlinks=True)


@pytest.fixture
def foreign(tmp_path):
    """A log of Keras in which the loss of validation turns up and never comes down."""
    path = tmp_path / "logs" / "training.csv"
    path.parent.mkdir()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("epoch", "accuracy", "loss", "val_accuracy", "val_loss"))
        for epoch in range(20):
            learnt = 1 - math.exp(-epoch / 3)
            val_loss = 2.0 - 1.2 * learnt + max(0, epoch - 5) * 0.12
            writer.writerow((epoch, 0.3 + 0.69 * learnt, 2.2 - 2.15 * learnt,
                             0.3 + 0.35 * learnt, val_loss))  # fmt: skip
    return path


def test_a_run_gets_findings_and_a_page_and_the_same_twice(espalier, own):
    first = espalier("diagnose", own, "--json")
    assert first.code == 0
    written = (own / "findings.json").read_bytes()
    assert json.loads(written) == first.json
    assert (own / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert espalier("diagnose", own, "--json").json == first.json
    assert (own / "findings.json").read_bytes() == written


def test_the_object_has_what_it_promises(espalier, own):
    found = espalier("diagnose", own, "--json").json
    assert {"run", "tool", "verdict", "findings", "clear", "skipped", "notes"} <= found.keys()
    assert found["tool"] == "espalier"
    assert found["verdict"] in ("error", "warning", "info", "clear")
    for finding in found["findings"]:
        assert finding.keys() >= QUESTIONS | {"consequences", "follows"}
        assert 0 <= finding["confidence"] <= 1
    assert all(entry.keys() == {"rule", "reason"} for entry in found["skipped"])
    assert len(found["clear"]) >= 5


def test_a_person_reads_it_at_80_columns(espalier, own):
    answer = espalier("diagnose", own)
    assert answer.code == 0
    wide = [line for line in answer.out.splitlines() if len(line) > 80]
    assert all("espalier train" in line or str(own) in line for line in wide)
    assert "checks in order" in answer.out
    assert f"page      {own / 'report.html'}" in answer.err


def test_nothing_is_written_beside_the_record_of_another_tool(espalier, foreign, tmp_path):
    answer = espalier("diagnose", foreign, "--json")
    assert answer.json["tool"] == "keras"
    assert [path.name for path in foreign.parent.iterdir()] == [foreign.name]
    espalier("diagnose", foreign, "--out", tmp_path / "here")
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"findings.json", "report.html"}


def test_files_that_no_diagnosis_wrote_stay(espalier, foreign, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    answer = espalier("diagnose", foreign, "--out", tmp_path)
    assert answer.code == 2
    assert "nothing is overwritten" in answer.err
    assert (tmp_path / "report.html").read_text() == "mine"


def test_strict_tells_a_script_by_the_exit_code(espalier, foreign):
    answer = espalier("diagnose", foreign, "--strict", "--quiet")
    found = espalier("diagnose", foreign, "--json").json
    assert answer.code == int(found["verdict"] in ("warning", "error"))
    assert "because" not in answer.out


def test_all_names_every_check(espalier, own):
    found = espalier("diagnose", own, "--json").json
    said = " ".join(espalier("diagnose", own, "--all").out.split())
    rules = [*found["clear"], *(entry["rule"] for entry in found["skipped"])]
    assert all(rule.replace("_", " ") in said for rule in rules)


def test_against_an_earlier_run_it_says_what_is_gone(espalier, own, foreign):
    answer = espalier("diagnose", own, "--against", foreign, "--json")
    now = {f["rule"] for f in answer.json["findings"] if f["severity"] != "info"}
    before = {
        f["rule"]
        for f in espalier("diagnose", foreign, "--json").json["findings"]
        if f["severity"] != "info"
    }
    changes = answer.json["against"]
    assert set(changes["gone"]) == before - now
    assert set(changes["new"]) == now - before


def test_columns_of_unknown_names_can_be_named(espalier, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(
        "round,how wrong,held out\n" + "".join(f"{i},{2 / i},{2.1 / i}\n" for i in (1, 2, 3))
    )
    assert espalier("diagnose", log).code == 2
    pairs = "epoch=round,train_loss=how wrong"
    answer = espalier("diagnose", log, "--map", pairs, "--map", "val_loss=held out", "--json")
    assert answer.code == 0


@pytest.mark.parametrize("word", ["val_loss", "=x", "val_loss="])
def test_a_map_that_maps_nothing_is_refused(espalier, foreign, word):
    answer = espalier("diagnose", foreign, "--map", word)
    assert answer.code == 2
    assert "--map val_accuracy=Acc" in answer.err


def test_what_is_no_run_is_refused(espalier, tmp_path):
    (tmp_path / "empty").mkdir()
    assert espalier("diagnose", tmp_path / "empty").code == 2
    assert espalier("diagnose", tmp_path / "nowhere").code == 2


def test_from_python(own, foreign):
    found = package.diagnose_run(own)
    assert found.report.clear
    assert (own / "findings.json").exists()
    assert package.diagnose_run(foreign, write=False).run is None
    with pytest.raises(RunError):
        package.diagnose_run(own.parent / "nowhere")


def test_a_rate_that_ruins_a_run_is_said_while_it_trains_and_can_end_it(
    espalier, tiny, quick, tmp_path
):
    flags = list(quick)
    flags[flags.index("--epochs") + 1] = "16"
    answer = espalier("train", tiny, *flags, "--lr", 30, "--set", "early_stopping.patience=null",
                      "--name", "sick", "--stop-when-sick", "--json")  # fmt: skip
    assert answer.code == 0
    assert "ERROR: The learning rate is too high" in answer.err
    assert "do this:" in answer.err
    assert answer.json["ended"].startswith("sick after epoch")
    assert answer.json["epochs"] < 16
    said = espalier("diagnose", tmp_path / "runs" / "train" / "sick")
    assert said.out.index("The learning rate is too high") < said.out.index("because")
    command = next(line for line in said.out.splitlines() if "espalier train --config" in line)
    assert espalier(*shlex.split(command)[1:], "--print-config").code == 0
