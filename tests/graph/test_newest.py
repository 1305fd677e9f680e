"""A dictionary that forgets its oldest keys, also while several threads write to it."""

import threading

from workbench.graph.fuse.newest import Newest


def test_the_oldest_key_goes_and_a_known_one_keeps_its_place() -> None:
    known: Newest[str, int] = Newest(2)
    known["a"] = 1
    known["b"] = 2
    known["a"] = 3
    known["c"] = 4
    assert known == {"b": 2, "c": 4}
    known.forget("b")
    known.forget("b")
    assert known == {"c": 4}


def test_threads_at_once_leave_no_more_than_is_allowed() -> None:
    known: Newest[tuple[int, int], int] = Newest(8)
    failed: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for number in range(3000):
                known[thread, number] = number
                known.forget((thread, number - 3))
        except Exception as error:  # noqa: BLE001 - told to the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert len(known) <= 8
