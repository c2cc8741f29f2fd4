"""mldoct as installed from the package index, in an environment of its own, on our curves.

Its ``diagnose`` reads a table of train_loss, val_loss and grad_norm per epoch.
"""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from espalier.run_record import RunRecord

MEANS: dict[str, tuple[str, ...]] = {
    "exploding_gradients": ("exploding_gradients", "learning_rate_too_high"),
    "vanishing_gradients": ("vanishing_gradients", "saturated_units"),
    "high_variance_batch": ("batch_too_small", "learning_rate_noisy"),
    "label_noise": ("label_noise", "labels_shuffled", "pair_flips"),
    "lr_too_high": ("learning_rate_too_high", "learning_rate_noisy"),
    "lr_too_low": ("learning_rate_too_low", "decayed_too_early"),
    "missing_zero_grad": ("gradients_not_cleared",),
    "overfitting": ("overfitting", "overtrained"),
    "underfitting": ("underfitting", "under_capacity", "learning_rate_too_low"),
}
HEALTHY = "healthy"
ASK = """
import json, sys
from mldoctor.advisor import diagnose_csv
found = {}
for path in sys.argv[1:]:
    try:
        found[path] = str(diagnose_csv(path)["label"])
    except Exception as error:
        found[path] = f"error: {type(error).__name__}: {error}"
print(json.dumps(found))
"""


def diagnoses(python: str, records: Sequence[RunRecord | None]) -> list[str]:
    """Its word on each record; ``error: ...`` where it fails, empty without a record.

    Raises:
        OSError: There is no such Python.
        subprocess.CalledProcessError: mldoct is not installed there.
    """
    with tempfile.TemporaryDirectory() as place:
        tables = [
            _table(record, Path(place) / f"{i}.csv") for i, record in enumerate(records) if record
        ]
        asked = [python, "-W", "ignore", "-c", ASK, *map(str, tables)]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        found: Mapping[str, str] = json.loads(told.strip().splitlines()[-1])
        return [found.get(str(Path(place) / f"{i}.csv"), "") for i in range(len(records))]


def _table(record: RunRecord, path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["epoch", "train_loss", "val_loss", "grad_norm"])
        for e in record.epochs:
            out.writerow([e.epoch, e.train_loss, e.val_loss, e.mean_grad_norm])
    return path
