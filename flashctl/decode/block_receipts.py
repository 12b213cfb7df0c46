"""Blocks and receipts of one input held against each other: receipts root, bloom, gas, and what each receipt
says of its transaction.

Either may come first. JSON receipts name their block; raw ones (`debug_getRawReceipts`) belong to the block
before them, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flashctl.core.output import counted
from flashctl.decode.commitments import receipt_of_object
from flashctl.errors import DataError
from flashctl.eth.blocks import Header
from flashctl.eth.bloom import merge
from flashctl.eth.hexdata import parse_quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Receipt, encode_receipt
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import InvalidTransaction
from flashctl.ethrpc.rpc_json import ReceiptContext, TxPosition, receipt_json
from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope
from flashctl.op.forks import OpFork

__all__ = ["BlockMemory"]

_BLOCKS: Final = 8
"""Remembered at once; a stream of blocks with their receipts needs one."""

_EARLY_RECEIPTS: Final = 16_384
"""Receipts that may wait for their block."""


@dataclass(slots=True)
class _Block:
    hash: str
    header: Header
    tx_hashes: Sequence[str]
    raws: Sequence[bytes] | None
    receipts: dict[int, Receipt] = field(default_factory=dict)
    raw_receipts: int = 0
    """How many came without a place of their own."""


class BlockMemory:
    """The blocks seen last, and the receipts that wait for theirs."""

    def __init__(self) -> None:
        self._blocks = Lru[str, _Block](_BLOCKS)
        self._newest: _Block | None = None
        self._early: list[Mapping[str, Any]] = []

    def add_block(
        self,
        header: Header,
        tx_hashes: Sequence[str],
        raws: Sequence[bytes] | None,
        stated: str | None = None,
    ) -> list[str]:
        """Remember a block; what is wrong with receipts of it that came before.

        Args:
            raws: Its transactions; None where only their hashes are at hand.
            stated: The hash that the block claims, where that is not its header's.
        """
        block = _Block(stated or to_hex(header.hash), header, tx_hashes, raws)
        self._blocks.put(block.hash, block)
        self._newest = block
        mine = [value for value in self._early if self._names(value, block)]
        self._early = [value for value in self._early if not self._names(value, block)]
        return [problem for value in mine for problem in self.receipt_object(value)]

    @staticmethod
    def _names(value: Mapping[str, Any], block: _Block) -> bool:
        return _same(value.get("blockHash"), block.hash) or _same(
            value.get("blockNumber"), hex(block.header.number)
        )

    def raw_receipt(self, receipt: Receipt) -> list[str]:
        """What is wrong with the next raw receipt of the newest block."""
        block = self._newest
        if block is None:
            return []
        index = block.raw_receipts
        block.raw_receipts += 1
        if index >= len(block.tx_hashes):
            return [f"one receipt more than block {block.hash} has transactions ({len(block.tx_hashes)})"]
        problems = []
        if block.raws is not None and receipt.tx_type != (kind := _type_of(block.raws[index])):
            problems.append(
                f"type {receipt.tx_type:#x} of the receipt of transaction {index}, of type {kind:#x}"
            )
        return problems + self._add(block, index, receipt)

    def receipt_object(self, value: Mapping[str, Any]) -> list[str]:
        """What is wrong with a receipt as a node returns it, given its block."""
        stated = value.get("blockHash")
        block = self._blocks.peek(stated.lower()) if isinstance(stated, str) else None
        if block is None:
            other = next(
                (
                    known
                    for known in self._known()
                    if _same(value.get("blockNumber"), hex(known.header.number))
                ),
                None,
            )
            if other is not None:
                return [f"the receipt is of block {stated}, block {other.header.number} is {other.hash}"]
            if len(self._early) < _EARLY_RECEIPTS:
                self._early.append(value)
            return []
        try:
            index = _number(value.get("transactionIndex"))
            if not 0 <= index < len(block.tx_hashes):
                return [
                    f"transactionIndex {index} of a block with {counted(len(block.tx_hashes), 'transaction')}"
                ]
            raw = block.raws[index] if block.raws is not None else bytes([_number(value.get("type"))])
            receipt = receipt_of_object(value, raw)
        except (DataError, ValueError) as error:
            return [f"the receipt cannot be held against its block: {error}"]
        problems = self._add(block, index, receipt)
        return [*_contradictions(value, _expected(block, index, receipt)), *problems]

    def _known(self) -> Iterator[_Block]:
        for key in self._blocks:
            if (block := self._blocks.peek(key)) is not None:
                yield block

    def _add(self, block: _Block, index: int, receipt: Receipt) -> list[str]:
        before = block.receipts.get(index)
        block.receipts[index] = receipt
        if before is not None and before != receipt:
            return [f"the receipt of transaction {index} came before with another content"]
        if before is not None or len(block.receipts) < len(block.tx_hashes):
            return []
        return _totals(block)


def _totals(block: _Block) -> list[str]:
    """What a header says of all receipts together."""
    receipts = [block.receipts[index] for index in range(len(block.tx_hashes))]
    header = block.header
    roots = {
        "receiptsRoot": (header.receipts_root, ordered_root(map(encode_receipt, receipts))),
        "logsBloom": (header.logs_bloom, merge(receipt.bloom for receipt in receipts)),
    }
    problems = [
        f"{name} of block {header.number}: stated {to_hex(stated)}, the receipts come to {to_hex(computed)}"
        for name, (stated, computed) in roots.items()
        if stated != computed
    ]
    if receipts and receipts[-1].cumulative_gas_used != header.gas_used:
        gas = receipts[-1].cumulative_gas_used
        problems.append(
            f"gasUsed of block {header.number}: stated {header.gas_used}, the last receipt says {gas}"
        )
    return problems


def _expected(block: _Block, index: int, receipt: Receipt) -> dict[str, Any]:
    """The receipt as a node would show it, without what depends on receipts or rules that are not at hand."""
    header = block.header
    place = {
        "blockHash": block.hash,
        "blockNumber": hex(header.number),
        "transactionHash": block.tx_hashes[index],
        "transactionIndex": hex(index),
    }
    before = [block.receipts.get(earlier) for earlier in range(index)]
    known = [earlier for earlier in before if earlier is not None]
    complete = len(known) == index
    gas_before = before[-1].cumulative_gas_used if before and before[-1] is not None else 0
    try:
        envelope = TxEnvelope.decode(block.raws[index]) if block.raws is not None else None
    except (InvalidTransaction, InvalidSignature):
        envelope = None
    if envelope is None:
        return place
    shown = receipt_json(
        envelope,
        receipt,
        TxPosition(None, header.number, header.timestamp, index),
        ReceiptContext(OpFork.BEDROCK, header.base_fee_per_gas or 0, None),
        gas_used=max(0, receipt.cumulative_gas_used - gas_before),
        first_log_index=sum(len(earlier.logs) for earlier in known),
    )
    if before and before[-1] is None:
        del shown["gasUsed"]
    for log in shown["logs"]:
        log["blockHash"] = block.hash
        if not complete:
            del log["logIndex"]
    return {**shown, **place}


def _contradictions(value: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """Fields of a receipt, and of its logs, that do not follow from its transaction and place."""
    for name, computed in expected.items():
        if name == "logs":
            for position, (log, whole) in enumerate(zip(value.get("logs") or (), computed, strict=False)):
                for key in whole.keys() & log.keys():
                    if key not in ("topics", "address", "data") and not _same(log[key], whole[key]):
                        yield f"log {position} claims {key} {log[key]}, its block says {whole[key]}"
        elif name in value and name != "status" and not _same(value[name], computed):
            yield f"the receipt claims {name} {value[name]}, its block says {computed}"


def _type_of(raw: bytes) -> int:
    return raw[0] if raw[0] < 0xC0 else 0


def tx_hash(raw: bytes) -> str:
    """The hash of a raw transaction, in hex."""
    return to_hex(keccak256(raw))


def _same(stated: Any, computed: Any) -> bool:
    """Whether a value means what is expected: hex in any case, quantities as numbers too."""
    if isinstance(stated, str) and isinstance(computed, str):
        if stated.lower() == computed.lower():
            return True
        if len(computed) > 18 or len(stated) > 20:  # data, not a quantity
            return False
    try:
        return bool(stated == computed) or _number(stated) == _number(computed)
    except (DataError, ValueError):
        return False


def _number(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isdigit() and not value.startswith("0x"):
        return int(value)
    return parse_quantity(value)
