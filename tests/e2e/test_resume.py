import hashlib
import signal
import time

import pytest
import torch

from espalier.files import read_rows
from espalier.runs import read_results

# Long enough to be killed in the middle of an epoch.
LONGER = ("--set", "training.accumulate=2", "--set", "loss.label_smoothing=0.1")


def digest(checkpoint):
    weights = torch.load(checkpoint, weights_only=True)["model"]
    parts = hashlib.sha256()
    for name in sorted(weights):
        parts.update(name.encode())
        parts.update(weights[name].numpy().tobytes())
    return parts.hexdigest()


def wait_for_steps(run, count, process):
    steps = run / "diagnostics" / "steps.jsonl"
    until = time.monotonic() + 120
    while len(read_rows(steps)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(tiny, start, quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    process = start("train", tiny, *quick, *LONGER, cwd=folder)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return folder / "runs" / "train" / "run"


def same_record(run, unbroken):
    assert digest(run / "checkpoints" / "last.pt") == digest(unbroken / "checkpoints" / "last.pt")
    assert digest(run / "checkpoints" / "best.pt") == digest(unbroken / "checkpoints" / "best.pt")
    for name in ("train_diagnostics", "val_diagnostics", "steps"):
        mine, other = (
            [
                {k: v for k, v in row.items() if k not in ("seconds", "wait_seconds")}
                for row in read_rows(path)
            ]
            for path in (
                run / "diagnostics" / f"{name}.jsonl",
                unbroken / "diagnostics" / f"{name}.jsonl",
            )
        )
        assert mine == other
    mine, other = read_results(run / "results.csv"), read_results(unbroken / "results.csv")
    assert [row.val_loss for row in mine] == [row.val_loss for row in other]


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_killed_at_any_moment_and_resumed_equals_never_killed(
    tiny, start, quick, unbroken, tmp_path, steps
):
    process = start("train", tiny, *quick, *LONGER, cwd=tmp_path)
    run = tmp_path / "runs" / "train" / "run"
    wait_for_steps(run, steps, process)
    process.kill()
    process.communicate()
    resumed = start("train", "--resume", run, cwd=tmp_path)
    _, err = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, err
    same_record(run, unbroken)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_saves_in_the_middle_of_an_epoch_and_names_the_resume_command(
    tiny, start, quick, unbroken, tmp_path, number, code
):
    process = start("train", tiny, *quick, *LONGER, cwd=tmp_path)
    run = tmp_path / "runs" / "train" / "run"
    wait_for_steps(run, 5, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "espalier train --resume" in err
    resumed = start("train", "--resume", run, cwd=tmp_path)
    _, err = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, err
    same_record(run, unbroken)


def test_a_finished_run_says_so_and_can_be_extended(tiny, espalier, quick, tmp_path):
    assert espalier("train", tiny, *quick).code == 0
    run = tmp_path / "runs" / "train" / "run"
    finished = espalier("train", "--resume", run)
    assert finished.code == 2
    assert "finished" in finished.err
    longer = espalier("train", "--resume", run, "--epochs", 6)
    assert longer.code == 0, longer.err
    assert [row.epoch for row in read_results(run / "results.csv")] == [1, 2, 3, 4, 5, 6]
    shorter = espalier("train", "--resume", run, "--epochs", 3)
    assert shorter.code == 2
    assert "epochs=3" in shorter.err


def test_what_cannot_change_is_refused_by_name(trained, espalier):
    folder, _ = trained
    answer = espalier("train", "--resume", folder, "--batch", "4", "--seed", "7")
    assert answer.code == 2
    assert "training.batch" in answer.err
    assert "training.seed" in answer.err


def test_a_run_in_use_is_not_resumed(tiny, start, quick, tmp_path):
    process = start("train", tiny, *quick, *LONGER, cwd=tmp_path)
    run = tmp_path / "runs" / "train" / "run"
    wait_for_steps(run, 2, process)
    process.send_signal(signal.SIGSTOP)
    try:
        second = start("train", "--resume", run, cwd=tmp_path)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "in use" in err
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()
