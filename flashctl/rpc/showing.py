"""What a listener of the overlay shows of what is preconfirmed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["SEALED_ONLY", "Latest", "Showing", "showing"]


class Latest(StrEnum):
    """What `latest` means."""

    SEALED = "sealed"
    """The node's head, as on Base's nodes: what is preconfirmed is `pending`, and found by its hash."""

    PRECONFIRMED = "preconfirmed"
    """The newest preconfirmed block, in everything: number, state, nonces, calls, logs, new heads."""


@dataclass(frozen=True, slots=True)
class Showing:
    """The same as two flags. `pending` means the newest preconfirmed block in any case."""

    as_latest: bool
    """Whether `latest`, the head's number and questions without a block are about it, too."""

    by_name: bool
    """Whether preconfirmed transactions and receipts are found by hash, and their blocks by number."""


_SHOWINGS: Final = {Latest.SEALED: Showing(False, True), Latest.PRECONFIRMED: Showing(True, True)}

SEALED_ONLY: Final = Showing(False, False)
"""Nothing before it is sealed, unless `pending` is asked about: for tools that take a receipt for a block."""


def showing(latest: Latest) -> Showing:
    """What a listener with this `--latest` shows."""
    return _SHOWINGS[latest]
