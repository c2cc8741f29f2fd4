"""Espalier trains image classifiers on your own photographs, in stages, with all on record.

The public names load on first use, so that ``import espalier`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espalier.api import (
        check_training,
        diagnose_run,
        evaluate_run,
        predict_images,
        read_history,
        resume_run,
        train_classifier,
        treat_run,
    )
    from espalier.errors import EspalierError
    from espalier.runs import RunDir
    from espalier.vitals.own_loop import Vitals

__all__ = [
    "EspalierError",
    "RunDir",
    "Vitals",
    "check_training",
    "diagnose_run",
    "evaluate_run",
    "predict_images",
    "read_history",
    "resume_run",
    "train_classifier",
    "treat_run",
]

_HOMES = {
    "EspalierError": "espalier.errors",
    "RunDir": "espalier.runs",
    "Vitals": "espalier.vitals.own_loop",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'espalier' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "espalier.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
