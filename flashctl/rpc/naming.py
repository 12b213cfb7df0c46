"""Which block a caller means: one of the stream's, or one that the node knows. The one place that decides it.

A streamed block is named by the tag `pending` (the newest of them), by its number, and by the hash of zeros
that its receipts state (the newest again: there is nothing else to tell them apart by). Where a listener
shows the preconfirmed block as the latest one, `latest` names it, too.
"""

from __future__ import annotations

from flashctl.ethrpc.block_methods import is_zero_hash
from flashctl.ethrpc.block_tags import BlockRef, Tag
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.showing import Showing

__all__ = ["Naming"]


class Naming:
    """See the module docstring."""

    def __init__(self, overlay: Overlay, showing: Showing) -> None:
        self._overlay = overlay
        self._showing = showing

    def streamed(self, ref: BlockRef) -> PendingBlock | None:
        """The streamed block that is meant; None if it is one of the node's."""
        view = self._overlay.view
        if view is None:
            return None
        if self.is_latest(ref):
            return view.latest
        if not self._showing.by_name:
            return None
        if is_zero_hash(ref):
            return view.latest
        if isinstance(ref, int):
            return next((block for block in view.blocks if block.number == ref), None)
        return None

    def is_latest(self, ref: BlockRef) -> bool:
        """Whether the newest streamed block is meant; while nothing is pending, it is the node's latest."""
        return ref is Tag.PENDING or (ref is Tag.LATEST and self._showing.as_latest)
