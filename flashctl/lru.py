"""A mapping that holds so many entries and no more: every memory of what others send is one of these.

headers = Lru[bytes, Header](64)
headers.put(block_hash, header)         # the newest from here on; the oldest makes room
headers.get(block_hash)                 # a use: the newest again
headers.peek(block_hash)                # not a use: with `peek` alone the oldest entry leaves first
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Lru"]

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """The entries used last, up to `capacity`: their number, or their weight with a `weigh`.

    Iteration is over the keys, the next to be evicted first. Threads may share one: between finding an entry
    and moving it to the end another thread could evict it, hence the lock.
    """

    __slots__ = ("_capacity", "_entries", "_lock", "_on_evicted", "_weigh", "_weight")

    def __init__(
        self,
        capacity: int,
        *,
        weigh: Callable[[V], int] | None = None,
        on_evicted: Callable[[K, V], object] | None = None,
    ) -> None:
        """
        Args:
            capacity: at least 1. The entry put last stays whatever it weighs.
            weigh: what a value counts against the capacity; must give the same as long as it is held.
            on_evicted: told of each entry that made room, not of those that `pop` or `clear` took out.
        """
        self._capacity = capacity
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()
        self._weigh = weigh
        self._weight = 0
        self._on_evicted = on_evicted

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._entries))

    def __repr__(self) -> str:
        return f"<Lru {self.weight}/{self._capacity}>"

    @property
    def weight(self) -> int:
        """What the entries count together: their number, without `weigh`."""
        return len(self._entries) if self._weigh is None else self._weight

    @property
    def oldest(self) -> tuple[K, V] | None:
        """The entry to be evicted next; None if there is none."""
        with self._lock:
            return next(iter(self._entries.items()), None)

    def get(self, key: K) -> V | None:
        """The value, which has thereby been used; None if it is not held."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def peek(self, key: K) -> V | None:
        """The value, whose turn to be evicted stays what it was; None if it is not held."""
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        """Hold `value` as the newest entry, in place of what `key` had; evict what there is no room for."""
        evicted: list[tuple[K, V]] = []
        with self._lock:
            self._take(key)
            self._entries[key] = value
            if self._weigh is not None:
                self._weight += self._weigh(value)
            while self.weight > self._capacity and len(self._entries) > 1:
                oldest, old = self._entries.popitem(last=False)
                if self._weigh is not None:
                    self._weight -= self._weigh(old)
                evicted.append((oldest, old))
        if self._on_evicted is not None:
            for oldest, old in evicted:
                self._on_evicted(oldest, old)

    def obtain(self, key: K, make: Callable[[], V]) -> V:
        """The value, used thereby; `make` makes it if it is not held."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

    def pop(self, key: K) -> V | None:
        """The value, held no longer; None if it was not."""
        with self._lock:
            return self._take(key)

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._entries.clear()
            self._weight = 0

    def items(self) -> list[tuple[K, V]]:
        """All entries, the next to be evicted first."""
        return list(self._entries.items())

    def values(self) -> list[V]:
        """Their values, in the same order."""
        return list(self._entries.values())

    def _take(self, key: K) -> V | None:
        value = self._entries.pop(key, None)
        if value is not None and self._weigh is not None:
            self._weight -= self._weigh(value)
        return value
