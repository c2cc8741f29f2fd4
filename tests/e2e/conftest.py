import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from espalier.cli import main
from espalier.data.synthetic.tiny import write_tiny

# A recipe that learns the tiny pictures in seconds: three short stages of a small network.
QUICK = (
    "--model", "small-cnn", "--weights", "none", "--imgsz", "32", "--batch", "8", "--epochs", "4",
    "--augment", "light", "--precision", "fp32", "--workers", "1",
    "--set", "training.threads=1", "--set", "training.channels_last=true",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def quick():
    """Flags of a recipe that learns the tiny pictures in seconds."""
    return QUICK


@pytest.fixture(scope="session")
def start():
    """Starts a command line as a process of its own."""
    return start_process


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return write_tiny(
        tmp_path_factory.mktemp("tiny") / "photos", classes=3, per_class=16, imgsz=40, seed=0
    )


@pytest.fixture
def espalier(capfd, tmp_path, monkeypatch):
    """Runs a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capfd.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, said.out, said.err)

    return run


def start_process(*words, cwd, **environment):
    """Starts a command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from espalier.cli import main; main()", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background makes them deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A finished run on the tiny pictures; tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    process = start_process("train", tiny, *QUICK, "--name", "first", "--json", cwd=folder)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return Path(folder) / "runs" / "train" / "first", json.loads(out)
