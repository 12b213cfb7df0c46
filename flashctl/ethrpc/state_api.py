"""Balances, code, storage and proofs over JSON-RPC, at any block the chain has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flashctl.core.jsonrpc.errors import invalid_params
from flashctl.core.jsonrpc.methods import Handler, optional, required
from flashctl.eth.hexdata import InvalidHex, parse_hex, quantity, to_hex
from flashctl.ethrpc.block_tags import Tag, parse_block_ref
from flashctl.ethrpc.interfaces import TransactionPool
from flashctl.ethrpc.params import address_param, slot_param, storage_key
from flashctl.ethrpc.resolve import Resolver
from flashctl.evm.state import EMPTY_ACCOUNT, StateReader

__all__ = ["StateApi", "storage_values_json", "storage_values_param"]

MAX_SLOTS: Final = 1024
"""Storage words of one request: geth's limit for proofs and for eth_getStorageValues."""

_WORD: Final = 32


class StateApi:
    """Methods that read the state after a block."""

    def __init__(self, resolver: Resolver, pool: TransactionPool | None) -> None:
        self._blocks = resolver
        self._pool = pool

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_getBalance", self.balance
        yield "eth_getTransactionCount", self.nonce
        yield "eth_getCode", self.code
        yield "eth_getStorageAt", self.storage_at
        yield "eth_getStorageValues", self.storage_values
        yield "eth_getProof", self.proof

    async def balance(self, params: list[Any]) -> str:
        address = _int(address_param(params, 0))
        _, world = self._blocks.state_for("eth_getBalance", params)
        return quantity((world.account(address) or EMPTY_ACCOUNT).balance)

    async def nonce(self, params: list[Any]) -> str:
        address = address_param(params, 0)
        _, world = self._blocks.state_for("eth_getTransactionCount", params)
        nonce = (world.account(_int(address)) or EMPTY_ACCOUNT).nonce
        if self._pool is not None and parse_block_ref(optional(params, 1), index=1) is Tag.PENDING:
            # What a wallet signs next: behind the block being built and behind what still waits.
            nonce = max(nonce, self._pool.pending_nonce(address) or 0)
        return quantity(nonce)

    async def code(self, params: list[Any]) -> str:
        address = _int(address_param(params, 0))
        _, world = self._blocks.state_for("eth_getCode", params)
        return to_hex(world.code((world.account(address) or EMPTY_ACCOUNT).code_hash))

    async def storage_at(self, params: list[Any]) -> str:
        address, slot = _int(address_param(params, 0)), slot_param(params, 1)
        _, world = self._blocks.state_for("eth_getStorageAt", params)
        return _word_hex(world.storage(address, slot))

    async def storage_values(self, params: list[Any]) -> dict[str, list[str]]:
        slots = storage_values_param(params)
        _, world = self._blocks.state_for("eth_getStorageValues", params)
        return storage_values_json(slots, world)

    async def proof(self, params: list[Any]) -> dict[str, Any]:
        """Account and storage with their Merkle proofs (EIP-1186)."""
        address = address_param(params, 0)
        keys = required(params, 1, "storage keys")
        if not isinstance(keys, list):
            raise invalid_params("invalid argument 1: expected a list of storage keys")
        if len(keys) > MAX_SLOTS:
            raise invalid_params(f"too many storage keys requested (max {MAX_SLOTS}, got {len(keys)})")
        slots = [storage_key(key) for key in keys]
        _, world = self._blocks.state_for("eth_getProof", params)
        proof = world.prove(_int(address), slots)
        return {
            "address": to_hex(address),
            "accountProof": [to_hex(node) for node in proof.proof],
            "balance": quantity(proof.account.balance),
            "codeHash": to_hex(proof.account.code_hash),
            "nonce": quantity(proof.account.nonce),
            "storageHash": to_hex(proof.storage_root),
            "storageProof": [
                {"key": key, "value": quantity(item.value), "proof": [to_hex(node) for node in item.proof]}
                for key, item in zip(keys, proof.slots, strict=True)
            ],
        }


def storage_values_param(params: list[Any]) -> dict[str, list[int]]:
    """The slots that `eth_getStorageValues` asks for, by the name of the account."""
    asked = required(params, 0, "storage slots")
    if not isinstance(asked, Mapping) or not all(isinstance(keys, list) for keys in asked.values()):
        raise invalid_params("invalid argument 0: expected lists of storage keys by address")
    count = sum(len(keys) for keys in asked.values())
    if not count:
        raise invalid_params("empty request")
    if count > MAX_SLOTS:
        raise invalid_params(f"too many slots (max {MAX_SLOTS})")
    for name in asked:
        _address(name)
    return {name: [storage_key(key) for key in keys] for name, keys in asked.items()}


def storage_values_json(slots: Mapping[str, list[int]], state: StateReader) -> dict[str, list[str]]:
    """Many words of many accounts at once."""
    return {
        name: [_word_hex(state.storage(_address(name), slot)) for slot in named]
        for name, named in slots.items()
    }


def _int(address: bytes) -> int:
    return int.from_bytes(address, "big")


def _address(name: str) -> int:
    try:
        return _int(parse_hex(name, size=20))
    except InvalidHex as error:
        raise invalid_params(f"invalid argument 0: {error}") from None


def _word_hex(value: int) -> str:
    return to_hex(value.to_bytes(_WORD, "big"))
