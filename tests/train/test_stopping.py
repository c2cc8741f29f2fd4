from __future__ import annotations

import json
import math

import pytest

from espalier.train.stopping import EarlyStopping


def test_stops_after_patience_epochs_without_gain() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.0, monitor="macro_f1")
    assert [stopping.step(x) for x in (0.5, 0.6, 0.6, 0.59)] == [False, False, False, True]
    assert stopping.best_score == 0.6


def test_a_gain_starts_the_count_again() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.0, monitor="accuracy")
    assert not any(stopping.step(x) for x in (0.5, 0.4, 0.6, 0.5, 0.7, 0.1))
    assert not stopping.improved
    assert stopping.best_score == 0.7


def test_loss_gains_by_falling() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.0, monitor="loss")
    seen = []
    for loss in (1.0, 0.8, 0.9):
        stopping.step(loss)
        seen.append(stopping.improved)
    assert seen == [True, True, False]
    assert stopping.best_score == 0.8


@pytest.mark.parametrize(("monitor", "sign"), [("macro_f1", 1), ("loss", -1)])
def test_a_gain_must_exceed_min_delta(monitor: str, sign: int) -> None:
    stopping = EarlyStopping(patience=9, min_delta=0.25, monitor=monitor)  # type: ignore[arg-type]
    gains = []
    for value in (0.0, 0.25, 0.5, 0.6):
        stopping.step(sign * value)
        gains.append(stopping.improved)
    assert gains == [True, False, True, False]


def test_nan_is_no_gain_and_never_the_best() -> None:
    stopping = EarlyStopping(patience=3, min_delta=0.0, monitor="macro_f1")
    assert [stopping.step(math.nan), stopping.step(0.1), stopping.step(math.nan)] == [False] * 3
    assert stopping.best_score == 0.1
    assert stopping.epochs_without_gain == 1


def test_without_patience_it_never_stops() -> None:
    stopping = EarlyStopping(patience=None, min_delta=0.0, monitor="macro_f1")
    assert not any(stopping.step(0.1) for _ in range(100))


def test_a_resumed_one_goes_on_as_if_never_stopped() -> None:
    scores = (0.2, 0.5, 0.4, 0.45, 0.3)
    whole = EarlyStopping(patience=3, min_delta=0.0, monitor="macro_f1")
    wanted = [whole.step(x) for x in scores]
    for cut in range(len(scores)):
        first = EarlyStopping(patience=3, min_delta=0.0, monitor="macro_f1")
        got = [first.step(x) for x in scores[:cut]]
        second = EarlyStopping(patience=3, min_delta=0.0, monitor="macro_f1")
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert got + [second.step(x) for x in scores[cut:]] == wanted
        assert second.best_score == whole.best_score
