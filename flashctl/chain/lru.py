"""A bounded memory of the last things looked at."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Recent"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(Generic[_K, _V]):
    """The last few values by key, up to a total weight; the one not asked for longest goes first.

    Threads share it: between finding an entry and moving it another could drop it, hence the lock.
    """

    def __init__(self, size: int) -> None:
        self._room = size
        self._lock = Lock()
        self._values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def put(self, key: _K, value: _V, weight: int = 1) -> None:
        with self._lock:
            if key in self._values:
                return
            self._values[key] = value, weight
            self._room -= weight
            while self._room < 0 and len(self._values) > 1:
                _, (_, freed) = self._values.popitem(last=False)
                self._room += freed
