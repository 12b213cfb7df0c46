"""How much may wait in a service, of all clients and of one address.

Where only the total is bounded, one sender fills the line and all others are refused: one address may hold a
part of it. Addresses that hold nothing take no memory.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["AddressQuota"]


class AddressQuota:
    """Counts items, and their bytes where those are bounded too, in all and by address."""

    def __init__(
        self,
        items: int,
        items_per_address: int,
        *,
        size: int | None = None,
        size_per_address: int | None = None,
    ) -> None:
        """Nothing is held.

        Args:
            items: Most of all addresses together.
            items_per_address: Most of one.
            size: Most bytes of all items; None for no bound.
            size_per_address: Most bytes of one address's items; None for no bound.
        """
        self._most: Final = (items, size)
        self._most_per_address: Final = (items_per_address, size_per_address)
        self._items = 0
        self._size = 0
        self._items_of: Counter[str] = Counter()
        self._size_of: Counter[str] = Counter()

    def take(self, address: str, size: int = 0) -> bool:
        """Count an item of `size` bytes in; False, and nothing is counted, if there is no room for it."""
        own = (self._items_of[address] + 1, self._size_of[address] + size)
        if not _fits((self._items + 1, self._size + size), self._most) or not _fits(
            own, self._most_per_address
        ):
            return False
        self._items += 1
        self._size += size
        self._items_of[address], self._size_of[address] = own
        return True

    def give_back(self, address: str, size: int = 0, *, items: int = 1) -> None:
        """Count items out that were taken, with their bytes together."""
        self._items -= items
        self._size -= size
        self._items_of[address] -= items
        self._size_of[address] -= size
        if not self._items_of[address]:
            del self._items_of[address], self._size_of[address]


def _fits(held: tuple[int, int], most: tuple[int, int | None]) -> bool:
    return held[0] <= most[0] and (most[1] is None or held[1] <= most[1])
