"""A node's `newFlashblocks` as a stream: each notification is the pending block, a flashblock what it adds.

Nodes send the pending block after every flashblock (base/base, flashctl rpc), or the flashblock itself.
`BlockUpdates` turns the former into messages of the wire, so that everything downstream sees one kind of
stream: the payload is the block under construction, the index counts its updates, the transactions are
those that the previous update did not have. The builder's payload id and index are not in a notification;
stand-ins are derived from the block, and a lost notification cannot be detected.

A subscription that begins in mid-block gets several flashblocks in its first update. Index 0 holds deposits
only, so a first update with other transactions becomes index 1 of a payload whose index 0 was not seen, and
the rules of a sequence mark it as joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashctl.errors import DataError
from flashctl.eth.hexdata import MAX_HEIGHT, parse_quantity
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.transaction_objects import raw_from_object

__all__ = ["BlockUpdates", "is_block_object"]

_ZERO = "0x" + "00" * 32
_DEPOSIT = "0x7e"


def is_block_object(value: object) -> bool:
    """Whether this is a block as JSON-RPC gives it, and no flashblock."""
    return isinstance(value, dict) and "parentHash" in value and isinstance(value.get("transactions"), list)


class BlockUpdates:
    """Follows the pending block of one subscription."""

    def __init__(self) -> None:
        self._key: tuple[Any, Any] | None = None
        self._known: list[str] = []
        self._index = 0
        self._generation = 0
        self._is_first = True

    def message(self, block: Mapping[str, Any]) -> dict[str, Any]:
        """The flashblock that the update stands for.

        Raises:
            DataError: The block holds hashes instead of transactions, or lacks fields.
        """
        members = block["transactions"]
        if not all(isinstance(member, dict) for member in members):
            raise DataError("the node sends blocks without transactions: their content cannot be followed")
        hashes = [str(member.get("hash")) for member in members]
        key = (block.get("parentHash"), block.get("number"))
        if key != self._key or hashes[: len(self._known)] != self._known:
            self._key, self._known, self._index = key, [], 0
            self._generation += 1
        else:
            self._index += 1
        raws = ["0x" + raw_from_object(member).hex() for member in members[len(self._known) :]]
        if self._is_first and not all(raw.startswith(_DEPOSIT) for raw in raws):
            self._index = 1
        self._is_first = False
        self._known = hashes
        seed = f"{key[0]}{key[1]}{self._generation}".encode()
        message: dict[str, Any] = {"payload_id": "0x" + keccak256(seed)[:8].hex(), "index": self._index}
        if self._index == 0:
            message["base"] = _base(block)
        message["diff"] = {
            "state_root": block.get("stateRoot", _ZERO),
            "receipts_root": block.get("receiptsRoot", _ZERO),
            "logs_bloom": block.get("logsBloom", "0x" + "00" * 256),
            "gas_used": block.get("gasUsed", "0x0"),
            "block_hash": block.get("hash") or _ZERO,
            "transactions": raws,
            "withdrawals": [],
            "withdrawals_root": block.get("withdrawalsRoot") or _ZERO,
        }
        number = block.get("number")
        message["metadata"] = {
            "block_number": 0 if number is None else parse_quantity(number, most=MAX_HEIGHT)
        }
        return message


def _base(block: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parent_beacon_block_root": block.get("parentBeaconBlockRoot") or _ZERO,
        "parent_hash": block.get("parentHash"),
        "fee_recipient": block.get("miner"),
        "prev_randao": block.get("mixHash") or _ZERO,
        "block_number": block.get("number"),
        "gas_limit": block.get("gasLimit"),
        "timestamp": block.get("timestamp"),
        "extra_data": block.get("extraData", "0x"),
        "base_fee_per_gas": block.get("baseFeePerGas", "0x0"),
    }
