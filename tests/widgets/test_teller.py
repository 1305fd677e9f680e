"""News told from another thread: the first at once, the next after a pause; nobody waits."""

import threading
import time
from itertools import pairwise

from workbench.widgets._teller import Teller


def test_the_first_is_told_at_once_and_then_no_more_often_than_asked() -> None:
    told, first = [], threading.Event()

    def tell() -> None:
        told.append(time.monotonic())
        first.set()

    with Teller(tell, 0.2) as teller:
        teller.hint()
        assert first.wait(10)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            teller.hint()
            time.sleep(0.01)
    gaps = [b - a for a, b in pairwise(told)]
    assert gaps
    assert min(gaps) >= 0.2


def test_who_hints_does_not_wait_and_nothing_is_told_after_the_end() -> None:
    slow, told = threading.Event(), []

    def tell() -> None:
        slow.wait(60)
        told.append(0)

    with Teller(tell, 0) as teller:
        for _ in range(1000):
            teller.hint()
        assert told == []
        slow.set()
    count = len(told)
    assert count <= 2
    teller.hint()
    time.sleep(0.05)
    assert len(told) == count
