"""A queue for every client, and all of them served in turn.

Turns go round twice: over addresses, and within an address over its connections. So a party with a thousand
connections waits beside the others like one with a single connection, and programs on one machine, or behind
one load balancer, still do not wait for each other's backlog.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from flashctl.core.jsonrpc.caller import Caller

__all__ = ["FairQueue"]

_T = TypeVar("_T")

_Lines = OrderedDict[int, deque[_T]]


class FairQueue(Generic[_T]):
    """Items by client; each `pop` takes the next of another one."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, _Lines[_T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: _T, client: Caller, *, front: bool = False) -> None:
        """Put an item at the end of its client's line, or at its front if it was out of it already."""
        lines = self._addresses.setdefault(client.address, OrderedDict())
        line = lines.setdefault(client.connection, deque())
        if front:
            line.appendleft(item)
        else:
            line.append(item)
        self._size += 1

    def pop(self) -> _T | None:
        """The next item of the client whose turn it is; None if the queue is empty."""
        if not self._addresses:
            return None
        address, lines = self._addresses.popitem(last=False)
        connection, line = lines.popitem(last=False)
        item = line.popleft()
        self._size -= 1
        if line:
            lines[connection] = line
        if lines:
            self._addresses[address] = lines
        return item

    def remove(self, item: _T, client: Caller) -> None:
        """Take an item out, wherever in its client's line it is; nothing if it is not there."""
        lines = self._addresses.get(client.address, OrderedDict())
        line = lines.get(client.connection)
        if line is None or item not in line:
            return
        line.remove(item)
        self._size -= 1
        if not line:
            del lines[client.connection]
        if not lines:
            del self._addresses[client.address]
