"""What the methods about blocks answer of a streamed one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flashctl.core.net.upstream_errors import InvalidAnswer
from flashctl.eth.blocks import encode_header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.receipts import encode_receipt
from flashctl.ethrpc.block_api import raw_block_hex
from flashctl.ethrpc.fee_api import MAX_BLOCKS, history_json, percentiles_param
from flashctl.ethrpc.params import bool_param, quantity_param
from flashctl.ethrpc.resolve import BlockView
from flashctl.ethrpc.rpc_json import PENDING_HASH, header_json
from flashctl.rpc.block_dispatch import Served
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.node import Node
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.views import (
    pending_block_json,
    pending_block_receipts_json,
    pending_header,
    pending_transaction_json,
)

__all__ = ["BlockAnswers"]


class BlockAnswers:
    """See the module docstring."""

    def __init__(self, overlay: Overlay, node: Node) -> None:
        self._overlay = overlay
        self._node = node

    def served(self) -> Iterator[tuple[str, Served]]:
        """Names and answers."""
        for way in ("ByNumber", "ByHash"):
            yield f"eth_getBlock{way}", self.block
            yield f"eth_getHeader{way}", self.header
            yield f"eth_getBlockTransactionCount{way}", self.count
            yield f"eth_getUncleCountByBlock{way.removeprefix('By')}", self.uncle_count
            name = f"Block{way.removeprefix('By')}AndIndex"
            yield f"eth_getUncleBy{name}", self.uncle
            yield f"eth_getTransactionBy{name}", self.transaction
            yield f"eth_getRawTransactionBy{name}", self.raw_transaction
        yield "eth_getBlockReceipts", self.receipts
        yield "debug_getRawBlock", self.raw_block
        yield "debug_getRawHeader", self.raw_header
        yield "debug_getRawReceipts", self.raw_receipts
        yield "eth_feeHistory", self.fee_history

    async def block(self, block: PendingBlock, params: list[Any]) -> Any:
        return pending_block_json(block, full=bool_param(params, 1, False))

    async def header(self, block: PendingBlock, params: list[Any]) -> Any:
        return header_json(pending_header(block), PENDING_HASH)

    async def count(self, block: PendingBlock, params: list[Any]) -> str:
        return quantity(len(block.envelopes))

    async def uncle_count(self, block: PendingBlock, params: list[Any]) -> str:
        return "0x0"

    async def uncle(self, block: PendingBlock, params: list[Any]) -> None:
        """There is none in any block of the OP Stack."""
        quantity_param(params, 1, "index")

    async def transaction(self, block: PendingBlock, params: list[Any]) -> Any:
        index = quantity_param(params, 1, "index")
        return pending_transaction_json(block, index) if index < len(block.envelopes) else None

    async def raw_transaction(self, block: PendingBlock, params: list[Any]) -> str:
        index = quantity_param(params, 1, "index")
        return to_hex(block.envelopes[index].raw) if index < len(block.envelopes) else "0x"

    async def receipts(self, block: PendingBlock, params: list[Any]) -> Any:
        return pending_block_receipts_json(block)

    async def raw_block(self, block: PendingBlock, params: list[Any]) -> str:
        """As it would be if what was streamed so far were the whole."""
        return raw_block_hex(_view(block))

    async def raw_header(self, block: PendingBlock, params: list[Any]) -> str:
        return to_hex(encode_header(pending_header(block)))

    async def raw_receipts(self, block: PendingBlock, params: list[Any]) -> list[str]:
        return [to_hex(encode_receipt(receipt)) for receipt in block.receipts]

    async def fee_history(self, block: PendingBlock, params: list[Any]) -> Any:
        """The streamed blocks up to the one that is named, behind what the node tells of those below."""
        count = min(quantity_param(params, 0, "block count"), MAX_BLOCKS)
        percentiles = percentiles_param(params)
        if count == 0:
            return {"oldestBlock": "0x0", "gasUsedRatio": []}
        view = self._overlay.view
        blocks = [] if view is None else [each for each in view.blocks if each.number < block.number]
        shown = [*blocks, block][-count:]
        ours = history_json(block.config, list(map(_view, shown)), percentiles)
        left = min(count - len(shown), shown[0].number)
        if not left:
            return ours
        asked = [quantity(left), quantity(shown[0].number - 1), *([percentiles] if percentiles else [])]
        return _joined(await self._node.client.call("eth_feeHistory", asked), ours)


def _view(block: PendingBlock) -> BlockView:
    return BlockView(pending_header(block), block.envelopes, block.receipts, True)


def _joined(below: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Two histories, one after the other; the last base fee of the first is the first one of the second."""
    joined = {**ours}
    try:
        joined["oldestBlock"] = below["oldestBlock"]
        for name, behind in (
            ("baseFeePerGas", 1),
            ("baseFeePerBlobGas", 1),
            ("gasUsedRatio", 0),
            ("blobGasUsedRatio", 0),
            ("reward", 0),
        ):
            if name in ours:
                told = below.get(name) or []
                joined[name] = [*told[: len(told) - behind], *ours[name]]
    except (KeyError, TypeError, AttributeError):
        raise InvalidAnswer("eth_feeHistory is answered with something else") from None
    count = len(joined["gasUsedRatio"])
    for name in ("baseFeePerBlobGas", "blobGasUsedRatio"):
        # A node of before EIP-4844 has none of these: half a list would be read as that of other blocks.
        if len(joined[name]) != count + (name == "baseFeePerBlobGas"):
            del joined[name]
    return joined
