"""Something made once for each of the last few objects, told apart by identity and not by content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from flashctl.lru import Lru

__all__ = ["ByIdentity"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class ByIdentity(Generic[_K, _V]):
    """What `make` makes of an object, remembered for the last `size` objects. For one thread.

    The object is kept as long as it is remembered, so no other can have its id meanwhile.
    """

    def __init__(self, make: Callable[[_K], _V], size: int = 64) -> None:
        self._make = make
        self._known = Lru[int, tuple[_K, _V]](size)

    def of(self, key: _K) -> _V:
        """The object's."""
        return self._known.obtain(id(key), lambda: (key, self._make(key)))[1]
