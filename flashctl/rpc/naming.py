"""Which block a caller means: one of the stream's, or one that the node knows. The one place that decides it.

A streamed block is named by the tag `pending` (the newest of them), by its number, and by the hash of zeros
that its receipts state (the newest again: there is nothing else to tell them apart by).
"""

from __future__ import annotations

from flashctl.chain.block_methods import is_zero_hash
from flashctl.chain.blocktag import BlockRef, Tag
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.overlay import Overlay

__all__ = ["Naming"]


class Naming:
    """See the module docstring."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def streamed(self, ref: BlockRef) -> PendingBlock | None:
        """The streamed block that is meant; None if it is one of the node's."""
        view = self._overlay.view
        if view is None:
            return None
        if ref is Tag.PENDING or is_zero_hash(ref):
            return view.latest
        if isinstance(ref, int):
            return next((block for block in view.blocks if block.number == ref), None)
        return None

    def is_latest(self, ref: BlockRef) -> bool:
        """Whether the node is to be asked for its latest block, though the caller named it otherwise:
        nothing is pending."""
        return ref is Tag.PENDING
