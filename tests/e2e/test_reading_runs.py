"""Commands that read a run: what they must refuse, and what they must not load."""

import shutil
import subprocess
import sys


def test_evaluate_refuses_a_mapping_that_is_not_the_weights(trained, espalier, tmp_path):
    folder, _ = trained
    copy = shutil.copytree(folder, tmp_path / "copy")
    table = copy / "catalog.csv"
    table.write_text(table.read_text().replace("class_1", "zz"))
    answer = espalier("evaluate", copy)
    assert answer.code == 2
    assert "1: class_1 -> zz" in answer.err


def test_a_run_is_drawn_without_torch(trained, tmp_path):
    folder, _ = trained
    code = f"""
import sys
from pathlib import Path
from espalier import usage
usage.plot(Path({str(folder)!r}), Path("one.png"))
usage.compare([Path({str(folder)!r})] * 2, Path("two.png"))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
    assert (tmp_path / "two.png").exists()
