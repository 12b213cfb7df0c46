"""The canonical node: its head, pieces of its state, and whatever else callers ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.errors import DataError, FlashctlError, ProtocolError, UnavailableError
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.evm.state import Account
from flashctl.op.envelope import TxEnvelope
from flashctl.rpc.state import CanonicalBlock, CanonicalState, Missing

__all__ = ["Node", "parse_block"]

BATCH_CALLS: Final = 90
"""Calls of one batch: below the hundred that hosted nodes allow, and thirty accounts."""

BATCHES_AT_ONCE: Final = 4


class Node:
    """A standard Ethereum JSON-RPC endpoint."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.client: Final = JsonRpcClient(url, timeout_s=timeout_s)
        self._turns = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._has_access_lists = True

    async def close(self) -> None:
        """Drop the connections."""
        await self.client.close()

    async def chain_id(self) -> int:
        """The chain it follows."""
        return parse_quantity(await self.client.call("eth_chainId"))

    async def head(self) -> dict[str, Any]:
        """The latest block, with transaction hashes.

        Raises:
            ProtocolError: If the node says it has none.
        """
        return await self._block("latest")

    async def block(self, number: int) -> dict[str, Any]:
        """A block of the canonical chain, with transaction hashes."""
        return await self._block(quantity(number))

    async def _block(self, name: str) -> dict[str, Any]:
        block = await self.client.call("eth_getBlockByNumber", [name, False])
        if not isinstance(block, dict):
            raise ProtocolError(f"the node knows no block {name!r}")
        return block

    async def load(self, state: CanonicalState, missing: Missing) -> None:
        """Fetch everything in `missing` at the block of `state`, and put it there.

        Raises:
            RpcError: If the node has not got the state (any more).
            FlashctlError: If it cannot be reached or answers nonsense.
        """
        if state.is_full:
            raise UnavailableError(f"the state cache of block {state.block.number} is full")
        at = {"blockHash": to_hex(state.block.hash)}
        accounts, slots = sorted(missing.accounts), sorted(missing.slots)
        calls: list[tuple[str, list[Any]]] = []
        for address in accounts:
            shown = to_hex(address.to_bytes(20, "big"))
            calls.append(("eth_getBalance", [shown, at]))
            calls.append(("eth_getTransactionCount", [shown, at]))
            calls.append(("eth_getCode", [shown, at]))
        for address, slot in slots:
            shown = to_hex(address.to_bytes(20, "big"))
            calls.append(("eth_getStorageAt", [shown, to_hex(slot.to_bytes(32, "big")), at]))
        calls += [("eth_getBlockByNumber", [quantity(number), False]) for number in sorted(missing.hashes)]
        answers = iter(await self._batches(calls))
        for address in accounts:
            balance, nonce = parse_quantity(next(answers)), parse_quantity(next(answers))
            state.add_account(address, *_account(nonce, balance, parse_hex(next(answers))))
        for address, slot in slots:
            state.add_slot(address, slot, parse_quantity(next(answers)))
        for number in sorted(missing.hashes):
            block = next(answers)
            known = isinstance(block, dict) and isinstance(block.get("hash"), str)
            state.hashes[number] = parse_hex(block["hash"], size=32) if known else bytes(32)

    async def touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> Missing:
        """What transactions would touch if they ran at the block of `state`, as far as the node can tell.

        A hint, never an error: nodes may not offer eth_createAccessList, and a transaction that depends on
        pending ones fails there.
        """
        found = Missing()
        if not self._has_access_lists:
            return found
        at = {"blockHash": to_hex(state.block.hash)}
        calls = [
            ("eth_createAccessList", [_call_json(envelope), at]) for envelope in envelopes if envelope.tx.data
        ]
        parts = [calls[start : start + BATCH_CALLS] for start in range(0, len(calls), BATCH_CALLS)]
        try:
            answers = [answer for part in await asyncio.gather(*map(self._batch, parts)) for answer in part]
        except FlashctlError:
            return found
        for answer in answers:
            if isinstance(answer, RpcError):
                if answer.code == Code.METHOD_NOT_FOUND:
                    self._has_access_lists = False
            else:
                _add_access_list(found, answer)
        return state.without_known(found)

    async def _batches(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        parts = [calls[start : start + BATCH_CALLS] for start in range(0, len(calls), BATCH_CALLS)]
        answers = [answer for part in await asyncio.gather(*map(self._batch, parts)) for answer in part]
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return answers

    async def _batch(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        async with self._turns:
            return await self.client.batch(list(calls))


def _account(nonce: int, balance: int, code: bytes) -> tuple[Account | None, bytes]:
    """An account as the state holds it. RPC cannot tell an empty one from none, and neither can a
    transaction."""
    if not nonce and not balance and not code:
        return None, b""
    return Account(nonce, balance, keccak256(code) if code else EMPTY_CODE_HASH), code


def _call_json(envelope: TxEnvelope) -> dict[str, Any]:
    tx = envelope.tx
    call = {
        "from": to_hex(envelope.sender),
        "gas": quantity(tx.gas_limit),
        "value": quantity(tx.value),
        "input": to_hex(tx.data),
    }
    return call if tx.to is None else call | {"to": to_hex(tx.to)}


def _add_access_list(found: Missing, answer: Any) -> None:
    entries = answer.get("accessList") if isinstance(answer, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        try:
            address = int.from_bytes(parse_hex(entry["address"], size=20), "big")
            slots = [int.from_bytes(parse_hex(key, size=32), "big") for key in entry["storageKeys"]]
        except (DataError, KeyError, TypeError):
            continue
        found.accounts.add(address)
        found.slots.update((address, slot) for slot in slots)


def parse_block(block: dict[str, Any]) -> CanonicalBlock:
    """What the overlay needs of a block object.

    Raises:
        DataError: If it is not one.
    """
    try:
        transactions = block["transactions"]
        hashes = [item if isinstance(item, str) else item["hash"] for item in transactions]
        return CanonicalBlock(
            number=parse_quantity(block["number"]),
            hash=parse_hex(block["hash"], size=32),
            parent_hash=parse_hex(block["parentHash"], size=32),
            timestamp=parse_quantity(block["timestamp"]),
            receipts_root=parse_hex(block["receiptsRoot"], size=32),
            transactions=tuple(parse_hex(item, size=32) for item in hashes),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"not a block object: {error}") from None
