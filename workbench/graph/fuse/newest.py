"""What is remembered of the inputs that came last, by several threads at once."""

from threading import Lock
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Newest(dict[K, V]):
    """A dictionary of at most `most` keys: where one more comes, the oldest goes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self._changing = Lock()

    def __setitem__(self, key: K, value: V) -> None:
        with self._changing:
            super().__setitem__(key, value)
            if len(self) > self.most:
                super().__delitem__(next(iter(self)))

    def forget(self, key: K) -> None:
        """Take out `key`, if another thread has not."""
        with self._changing:
            super().pop(key, None)  # type: ignore[call-overload]
