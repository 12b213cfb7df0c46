"""Something made once for each of the last few objects, told apart by identity and not by content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ByIdentity"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class ByIdentity(Generic[_K, _V]):
    """What `make` makes of an object, remembered for the last `size` objects. For one thread.

    The object is kept as long as it is remembered, so no other can have its id meanwhile.
    """

    def __init__(self, make: Callable[[_K], _V], size: int = 64) -> None:
        self._make = make
        self._size = size
        self._known: OrderedDict[int, tuple[_K, _V]] = OrderedDict()

    def of(self, key: _K) -> _V:
        """The object's."""
        known = self._known.get(id(key))
        if known is not None:
            return known[1]
        value = self._make(key)
        self._known[id(key)] = key, value
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return value
