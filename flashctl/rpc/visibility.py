"""How a listener of the overlay exposes preconfirmed state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["SEALED_ONLY", "Latest", "Visibility", "showing"]


class Latest(StrEnum):
    """The meaning of `latest`."""

    SEALED = "sealed"
    """The node's head, as on Base's nodes: preconfirmed state is `pending`, and found by hash."""

    PRECONFIRMED = "preconfirmed"
    """The newest preconfirmed block, in everything: number, state, nonces, calls, logs, new heads."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """The same as two flags. `pending` is the newest preconfirmed block in any case."""

    as_latest: bool
    """Whether `latest`, eth_blockNumber and calls without a block also refer to it."""

    by_name: bool
    """Whether preconfirmed transactions and receipts are found by hash, and their blocks by number."""


_SHOWINGS: Final = {Latest.SEALED: Visibility(False, True), Latest.PRECONFIRMED: Visibility(True, True)}

SEALED_ONLY: Final = Visibility(False, False)
"""Sealed state only, unless `pending` is given: for tools that take a receipt as proof of a block."""


def showing(latest: Latest) -> Visibility:
    """The visibility of a listener with this `--latest`."""
    return _SHOWINGS[latest]
