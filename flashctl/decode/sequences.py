"""Flashblocks of one payload together: what their totals commit to can only be computed from all of them."""

from __future__ import annotations

from typing import Any, Final

from flashctl.core.flashblocks.assembly import full_block
from flashctl.core.flashblocks.sequence import Payload
from flashctl.core.flashblocks.wire import ZERO_HASH, Flashblock
from flashctl.decode.commitments import header_problems, receipt_of_object
from flashctl.decode.objects import unwrap_receipt
from flashctl.errors import DataError
from flashctl.eth.bloom import merge
from flashctl.eth.keccak import keccak256
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Receipt, encode_receipt
from flashctl.lru import Lru

__all__ = ["SequenceMemory"]

_REMEMBERED: Final = 4
"""Payloads; a stream works on one, and two endpoints of a recording on two."""

_MAX_FLASHBLOCKS: Final = 256
"""Of one payload; each is checked with all before it. Twelve seconds at the usual interval have 60."""


class SequenceMemory:
    """The payloads seen last, each from its index 0 on and without a hole."""

    def __init__(self) -> None:
        self._payloads = Lru[str, list[Flashblock]](_REMEMBERED)

    def problems(self, flashblock: Flashblock) -> list[str]:
        """What is wrong with the newest flashblock, given those before it."""
        base, known = flashblock.base, self._payloads.peek(flashblock.payload_id)
        number = flashblock.metadata.block_number
        problems = []
        if base is not None and number not in (None, base.block_number):
            problems.append(f"base is of block {base.block_number}, metadata of {number}")
        if known is None:
            if base is None or flashblock.index != 0:
                return problems + self._stranger_problems(flashblock)
            known = []
            self._payloads.put(flashblock.payload_id, known)
        if flashblock.index < len(known):
            if flashblock != known[flashblock.index]:
                problems.append(f"index {flashblock.index} came before with another content")
            return problems
        if len(known) >= _MAX_FLASHBLOCKS:
            return problems
        if flashblock.index > len(known):
            missing = f"index {len(known)}"
            return [*problems, f"index {flashblock.index} without {missing}: its totals cannot be checked"]
        if known and flashblock.block_number != known[0].block_number:
            problems.append(f"block {flashblock.block_number} in a payload of {known[0].block_number}")
        if known and flashblock.diff.gas_used < known[-1].diff.gas_used:
            problems.append(f"gas_used falls from {known[-1].diff.gas_used} to {flashblock.diff.gas_used}")
        known.append(flashblock)
        first = known[0].base
        assert first is not None
        payload = Payload(flashblock.payload_id, first.block_number, first, tuple(known))
        return problems + _block_problems(payload) + _receipts_problems(payload)

    def _stranger_problems(self, flashblock: Flashblock) -> list[str]:
        """What is wrong with a payload that begins after index 0, as it may at the start of a recording."""
        problems = []
        if flashblock.base is not None:
            problems.append(f"a base at index {flashblock.index}, expected at 0 only")
        for payload_id in self._payloads:
            known = self._payloads.peek(payload_id)
            if known and known[0].block_number == flashblock.block_number:
                problems.append(
                    f"index {flashblock.index} of payload {flashblock.payload_id}, which has no index 0; "
                    f"block {flashblock.block_number} is that of payload {payload_id}"
                )
        return problems


def _block_problems(payload: Payload) -> list[str]:
    diff = payload.diff
    block = full_block(payload)
    problems = header_problems(block.header, block.transactions)
    if ZERO_HASH not in (diff.state_root, diff.block_hash) and block.hash != diff.block_hash:
        problems.append(
            f"block_hash: stated 0x{diff.block_hash.hex()}, the block so far hashes to 0x{block.hash.hex()}"
        )
    return problems


def _receipts_problems(payload: Payload) -> list[str]:
    """Root, filter and gas, where the metadata so far have a receipt of every transaction."""
    found: dict[str, Any] = {}
    for flashblock in payload.flashblocks:
        found.update(flashblock.metadata.receipts or {})
    strangers = found.keys() - {"0x" + keccak256(raw).hex() for raw in payload.transactions}
    if strangers:
        return [f"metadata has a receipt of {min(strangers)}, which is no transaction of the payload"]
    receipts: list[Receipt] = []
    try:
        for raw in payload.transactions:
            value = found.get("0x" + keccak256(raw).hex())
            if not isinstance(value, dict):
                return []
            receipts.append(receipt_of_object(unwrap_receipt(value), raw))
    except DataError as error:
        return [f"a receipt of the metadata cannot be read: {error}"]
    diff = payload.diff
    computed = {
        "receipts_root": (diff.receipts_root, ordered_root(map(encode_receipt, receipts))),
        "logs_bloom": (diff.logs_bloom, merge(receipt.bloom for receipt in receipts)),
    }
    problems = [
        f"{name}: stated 0x{stated.hex()}, the receipts come to 0x{other.hex()}"
        for name, (stated, other) in computed.items()
        if stated != other and stated.strip(b"\x00")
    ]
    gas = receipts[-1].cumulative_gas_used if receipts else 0
    if gas != diff.gas_used:
        problems.append(f"gas_used: stated {diff.gas_used}, the last receipt says {gas}")
    return problems
