"""Decoding of the builder's frames to flashblocks, at a cost bounded whatever the frame holds.

A builder may send 16 MB at a time, compressed to less. Such frames are decoded in a thread, one after the
other, and those with more values or transactions than any block has are refused before they are parsed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from flashctl.boost.obligations import MAX_TRANSACTIONS
from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.wire import Flashblock, InvalidFlashblock, Metadata
from flashctl.core.jsonrpc.json_bounds import LARGE_BYTES, MAX_VALUES, count_values

__all__ = ["FrameReader", "decode"]


def decode(data: bytes, *, binary: bool) -> Flashblock:
    """The flashblock in a frame, without metadata and unknown fields: they are no part of the block, and
    subscribers get them in the original frame.

    Raises:
        InvalidFlashblock: If the frame is no flashblock, or exceeds what any block can hold.
    """
    text = wire.unpack(data, binary=binary)
    if count_values(text) > MAX_VALUES:
        raise InvalidFlashblock(f"more than {MAX_VALUES} values")
    message = wire.parse_object(text)
    diff = message.get("diff")
    transactions = diff.get("transactions") if isinstance(diff, dict) else None
    if isinstance(transactions, list) and len(transactions) > MAX_TRANSACTIONS:
        raise InvalidFlashblock(f"more than {MAX_TRANSACTIONS} transactions", "diff.transactions")
    flashblock = wire.from_object(message)
    return replace(flashblock, metadata=Metadata(flashblock.metadata.block_number), extra={})


class FrameReader:
    """Decodes frames in order, the heavy ones in a thread."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    async def read(self, data: bytes, *, binary: bool) -> Flashblock:
        """As `decode`, without blocking the event loop for a heavy frame."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "flashblock frames")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: decode(data, binary=binary))

    @staticmethod
    def is_heavy(data: bytes, *, binary: bool) -> bool:
        """Whether a frame is large, or may decompress to a large one."""
        return len(data) > LARGE_BYTES or (binary and data[:1] != b"{")

    def close(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
