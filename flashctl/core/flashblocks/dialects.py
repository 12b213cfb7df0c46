"""What a published flashblock carries beyond the fields that every consumer needs, one object a dialect.

    op-rbuilder   block number, balances and receipts in the metadata (flashbots/op-rbuilder)
    base          block number and the id of the message before, so that a reader notices a hole (base/base)
    subblocks     op-rbuilder's, with the diff fields that ethereum-optimism/specs specs/protocol/subblocks.md
                  declares unavailable set to zero
    full          everything that the flashblock holds, unknown fields too

A new dialect is a new object here and a new value of `--flashblocks.dialect`; nothing else asks for its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["BASE", "DIALECTS", "FULL", "OP_RBUILDER", "SUBBLOCKS", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which optional parts a message has."""

    name: str
    always: Mapping[str, Any]
    """Metadata that every message has, with what stands there where a flashblock holds none."""
    if_held: tuple[str, ...] = ()
    """Metadata that is written where the flashblock holds it."""
    keeps_unknown: bool = False
    """Whether metadata that flashctl does not define is written."""
    has_roots: bool = True
    """Whether state root, block hash, withdrawals and their root are included."""

    def carries(self, name: str) -> bool:
        """Whether messages may have this metadata: what no message has need not be computed."""
        return name in self.always or name in self.if_held


_RECEIPTS: Final[Mapping[str, Any]] = MappingProxyType({"new_account_balances": {}, "receipts": {}})

OP_RBUILDER: Final = Dialect("op-rbuilder", _RECEIPTS)
BASE: Final = Dialect("base", MappingProxyType({"prev_flashblock_id": "0-0"}))
SUBBLOCKS: Final = Dialect("subblocks", _RECEIPTS, has_roots=False)
FULL: Final = Dialect(
    "full",
    MappingProxyType({}),
    if_held=("new_account_balances", "receipts", "prev_flashblock_id"),
    keeps_unknown=True,
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {dialect.name: dialect for dialect in (OP_RBUILDER, BASE, SUBBLOCKS, FULL)}
)
"""By name."""
