"""Balances, nonces, code, storage and proofs over JSON-RPC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flashctl.core.jsonrpc.errors import invalid_params
from flashctl.core.jsonrpc.methods import required
from flashctl.eth.hexdata import InvalidHex, parse_hex, quantity, to_hex
from flashctl.ethrpc.block_tags import Tag
from flashctl.ethrpc.interfaces import BlockAnswer, NamedBlock, Provider
from flashctl.ethrpc.params import address_param, slot_param, storage_key
from flashctl.evm.state import EMPTY_ACCOUNT, Account, StateReader

__all__ = ["StateApi"]

MAX_SLOTS: Final = 1024
"""Storage words of one request: geth's limit for proofs and for eth_getStorageValues."""

_WORD: Final = 32


class StateApi:
    """Methods that read the state after a block."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def answers(self) -> Iterator[tuple[str, BlockAnswer]]:
        """Names and answers."""
        yield "eth_getBalance", self.balance
        yield "eth_getTransactionCount", self.nonce
        yield "eth_getCode", self.code
        yield "eth_getStorageAt", self.storage_at
        yield "eth_getStorageValues", self.storage_values
        yield "eth_getProof", self.proof

    async def balance(self, block: NamedBlock, params: list[Any]) -> str:
        address = _int(address_param(params, 0))
        return quantity((await _account(block, address)).balance)

    async def nonce(self, block: NamedBlock, params: list[Any]) -> str:
        """With `pending`, what a wallet signs next: behind the pending block and behind what still waits."""
        address = address_param(params, 0)
        if block.ref is Tag.PENDING:
            return quantity(await self._provider.pending_nonce(address))
        return quantity((await _account(block, _int(address))).nonce)

    async def code(self, block: NamedBlock, params: list[Any]) -> str:
        address = _int(address_param(params, 0))

        def read(state: StateReader) -> bytes:
            return state.code((state.account(address) or EMPTY_ACCOUNT).code_hash)

        return to_hex(await block.state().read(read))

    async def storage_at(self, block: NamedBlock, params: list[Any]) -> str:
        address, slot = _int(address_param(params, 0)), slot_param(params, 1)
        return _word_hex(await block.state().read(lambda state: state.storage(address, slot)))

    async def storage_values(self, block: NamedBlock, params: list[Any]) -> dict[str, list[str]]:
        slots = storage_values_param(params)
        return await block.state().read(lambda state: storage_values_json(slots, state))

    async def proof(self, block: NamedBlock, params: list[Any]) -> dict[str, Any]:
        """Account and storage with their Merkle proofs (EIP-1186)."""
        address = address_param(params, 0)
        keys = required(params, 1, "storage keys")
        if not isinstance(keys, list):
            raise invalid_params("invalid argument 1: expected a list of storage keys")
        if len(keys) > MAX_SLOTS:
            raise invalid_params(f"too many storage keys requested (max {MAX_SLOTS}, got {len(keys)})")
        slots = [storage_key(key) for key in keys]
        world = block.state().world
        assert world is not None, "by the table, no question about a state without a trie comes here"
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


async def _account(block: NamedBlock, address: int) -> Account:
    return await block.state().read(lambda state: state.account(address) or EMPTY_ACCOUNT)


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
