import os
import subprocess
import sys

import torch

LIMITED = """
import resource, sys
from espalier.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
main(sys.argv[2:])
"""


def test_a_disk_that_fills_up_ends_with_one_message_and_the_last_checkpoint_whole(
    tiny, quick, start, tmp_path
):
    # No file may grow beyond this: the first checkpoint fits, those with moments of Adam do not.
    process = subprocess.run(
        [sys.executable, "-c", LIMITED, "8000000", "train", str(tiny), *quick, "--epochs", "3",
         "--set", "stages=[{name: all, train: all, epochs: 3, lr: 1e-3}]"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert process.returncode == 2, process.stderr
    assert "best.pt: File too large" in process.stderr
    assert "try: free some space there, then: espalier train --resume" in process.stderr
    assert "Traceback" not in process.stderr
    run = tmp_path / "runs" / "train" / "run"
    assert torch.load(run / "checkpoints" / "last.pt", weights_only=True)["step"] == 0
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["last.pt"]
    again = start("train", "--resume", run, "--json", cwd=tmp_path)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert len((run / "results.csv").read_text().splitlines()) == 4
