"""How many steps of a long run are kept: the first, an even part of the others, the broken ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EVERY_STEP_UNTIL = 20
MOST_STEPS = 5_000
MOST_NON_FINITE = 200


def evenly(moments: npt.NDArray[np.float64], room: int) -> npt.NDArray[np.float64]:
    """The first 20 of sorted moments and an even sample of the others, at most ``room`` in all."""
    if len(moments) <= room:
        return moments
    places = np.linspace(EVERY_STEP_UNTIL, len(moments) - 1, room - EVERY_STEP_UNTIL)
    return np.concatenate([moments[:EVERY_STEP_UNTIL], moments[places.astype(np.intp)]])
