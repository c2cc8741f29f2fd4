import os
import signal

import pytest

from espalier.train.interrupts import Interrupts


@pytest.fixture(autouse=True)
def usual_handler():
    """A shell in the background starts its commands with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_obeyed():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_time_is_up_when_the_reserve_no_longer_fits():
    interrupts = Interrupts(time_limit=100)
    assert not interrupts.time_is_up()
    assert interrupts.time_is_up(reserve=200)
    assert not Interrupts().time_is_up(reserve=1e9)
