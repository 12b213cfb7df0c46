"""Client of an upstream node: its head, its state, and forwarded calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.net.http1 import ClientLimits
from flashctl.errors import DataError, FlashctlError, ProtocolError, UnavailableError
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.evm.missing_state import Missing
from flashctl.evm.state import Account
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.state import CanonicalBlock, CanonicalState

__all__ = ["UpstreamClient", "parse_block"]

_T = TypeVar("_T")

BATCH_CALLS: Final = 90
"""Calls of one batch: below the hundred that hosted nodes allow, and thirty accounts."""

BATCHES_AT_ONCE: Final = 4

OWN_LIMITS: Final = ClientLimits(connections=16)
"""For following the chain: a few batches, two reads of the head, and blocks to catch up with."""


SECOND_TRY_S: Final = 1.0
"""How long a read of the head may take before it is repeated on another connection: a hanging one costs this
and not a whole time-out. The first answer counts."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """One account, storage word or block hash, and the calls that read it."""

    calls: tuple[tuple[str, list[Any]], ...]
    key: int
    """Address, or number of the block."""
    slot: int | None = None
    is_hash: bool = False


class UpstreamClient:
    """A standard Ethereum JSON-RPC endpoint, over connections of its own: one instance follows the chain,
    another serves users' calls."""

    def __init__(self, url: str, *, timeout_s: float, limits: ClientLimits = OWN_LIMITS) -> None:
        self.client: Final = JsonRpcClient(url, timeout_s=timeout_s, limits=limits)
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
            ProtocolError: If the node has none.
        """
        return await _twice(lambda: self._block("latest"), SECOND_TRY_S)

    async def block(self, number: int) -> dict[str, Any]:
        """A block of the canonical chain, with transaction hashes."""
        return await self._block(quantity(number))

    async def _block(self, name: str) -> dict[str, Any]:
        block = await self.client.call("eth_getBlockByNumber", [name, False])
        if not isinstance(block, dict):
            raise ProtocolError(f"the node knows no block {name!r}")
        return block

    async def load(self, state: CanonicalState, missing: Missing) -> None:
        """Fetch everything in `missing` at the block of `state`, and add it there.

        Fetched parts stay if another part failed. A call answered with an error is repeated once at once:
        behind one URL there may be several nodes, one of which lacks the block.

        Raises:
            RpcError: If the node does not have the state (any more).
            FlashctlError: If it is unreachable or its answer malformed.
        """
        if state.is_full:
            raise UnavailableError(f"the state cache of block {state.block.number} is full")
        failed, error = await self._take(state, _pieces(state, missing))
        if isinstance(error, RpcError):
            _, error = await self._take(state, failed)
        if error is not None:
            try:
                raise error
            finally:
                # An error bound to a local of a frame in its own traceback is a reference cycle.
                del error

    async def _take(
        self, state: CanonicalState, pieces: Sequence[_Piece]
    ) -> tuple[list[_Piece], FlashctlError | None]:
        """Fetch parts of the state; returns those that failed, and the error of the first."""
        parts = _packed(pieces)
        fetched = await asyncio.gather(*(self._part(part) for part in parts))
        failed: list[_Piece] = []
        first: FlashctlError | None = None
        for part, answers in zip(parts, fetched, strict=True):
            if isinstance(answers, FlashctlError):
                failed += part
                first = first or answers
                continue
            taken = 0
            for piece in part:
                start, taken = taken, taken + len(piece.calls)
                try:
                    _put(state, piece, answers[start:taken])
                except FlashctlError as error:
                    failed.append(piece)
                    # Without its traceback, a cycle through this frame with all answers in it.
                    first = first or error.with_traceback(None)
        return failed, first

    async def _part(self, pieces: Sequence[_Piece]) -> list[Any] | FlashctlError:
        try:
            return await self._batch([call for piece in pieces for call in piece.calls])
        except FlashctlError as error:
            return error

    async def touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> Missing:
        """The access lists of transactions at the block of `state`, as computed by the node.

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
                if answer.code == ErrorCode.METHOD_NOT_FOUND:
                    self._has_access_lists = False
            else:
                _add_access_list(found, answer)
        return state.without_known(found)

    async def _batch(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        async with self._turns:
            return await self.client.batch(list(calls))


def _pieces(state: CanonicalState, missing: Missing) -> list[_Piece]:
    at = {"blockHash": to_hex(state.block.hash)}
    pieces = []
    for address in sorted(missing.accounts):
        shown = to_hex(address.to_bytes(20, "big"))
        names = ("eth_getBalance", "eth_getTransactionCount", "eth_getCode")
        pieces.append(_Piece(tuple((name, [shown, at]) for name in names), address))
    for address, slot in sorted(missing.slots):
        shown = to_hex(address.to_bytes(20, "big"))
        call = ("eth_getStorageAt", [shown, to_hex(slot.to_bytes(32, "big")), at])
        pieces.append(_Piece((call,), address, slot))
    pieces += [
        _Piece((("eth_getBlockByNumber", [quantity(number), False]),), number, is_hash=True)
        for number in sorted(missing.hashes)
    ]
    return pieces


def _packed(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Batches of at most BATCH_CALLS calls."""
    parts: list[list[_Piece]] = [[]]
    size = 0
    for piece in pieces:
        if size + len(piece.calls) > BATCH_CALLS:
            parts.append([])
            size = 0
        parts[-1].append(piece)
        size += len(piece.calls)
    return parts


def _put(state: CanonicalState, piece: _Piece, answers: Sequence[Any]) -> None:
    """Raises RpcError if the node answered with an error, other FlashctlErrors for a malformed answer."""
    for answer in answers:
        if isinstance(answer, RpcError):
            # A new object: the traceback of the first would form a cycle with this frame.
            raise RpcError(answer.code, answer.message, answer.data)
    if piece.is_hash:
        block = answers[0]
        if not isinstance(block, dict) or not isinstance(block.get("hash"), str):
            # Only ancestors are requested, so it exists; a zero hash would be a permanent wrong answer.
            raise ProtocolError(f"the node knows no block {piece.key}")
        state.hashes[piece.key] = parse_hex(block["hash"], size=32)
    elif piece.slot is not None:
        state.add_slot(piece.key, piece.slot, parse_quantity(answers[0]))
    else:
        balance, nonce, code = answers
        account = _account(parse_quantity(nonce), parse_quantity(balance), parse_hex(code))
        state.add_account(piece.key, *account)


async def _twice(ask: Callable[[], Awaitable[_T]], after_s: float) -> _T:
    """The first result of `ask`, which is called a second time after `after_s`; an error only if both
    fail."""
    tasks = {asyncio.ensure_future(ask())}
    try:
        done, _ = await asyncio.wait(tasks, timeout=after_s)
        if not done:
            tasks.add(asyncio.ensure_future(ask()))
        while True:
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            answered = [task for task in done if task.exception() is None]
            if answered or not waiting:
                return (answered or list(done))[0].result()
            tasks = waiting
    finally:
        for task in tasks:
            task.cancel()


def _account(nonce: int, balance: int, code: bytes) -> tuple[Account | None, bytes]:
    """An account as in the state. RPC cannot distinguish an empty one from none, and neither can a
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
    """The fields of a block object that the overlay needs.

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
