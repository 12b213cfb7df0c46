"""Blocks as a chain returns them, and the change of its head as an event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from flashctl.eth.blocks import Block, Header
from flashctl.eth.receipts import Receipt
from flashctl.op.envelope import TxEnvelope

__all__ = ["BranchBlocks", "ChainBlock", "HeadChange"]


@dataclass(frozen=True, slots=True)
class ChainBlock:
    """A kept block with decoded transactions and their receipts."""

    block: Block
    envelopes: tuple[TxEnvelope, ...]
    receipts: tuple[Receipt, ...]

    @property
    def header(self) -> Header:
        """Of the block."""
        return self.block.header

    @property
    def hash(self) -> bytes:
        """Of the block."""
        return self.block.header.hash

    @property
    def number(self) -> int:
        """Of the block."""
        return self.block.header.number


class BranchBlocks(Sequence[ChainBlock]):
    """Blocks of a stretch of a branch, read when they are looked at: a node that catches up changes its
    head by thousands of blocks at once, too many to hold in memory.
    """

    def __init__(self, hashes: Sequence[bytes], read: Callable[[bytes], ChainBlock]) -> None:
        self._hashes = hashes
        self._read = read

    def __len__(self) -> int:
        return len(self._hashes)

    @overload
    def __getitem__(self, index: int) -> ChainBlock: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ChainBlock]: ...
    def __getitem__(self, index: int | slice) -> ChainBlock | Sequence[ChainBlock]:
        if isinstance(index, slice):
            return BranchBlocks(self._hashes[index], self._read)
        return self._read(self._hashes[index])


@dataclass(frozen=True, slots=True)
class HeadChange:
    """What one `set_head` did to the canonical branch."""

    old: Sequence[ChainBlock]
    """Blocks no longer canonical, from the old head down."""

    new: Sequence[ChainBlock]
    """Blocks now canonical, up to the new head."""

    head: Header
    """The head now."""
