"""Records of other tools (see readers/README.md) and all that is wrong with records in the wild."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from espalier.diagnose.readers import find_records, read_record
from espalier.errors import RunError
from espalier.recipe.schema import Data, Recipe, Stage, Training
from espalier.records import EpochRow
from espalier.run_record import (
    DataFacts,
    PartSigns,
    RunFacts,
    RunRecord,
    SplitPixels,
    StepSigns,
    to_plain,
)
from espalier.runs import write_results

RECORDS = Path(__file__).parent / "readers"


def columns_of(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def numbers(cells: list[str]) -> list[float]:
    return [float(cell) for cell in cells if cell]


def table(folder: Path, text: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def epochs(record: RunRecord) -> list[int]:
    return [row.epoch for row in record.epochs]


# Files of other tools


def test_huggingface_takes_the_newest_checkpoint_and_what_the_card_says() -> None:
    record = read_record(RECORDS / "huggingface")
    state = json.loads((RECORDS / "huggingface/checkpoint-36/trainer_state.json").read_text())
    steps = [row for row in state["log_history"] if "loss" in row]
    judged = [row for row in state["log_history"] if "eval_loss" in row]
    assert (record.tool, record.ended) == ("huggingface", "finished")
    assert epochs(record) == [1, 2, 3, 4]
    assert [row.step for row in record.epochs] == [9, 18, 27, 36]
    assert record.column("val_loss") == [row["eval_loss"] for row in judged]
    assert record.column("val_accuracy") == [row["eval_accuracy"] for row in judged]
    assert [step.loss for step in record.steps] == [row["loss"] for row in steps]
    assert [step.grad_norm for step in record.steps] == [row["grad_norm"] for row in steps]
    first = [row["loss"] for row in steps if row["epoch"] <= 1]
    assert record.epochs[0].train_loss == pytest.approx(sum(first) / len(first))
    facts = record.facts
    assert (facts.optimizer, facts.betas, facts.eps) == ("adamw", (0.9, 0.999), 1e-8)
    assert (facts.batch, facts.epochs, facts.steps_per_epoch, facts.seed) == (8, 4, 9, 0)
    assert facts.stages[0].learning_rate == 0.005


def test_huggingface_run_that_was_cut_off_is_not_called_finished() -> None:
    cut = read_record(RECORDS / "huggingface/checkpoint-27/trainer_state.json")
    assert epochs(cut) == [1, 2, 3]
    assert cut.ended == "unknown"


def test_huggingface_nan_behind_a_loss_of_zero_stays_visible() -> None:
    record = read_record(RECORDS / "huggingface_nan")
    assert record.steps[-1].loss == 0.0
    assert record.steps[-1].grad_norm == math.inf
    assert record.column("val_loss") == [math.inf, math.inf]


def test_huggingface_state_that_is_cut_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = (RECORDS / "huggingface/checkpoint-36/trainer_state.json").read_text()
    path = tmp_path / "trainer_state.json"
    known = read_record(RECORDS / "huggingface/checkpoint-36").steps
    for end in range(whole.index("log_history") + 400, len(whole) - 20, 500):
        path.write_text(whole[:end])
        record = read_record(path)
        assert record.steps == known[: len(record.steps)]
        assert any("cut off" in note for note in record.notes)
        assert record.ended == "unknown"


def test_huggingface_states_without_a_proper_step_are_still_one_run(tmp_path: Path) -> None:
    rows = [{"epoch": 1.0, "step": 3, "loss": 1.0}, {"epoch": 2.0, "step": 6, "loss": 0.5}]
    for name, step in (("checkpoint-3", "3"), ("checkpoint-6", 6)):
        (tmp_path / name).mkdir()
        state = {"log_history": rows, "global_step": step}
        (tmp_path / name / "trainer_state.json").write_text(json.dumps(state))
    assert read_record(tmp_path).path.endswith("checkpoint-6/trainer_state.json")


def test_lightning_merges_the_rows_of_a_moment() -> None:
    record = read_record(RECORDS / "lightning")
    found = columns_of(RECORDS / "lightning/metrics.csv")
    assert record.tool == "lightning"
    assert epochs(record) == [1, 2, 3, 4]
    for sign, name in (
        ("train_loss", "train_loss_epoch"),
        ("train_accuracy", "train_acc"),
        ("val_loss", "val_loss"),
        ("val_accuracy", "val_acc"),
    ):
        assert record.column(sign) == numbers(found[name])
    assert [step.loss for step in record.steps] == numbers(found["train_loss_step"])
    assert [step.learning_rate for step in record.steps] == numbers(found["lr-AdamW"])
    assert [step.step for step in record.steps] == list(range(3, 37, 3))
    assert [step.epoch for step in record.steps] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert record.facts.label_smoothing == 0.1
    assert record.facts.steps_per_epoch == 9


def test_ultralytics_with_its_arguments() -> None:
    record = read_record(RECORDS / "ultralytics")
    found = columns_of(RECORDS / "ultralytics/results.csv")
    assert (record.tool, record.ended) == ("ultralytics", "finished")
    assert record.column("val_accuracy") == numbers(found["metrics/accuracy_top1"])
    assert record.column("train_loss") == numbers(found["train/loss"])
    assert record.column("learning_rate") == numbers(found["lr/pg0"])
    assert sum(record.column("seconds")) == pytest.approx(float(found["time"][-1]))
    facts = record.facts
    assert (facts.optimizer, facts.dropout, facts.imgsz) == ("adamw", 0.1, 32)
    # It gathers gradients until 64 images were seen.
    assert (facts.batch, facts.accumulate) == (64, 8)
    assert (facts.stages[0].learning_rate, facts.stages[0].schedule) == (0.002, "linear")
    assert facts.pretrained is None


def test_ultralytics_of_another_task_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "epoch,train/box_loss,metrics/mAP50(B),lr/pg0\n1,2.0,0.1,0.01\n")
    with pytest.raises(RunError, match="no classification"):
        read_record(path)


def test_ultralytics_time_is_of_each_epoch_also_after_resuming(tmp_path: Path) -> None:
    head = "epoch,time,train/loss,metrics/accuracy_top1,val/loss\n"
    rows = [f"{e},{seconds},1,0.5,1\n" for e, seconds in ((1, 10), (2, 21), (3, 9), (4, 19))]
    record = read_record(table(tmp_path, head + "".join(rows)))
    assert record.column("seconds") == [10, 11, 9, 10]
    older = (head + "".join(rows)).replace("time", "other")
    assert all(map(math.isnan, read_record(table(tmp_path, older)).column("seconds")))


def test_settings_that_leave_a_value_to_the_tool_say_nothing(tmp_path: Path) -> None:
    shutil.copytree(RECORDS / "ultralytics", tmp_path / "run")
    (tmp_path / "run/args.yaml").write_text("batch: -1\nepochs: 3\nimgsz: .inf\nseed: 0\n")
    facts = read_record(tmp_path / "run").facts
    assert (facts.batch, facts.epochs, facts.imgsz, facts.seed) == (None, 3, None, 0)
    shutil.copytree(RECORDS / "timm", tmp_path / "other")
    (tmp_path / "other/args.yaml").write_text(
        "model_ema: true\nopt_betas: [auto, auto]\ngrad_accum_steps: auto\n"
    )
    facts = read_record(tmp_path / "other").facts
    assert (facts.ema_decay, facts.betas, facts.accumulate) == (None, None, 1)


def test_timm_counts_in_percent_and_from_zero() -> None:
    record = read_record(RECORDS / "timm")
    found = columns_of(RECORDS / "timm/summary.csv")
    assert (record.tool, record.ended, epochs(record)) == ("timm", "finished", [1, 2, 3, 4])
    assert record.column("val_accuracy") == [v / 100 for v in numbers(found["eval_top1"])]
    facts = record.facts
    assert (facts.label_smoothing, facts.mixup, facts.dropout) == (0.1, 0.2, 0.1)
    assert (facts.batch, facts.accumulate, facts.ema_decay) == (16, 2, 0.9998)
    assert (facts.head_classes, facts.precision, facts.clip_norm) == (3, "fp32", 0.0)
    assert any("averaged" in note for note in record.notes)


def test_timm_percent_holds_for_a_model_that_learns_nothing(tmp_path: Path) -> None:
    path = table(tmp_path, "epoch,train_loss,eval_loss,eval_top1\n0,6.9,6.9,0.1\n1,6.9,6.9,0.12\n")
    assert read_record(path).column("val_accuracy") == [0.001, 0.0012]


def test_keras_counts_from_zero() -> None:
    record = read_record(RECORDS / "keras.csv")
    found = columns_of(RECORDS / "keras.csv")
    assert (record.tool, epochs(record)) == ("keras", [1, 2, 3, 4])
    assert record.column("train_loss") == numbers(found["loss"])
    assert record.column("val_accuracy") == numbers(found["val_accuracy"])


def test_fastai_accuracy_is_of_validation_and_time_is_a_clock() -> None:
    record = read_record(RECORDS / "fastai_history.csv")
    found = columns_of(RECORDS / "fastai_history.csv")
    assert (record.tool, epochs(record)) == ("fastai", [1, 2, 3, 4])
    assert record.column("val_accuracy") == numbers(found["accuracy"])
    assert all(math.isnan(value) for value in record.column("train_accuracy"))
    assert record.column("seconds") == [1, 1, 62, 3602]


def test_tensorboard_reads_what_the_package_reads() -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader", reason="needs espalier[logs]"
    )
    file = next((RECORDS / "tensorboard").iterdir())
    expected: dict[str, list[tuple[int, float]]] = {}
    for event in accumulator.EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            expected.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    record = read_record(RECORDS / "tensorboard")
    assert [(s.step, s.loss) for s in record.steps] == expected["train/loss"]
    assert [(e.step, e.val_loss) for e in record.epochs] == expected["val/loss"]
    assert [e.val_accuracy for e in record.epochs] == [v for _, v in expected["val/accuracy"]]


def test_tensorboard_of_keras_is_in_two_folders_and_in_tensors(tmp_path: Path) -> None:
    event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2", reason="needs [logs]")
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    tensor_pb2 = pytest.importorskip("tensorboard.compat.proto.tensor_pb2")
    import struct

    for split, shift in (("train", 0.0), ("validation", 1.0)):
        (tmp_path / split).mkdir()
        with (tmp_path / split / "events.out.tfevents.1.h").open("wb") as file:
            records = writer.RecordWriter(file)
            records.write(event_pb2.Event(file_version="brain.Event:2").SerializeToString())
            for step in range(3):
                event = event_pb2.Event(step=step)
                content = struct.pack("<f", step + shift)
                tensor = tensor_pb2.TensorProto(dtype=1, tensor_content=content)
                event.summary.value.add(tag="epoch_loss", tensor=tensor)
                records.write(event.SerializeToString())
    record = read_record(tmp_path)
    assert record.column("train_loss") == [0, 1, 2]
    assert record.column("val_loss") == [1, 2, 3]


def test_tensorboard_file_that_is_cut_anywhere_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = next((RECORDS / "tensorboard").iterdir()).read_bytes()
    counts = []
    for size in range(400, len(whole), 97):
        path = tmp_path / "events"
        path.write_bytes(whole[:size])
        counts.append(len(read_record(path).epochs))
    assert counts == sorted(counts)
    assert counts[-1] == 4


# Tables of any dialect


PLAIN = "epoch,train_loss,val_loss,val_acc\n1,1.0,1.1,0.5\n2,0.8,0.9,0.6\n3,0.7,0.85,0.65\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeff" + PLAIN, id="byte order mark"),
        pytest.param(PLAIN.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(PLAIN.replace(",", ";").replace(".", ","), id="decimal commas"),
        pytest.param(PLAIN.replace(",", "\t"), id="tabs"),
        pytest.param(PLAIN.replace("\n", "\n\n"), id="empty lines"),
        pytest.param(PLAIN + "3,0.7,0.85,0.65\n", id="a row twice"),
        pytest.param(PLAIN + "4,0.6", id="half a line"),
        pytest.param(PLAIN + "\0\0\0", id="null characters"),
        pytest.param(PLAIN + PLAIN, id="the file twice"),
        pytest.param(
            "epoch,train_loss,val_loss,val_acc\n1,1.0,1.1,50\n2,0.8,0.9,60\n3,0.7,0.85,65.0\n",
            id="percent",
        ),
        pytest.param(
            "epoch,train_loss,val_loss,val_acc\n3,0.7,0.85,0.65\n1,1.0,1.1,0.5\n2,0.8,0.9,0.6\n",
            id="in no order",
        ),
        pytest.param(
            "epoch,train_loss,val_loss,val_acc\n0,1.0,1.1,0.5\n1,0.8,0.9,0.6\n2,0.7,0.85,0.65\n",
            id="from zero",
        ),
        pytest.param(
            "train_loss,val_loss,val_acc\n1.0,1.1,0.5\n0.8,0.9,0.6\n0.7,0.85,0.65\n",
            id="without a clock",
        ),
    ],
)
def test_dialects_read_alike(tmp_path: Path, text: str) -> None:
    record = read_record(table(tmp_path, text))
    assert any("percent" in note for note in record.notes) == ("65.0" in text)
    assert epochs(record) == [1, 2, 3]
    assert record.column("train_loss") == [1.0, 0.8, 0.7]
    assert record.column("val_loss") == [1.1, 0.9, 0.85]
    assert record.column("val_accuracy") == pytest.approx([0.5, 0.6, 0.65])


def test_json_lines_with_nested_names_and_a_half_written_end(tmp_path: Path) -> None:
    rows = [
        {"epoch": e, "train": {"loss": 1 / e}, "val": {"loss": 2 / e, "acc": 0.1 * e}}
        for e in (1, 2, 3)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"epoch": 4, "trai'
    record = read_record(table(tmp_path, text, "anything.txt"))
    assert epochs(record) == [1, 2, 3]
    assert record.column("val_loss") == [2 / e for e in (1, 2, 3)]


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("nan", math.inf),
        ("NaN", math.inf),
        ("-nan(ind)", math.inf),
        ("1.#QNAN", math.inf),
        ("inf", math.inf),
        ("+Infinity", math.inf),
        ("1.#INF", math.inf),
        ("-1.#INF", -math.inf),
        ("tensor(-inf)", -math.inf),
        ("np.float64(-inf)", -math.inf),
        ("tensor(0.5, device='cuda:0')", 0.5),
        ("np.float64(0.5)", 0.5),
        ("array([0.5])", 0.5),
        ("", math.nan),
        ("None", math.nan),
        ("null", math.nan),
    ],
)
def test_every_spelling_of_a_loss_that_was_lost(
    tmp_path: Path, spelling: str, value: float
) -> None:
    text = f"epoch;train_loss;val_loss\n1;1.0;1.0\n2;0.9;0.9\n3;0.8;{spelling}\n"
    last = read_record(table(tmp_path, text)).epochs[-1]
    assert last.train_loss == 0.8
    assert last.val_loss == pytest.approx(value, nan_ok=True)


def test_nan_that_means_not_measured_in_this_row_is_nothing(tmp_path: Path) -> None:
    rows = ["epoch,step,train_loss,val_loss"]
    for step in range(1, 41):
        rows.append(f"{(step - 1) // 10},{step},1.0,{'0.5' if step % 10 == 0 else 'nan'}")
    record = read_record(table(tmp_path, "\n".join(rows) + "\n"))
    assert record.column("val_loss") == [0.5] * 4


def test_nan_words_in_json(tmp_path: Path) -> None:
    text = '{"epoch": 1, "train_loss": 1.0}\n{"epoch": 2, "train_loss": "NaN"}\n'
    text += '{"epoch": 3, "train_loss": NaN}\n{"epoch": 4, "train_loss": -Infinity}\n'
    record = read_record(table(tmp_path, text, "log.jsonl"))
    assert record.column("train_loss") == [1.0, math.inf, math.inf, -math.inf]


def test_a_resumed_run_holds_what_was_written_later(tmp_path: Path) -> None:
    first = [f"1,{s},{s},"[:-1] for s in range(1, 9)] + [f"2,{s},{s}" for s in range(9, 15)]
    again = [f"2,{s},{100 + s}" for s in range(9, 13)]
    record = read_record(table(tmp_path, "\n".join(["epoch,step,loss", *first, *again]) + "\n"))
    assert [s.loss for s in record.steps] == [*range(1, 9), *range(109, 113)]
    assert any("resumed" in note for note in record.notes)


def test_two_runs_in_one_file_give_the_last(tmp_path: Path) -> None:
    text = PLAIN + "epoch,train_loss,val_loss,val_acc\n1,2.0,2.1,0.3\n2,1.8,1.9,0.4\n"
    record = read_record(table(tmp_path, text))
    assert record.column("train_loss") == [2.0, 1.8]
    assert any("2 runs" in note for note in record.notes)


def test_missing_epochs_stay_missing(tmp_path: Path) -> None:
    record = read_record(table(tmp_path, PLAIN.replace("2,0.8,0.9,0.6\n", "")))
    assert epochs(record) == [1, 3]


def test_steps_that_are_counted_anew_in_each_epoch(tmp_path: Path) -> None:
    rows = [f"{e},{s},{e + s / 10}" for e in range(3) for s in range(5)]
    record = read_record(table(tmp_path, "\n".join(["epoch,iter,loss", *rows]) + "\n"))
    assert [s.step for s in record.steps] == list(range(1, 16))
    assert [e.step for e in record.epochs] == [5, 10, 15]
    assert record.column("train_loss") == pytest.approx([0.2, 1.2, 2.2])


def test_one_bad_batch_does_not_hide_an_epoch(tmp_path: Path) -> None:
    rows = [f"1,{s},{'inf' if s == 5 else 1.0}" for s in range(1, 11)]
    record = read_record(table(tmp_path, "\n".join(["epoch,step,loss", *rows]) + "\n"))
    assert record.epochs[0].train_loss == 1.0
    assert record.steps[4].loss == math.inf


@pytest.mark.parametrize("cut", ["5", "5e", "5e-", "5e-0"])
def test_half_a_last_cell_is_no_number(tmp_path: Path, cut: str) -> None:
    rows = "epoch,train_loss,lr\n1,1.0,6.5e-05\n2,0.9,6.0e-05\n"
    assert math.isnan(read_record(table(tmp_path, f"{rows}3,0.8,{cut}")).epochs[-1].learning_rate)
    whole = read_record(table(tmp_path, f"{rows}3,0.8,5.5e-05"))
    assert whole.column("learning_rate") == [6.5e-05, 6e-05, 5.5e-05]
    ended = read_record(table(tmp_path, f"{rows}3,0.8,5\n"))
    assert ended.column("learning_rate")[-1] == 5


@pytest.mark.parametrize("clock", ["nan", "inf", "-inf", "1e300"])
def test_a_clock_that_is_no_number_is_no_clock(tmp_path: Path, clock: str) -> None:
    named = read_record(table(tmp_path, f"epoch,train_loss\n1,1.0\n2,0.9\n{clock},0.8\n"))
    assert epochs(named) == [1, 2]
    unnamed = read_record(table(tmp_path, f"epoch,train_loss\n{clock},1.0\n{clock},0.9\n"))
    assert epochs(unnamed) == [1, 2]


def test_percent_of_a_model_that_guesses_among_a_hundred(tmp_path: Path) -> None:
    record = read_record(table(tmp_path, "epoch,train_loss,val_acc\n1,4.6,0.9\n2,4.6,1.1\n"))
    assert record.column("val_accuracy") == pytest.approx([0.009, 0.011])
    rounded = read_record(table(tmp_path, "epoch,train_loss,val_acc\n1,1,0.9\n2,1,1.0000001\n"))
    assert rounded.column("val_accuracy") == pytest.approx([0.9, 1.0])


def test_an_infinite_accuracy_was_not_measured(tmp_path: Path) -> None:
    record = read_record(table(tmp_path, "epoch,train_loss,val_acc\n1,1.0,inf\n2,1.0,0.5\n"))
    assert math.isnan(record.epochs[0].val_accuracy)
    assert record.epochs[1].val_accuracy == 0.5


def test_numbers_and_nesting_beyond_all_bounds(tmp_path: Path) -> None:
    text = '{"epoch": 1, "train_loss": %s}\n%s\n{"epoch": 2, "train_loss": 1}\n'
    text %= ("9" * 400, '{"a":' * 5_000 + "1" + "}" * 5_000)
    assert read_record(table(tmp_path, text)).column("train_loss") == [math.inf, 1.0]


def test_an_accuracy_beyond_all_units_is_left_out(tmp_path: Path) -> None:
    record = read_record(table(tmp_path, "epoch,train_loss,val_acc\n1,1.0,5\n2,1.0,700\n"))
    assert all(math.isnan(value) for value in record.column("val_accuracy"))
    assert any("val_accuracy is left out" in note for note in record.notes)


# Unknown columns


UNKNOWN = "round,validation/nll,fit/nll,holdout_hits\n1,1.0,0.9,0.4\n2,0.8,0.7,0.5\n"


def test_unknown_columns_propose_a_mapping_that_works(tmp_path: Path) -> None:
    path = table(tmp_path, UNKNOWN)
    with pytest.raises(RunError, match="columns that are not known: round") as caught:
        read_record(path)
    command, _, option = caught.value.hint.partition(" --map ")
    assert command == f"espalier diagnose {path}"
    mapping = dict(pair.split("=") for pair in option.split(","))
    assert mapping == {
        "epoch": "round",
        "train_loss": "fit/nll",
        "val_loss": "validation/nll",
        "val_accuracy": "holdout_hits",
    }
    record = read_record(path, mapping)
    assert record.column("val_loss") == [1.0, 0.8]
    assert record.column("val_accuracy") == [0.4, 0.5]


def test_the_command_of_a_hint_survives_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    path = table(folder, "the round;validation nll;fit $nll\n1;1.0;0.9\n")
    with pytest.raises(RunError, match="not known") as caught:
        read_record(path)
    words = shlex.split(caught.value.hint)
    mapping = "epoch=the round,train_loss=fit $nll,val_loss=validation nll"
    assert words == ["espalier", "diagnose", str(path), "--map", mapping]


def test_the_columns_that_nobody_read_are_named(tmp_path: Path) -> None:
    record = read_record(table(tmp_path, "epoch,loss,vibes,val_loss\n1,1,7,1\n2,1,7,1\n"))
    assert any("vibes" in note for note in record.notes)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"val_loss": "valloss"}, "did you mean 'val_loss'"),
        ({"validation_loss": "val_loss"}, "'validation_loss' is nothing that a column can be"),
        ({"val_accuracy": "val_acc", "val_macro_f1": "val_acc"}, "'val_acc' is given twice"),
    ],
)
def test_a_mapping_that_cannot_be_followed(
    tmp_path: Path, mapping: dict[str, str], words: str
) -> None:
    path = table(tmp_path, PLAIN)
    with pytest.raises(RunError, match=words) as caught:
        read_record(path, mapping)
    assert caught.value.hint.startswith("--map epoch=epoch,")


# What is no record


def test_what_is_no_record_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        read_record(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is empty"):
        read_record(table(tmp_path, "", "empty.csv"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("nothing to see here\n")
    with pytest.raises(RunError, match=r"it holds notes\.txt"):
        read_record(tmp_path / "folder")
    with pytest.raises(RunError, match="no finished epoch"):
        read_record(table(tmp_path, PLAIN.splitlines()[0] + "\n", "header.csv"))


def test_a_column_of_words_is_named_as_the_reason(tmp_path: Path) -> None:
    path = table(tmp_path, "round,mood\n1,good\n2,bad\n")
    with pytest.raises(RunError, match="no row has a number"):
        read_record(path, {"val_accuracy": "mood"})


def test_a_json_list_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no record"):
        read_record(table(tmp_path, json.dumps([{"epoch": 1, "loss": 2.0, "val_loss": 2.0}])))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.log")
    shutil.copy(RECORDS / "keras.csv", tmp_path / "b.csv")
    assert read_record(tmp_path).tool == "keras"


def test_random_bytes_are_no_record_and_no_crash(tmp_path: Path) -> None:
    for seed in range(20):
        (tmp_path / "blob").write_bytes(os.urandom(seed * 37))
        with pytest.raises(RunError):
            read_record(tmp_path / "blob")


def test_several_runs_in_one_folder_are_listed(tmp_path: Path) -> None:
    for name in ("keras.csv", "lightning", "huggingface"):
        source = RECORDS / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    tools = [entry.tool for entry in find_records(tmp_path)]
    assert tools == ["huggingface", "keras", "lightning"]
    with pytest.raises(RunError, match="holds 3 records") as caught:
        read_record(tmp_path)
    assert len(caught.value.problems) == 3
    chosen = caught.value.hint.removeprefix("espalier diagnose ")
    assert read_record(chosen).tool == "huggingface"


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    shutil.copy(RECORDS / "ultralytics/results.csv", tmp_path / "run.log")
    shutil.copy(
        RECORDS / "huggingface/checkpoint-36/trainer_state.json", tmp_path / "old_state.json"
    )
    assert read_record(tmp_path / "run.log").tool == "ultralytics"
    assert read_record(tmp_path / "old_state.json").tool == "huggingface"


# Long records


def test_a_long_record_is_a_sample_that_keeps_what_is_broken(tmp_path: Path) -> None:
    count = 50_000
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("epoch,step,loss\n")
        file.writelines(
            f"{s // 10_000},{s},{'nan' if s == 33_333 else 2 - s / count}\n" for s in range(count)
        )
    record = read_record(path)
    assert len(record.steps) <= 5_000
    assert [s.step for s in record.steps[:20]] == list(range(1, 21))
    assert [s.step for s in record.steps if s.loss == math.inf] == [33_334]
    assert record.steps[-1].step == count
    means = [2 - (e * 10_000 + 4_999.5) / count for e in range(5)]
    assert record.column("train_loss") == pytest.approx(means, rel=1e-4)


def test_the_same_record_always_reads_alike() -> None:
    assert read_record(RECORDS / "lightning") == read_record(RECORDS / "lightning")


def test_readers_need_no_torch_and_no_pyarrow_for_a_table() -> None:
    code = (
        "import sys; from espalier.diagnose.readers import read_record; "
        f"read_record({str(RECORDS / 'keras.csv')!r}); "
        "print([m for m in ('torch', 'pyarrow', 'tensorboard') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# Runs of our own


def own_run(folder: Path, steps: int = 6) -> Path:
    """The files of a run as training writes them: two stages of three epochs on two classes."""
    recipe = Recipe(
        data=Data(source="photos", classes=("oak", "ash"), num_classes=2),
        stages=(
            Stage(name="head", train="head", epochs=3, lr=1e-3, backbone_lr=1e-4),
            Stage(name="all", epochs=3, lr=1e-4, backbone_lr=1e-5),
        ),
        training=Training(batch=16, accumulate=2, imgsz=96, precision="fp16"),
    )
    run = folder / "run"
    (run / "diagnostics").mkdir(parents=True)
    (run / "recipe.yaml").write_text(write_recipe_text(recipe))
    (run / "environment.json").write_text(
        json.dumps(
            {
                "reference_losses": {"chance": 0.69, "prior": 0.64, "floor": 0.2},
                "weights": {"share": 0.5},
            }
        )
    )
    (run / "class_weights.csv").write_text("class,images,weight\noak,20,0.75\nash,10,1.5\n")
    catalog = ["sample_id,path,label,group,split,width,height,status,reason,about"]
    for place, (label, split) in enumerate(
        [("oak", "train")] * 20 + [("ash", "train")] * 10 + [("oak", "val")] * 3
    ):
        catalog.append(f"{place:016x},{place}.jpg,{label},,{split},9,9,ok,,")
    (run / "catalog.csv").write_text("\n".join(catalog) + "\n")
    (run / "baseline.json").write_text('{"macro_f1": 0.7}')
    write_results(run / "results.csv", [epoch_row(e) for e in range(1, steps + 1)])
    return run


def write_recipe_text(recipe: Recipe) -> str:
    return json.dumps(recipe.model_dump(mode="json"))


def epoch_row(epoch: int) -> EpochRow:
    stage = (epoch - 1) // 3
    return EpochRow(
        stage=("head", "all")[stage],
        stage_index=stage,
        epoch=epoch,
        step=10 * epoch,
        learning_rate=1e-3,
        backbone_learning_rate=0.0,
        train_loss=1 / epoch,
        train_accuracy=0.5,
        probe_loss=0.9 / epoch,
        probe_accuracy=0.6,
        val_loss=1.1 / epoch,
        val_accuracy=0.55,
        val_macro_f1=0.5 + epoch / 100,
        mean_grad_norm=1.0,
        min_grad_norm=0.5,
        max_grad_norm=2.0,
        mean_update_norm=0.01,
        batches=20,
        seconds=3.0,
        best=epoch <= 4,
    )


def lines(path: Path, rows: Sequence[object], end: str = "\n") -> None:
    path.write_text("\n".join(json.dumps(to_plain(row)) for row in rows) + end)


def test_a_run_of_before_reads_from_its_old_files(tmp_path: Path) -> None:
    record = read_record(own_run(tmp_path))
    assert (record.tool, record.ended) == ("espalier", "finished")
    assert epochs(record) == [1, 2, 3, 4, 5, 6]
    assert record.column("clean_loss") == [0.9 / e for e in range(1, 7)]
    assert record.steps == ()
    facts = record.facts
    assert (facts.classes, facts.train_counts, facts.val_counts) == (
        ("oak", "ash"),
        (20, 10),
        (3, 0),
    )
    assert (facts.class_weights, facts.batch, facts.accumulate) == ((0.75, 1.5), 32, 2)
    assert (facts.chance_loss, facts.floor_loss, facts.loaded_share) == (0.69, 0.2, 0.5)
    assert (facts.loss_scaled, facts.epochs, facts.kept, facts.kept_epoch) == (True, 6, "best", 4)
    assert [stage.backbone_learning_rate for stage in facts.stages] == [0.0, 1e-5]
    assert facts.baseline_macro_f1 == 0.7
    assert record.notes == ()


def test_signs_and_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    folder = run / "diagnostics"
    data = DataFacts(val=SplitPixels(3, (0.1,), (1.0,), -2.0, math.inf), overlap=1)
    facts = RunFacts(planned_rates=((0, 1e-3), (60, 0.0)), accumulate=4)
    lines(
        folder / "run.json",
        [{"format": 1, "tool": "espalier", "facts": facts, "data": data, "ended": "stopped"}],
    )
    lines(
        folder / "train_diagnostics.jsonl",
        [
            {
                "epoch": 1,
                "loss": 1.0,
                "busy_loss": 2.5,
                "dead": {"stage1": 0.25},
                "weight_norm": None,
            }
        ],
    )
    lines(folder / "val_diagnostics.jsonl", [{"epoch": 1, "loss": 1.1, "recall": [0.5, None]}])
    parts = {"head": PartSigns(1.0, 1e-3, changed=True)}
    written = [StepSigns(s, 1, "head", 1 / s, scale=1024.0, parts=parts) for s in range(1, 5)]
    lines(folder / "steps.jsonl", written, end='\n{"step": 5, "lo')
    lines(folder / "val_confusion.json", [{"epoch": 1, "counts": [[2, 1], [0, 0]]}])
    lines(
        folder / "sample_losses.jsonl",
        [
            {"ids": ["a", "b"]},
            {"epoch": 1, "losses": [0.5, None]},
            {"epoch": 2, "losses": [0.1, 2]},
        ],
    )
    record = read_record(run)
    first = record.epochs[0]
    assert (first.busy_loss, first.dead, first.train_loss) == (2.5, {"stage1": 0.25}, 1.0)
    assert first.recall is not None
    assert first.recall[0] == 0.5
    assert math.isnan(first.recall[1])
    assert first.val_macro_f1 == 0.51
    assert [to_plain(step) for step in record.steps] == [to_plain(step) for step in written]
    assert record.data == data
    assert (record.facts.planned_rates, record.facts.accumulate) == (facts.planned_rates, 4)
    assert record.facts.label_smoothing == 0.1
    assert record.confusion == ((2, 1), (0, 0))
    assert record.sample_losses is not None
    assert record.sample_losses["b"][1] == 2
    assert record.ended == "stopped"


def test_a_run_that_was_killed_is_dead_and_a_held_one_is_running(tmp_path: Path) -> None:
    run = own_run(tmp_path, steps=2)
    (run / "diagnostics/run.json").write_text('{"tool": "espalier", "ended": "running"}')
    assert read_record(run).ended == "died"
    code = (
        f"import sys; from espalier.runs import RunDir\nwith RunDir({str(run)!r}).locked():\n"
        " print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        assert read_record(run).ended == "running"
        holder.communicate()
    assert read_record(run).ended == "died"


def test_steps_of_a_resumed_run_hold_what_was_written_later(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    steps = [StepSigns(s, loss=1.0) for s in range(1, 9)]
    lines(run / "diagnostics/steps.jsonl", [*steps, *(StepSigns(s, loss=2.0) for s in (5, 6))])
    record = read_record(run)
    assert [(s.step, s.loss) for s in record.steps] == [(s, 1.0 + (s > 4)) for s in range(1, 7)]


def test_a_long_run_of_ours_is_a_sample(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    rows = [
        StepSigns(s, loss=math.nan if s == 7_777 else 1.0, grad_norm=1.0) for s in range(1, 12_001)
    ]
    lines(run / "diagnostics/steps.jsonl", rows)
    found = read_record(run).steps
    assert len(found) <= 5_000
    assert [s.step for s in found[:20]] == list(range(1, 21))
    assert [s.step for s in found if math.isnan(s.loss)] == [7_777]
    assert found[-1].step == 12_000


def test_damaged_files_are_noted_and_the_rest_is_read(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    (run / "recipe.yaml").write_text("model: [")
    (run / "baseline.json").write_text("{")
    (run / "predictions").mkdir()
    (run / "predictions/val.parquet").write_bytes(b"PAR1 but not really")
    (run / "diagnostics/run.json").write_text(
        '{"tool": "espalier", "facts": {"batch": 8, "betas": 3}, "ended": "finished"}'
    )
    record = read_record(run)
    assert epochs(record) == [1, 2, 3, 4, 5, 6]
    assert (record.facts.batch, record.facts.train_counts) == (8, (20, 10))
    words = " ".join(record.notes)
    for part in ("betas", "recipe", "baseline", "val.parquet"):
        assert part in words


def test_a_record_of_decisions_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    (run / "diagnostics").mkdir(exist_ok=True)
    (run / "diagnostics/run.json").write_text('{"tool": "espalier", "facts": {"bat')
    assert any("run.json cannot be read" in note for note in read_record(run).notes)


@pytest.mark.parametrize("counts", [[[1, 2], [3]], [[1, 2, 3], [4, 5, 6]], [["a"]], [1, 2]])
def test_a_confusion_matrix_that_is_none_is_noted(tmp_path: Path, counts: list[object]) -> None:
    run = own_run(tmp_path)
    lines(run / "diagnostics/val_confusion.json", [{"epoch": 1, "counts": counts}])
    record = read_record(run)
    assert record.confusion is None
    assert any("val_confusion.json" in note for note in record.notes)


def test_signs_of_a_foreign_loop(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(
        '{"format": 1, "tool": "own loop", "facts": {"batch": 8}, "ended": "running"}'
    )
    lines(tmp_path / "train_diagnostics.jsonl", [{"epoch": 1, "step": 9, "loss": 1.0}])
    lines(tmp_path / "val_diagnostics.jsonl", [{"epoch": 1, "step": 9, "accuracy": 0.5}])
    record = read_record(tmp_path)
    assert (record.tool, record.ended, record.facts.batch) == ("own loop", "running", 8)
    assert (record.epochs[0].train_loss, record.epochs[0].val_accuracy) == (1.0, 0.5)


def test_runs_of_ours_in_one_folder_are_found_and_files_name_their_run(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    shutil.copytree(run, tmp_path / "second")
    (tmp_path / "latest").symlink_to("second")
    assert [entry.path.name for entry in find_records(tmp_path)] == ["run", "second"]
    assert read_record(run / "results.csv").path == str(run)
    assert read_record(tmp_path / "latest").tool == "espalier"


def test_a_run_without_an_epoch_says_wait(tmp_path: Path) -> None:
    run = own_run(tmp_path, steps=0)
    with pytest.raises(RunError, match="no finished epoch") as caught:
        read_record(run)
    assert "wait" in caught.value.hint


def test_reading_changes_nothing_in_the_folder(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    read_record(run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_null_is_a_lost_number_once_training_said_so(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    found = {"step": 3, "what": "loss", "value": "nan"}
    checks = {"first_non_finite": found, "weights_used": False, "weights_note": "off by half"}
    lines(run / "diagnostics/run.json", [{"tool": "espalier", "facts": {}, "checks": checks}])
    rows = [{"step": s, "loss": None if s in (1, 4) else 1.0} for s in range(1, 5)]
    lines(run / "diagnostics/steps.jsonl", rows)
    record = read_record(run)
    assert math.isnan(record.steps[0].loss)
    assert record.steps[3].loss == math.inf
    assert record.notes == (
        "step 3: loss is nan",
        "the loss did not use the class weights: off by half",
    )
