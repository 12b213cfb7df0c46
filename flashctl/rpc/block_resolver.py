"""Resolves a block reference to a streamed block or to the node: the only place that decides it.

A streamed block is referred to by the tag `pending` (the newest one), by its number, and by the zero hash
that its receipts state (again the newest, as nothing else distinguishes them). On a listener that shows the
preconfirmed block as the latest one, also by `latest`.
"""

from __future__ import annotations

from flashctl.ethrpc.block_methods import is_zero_hash
from flashctl.ethrpc.block_tags import BlockRef, Tag
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.visibility import Visibility

__all__ = ["BlockResolver"]


class BlockResolver:
    """Resolves block references for one listener."""

    def __init__(self, overlay: Overlay, showing: Visibility) -> None:
        self._overlay = overlay
        self._showing = showing

    def streamed(self, ref: BlockRef) -> PendingBlock | None:
        """The streamed block referred to; None if it is one of the node's."""
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
        """Whether it refers to the newest streamed block, which is the node's latest while nothing is
        pending."""
        return ref is Tag.PENDING or (ref is Tag.LATEST and self._showing.as_latest)
