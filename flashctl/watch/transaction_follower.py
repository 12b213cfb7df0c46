"""One transaction on its way: sent, preconfirmed in a flashblock, sealed in a block.

Each stage is a `tx` event with the milliseconds since the transaction was submitted. Without a node the last
stage is the flashblock; with one it is the sealed block, which holds the transaction at the same position, at
another one, or not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.errors import DataError, FlashctlError, UsageError
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.keccak import keccak256
from flashctl.watch.config import PeerConfig, TransactionConfig
from flashctl.watch.events import WatchEvent

__all__ = ["TransactionFollower", "TransactionOutcome"]

POLL_S: Final = 0.2


class TransactionOutcome(Enum):
    """Where the transaction is."""

    UNDER_WAY = "under way"
    DONE = "done"
    DROPPED = "dropped"


class TransactionFollower:
    """Follows the transaction of `wanted.tx` or `wanted.send`.

    Args:
        submitted_ns: When it was sent, wall clock; None is the moment of `start`.
        emit: Takes each stage as an event.

    Raises:
        UsageError: What was given is no hash or no transaction, or the end asked for needs a node.
    """

    def __init__(
        self,
        wanted: TransactionConfig,
        peers: PeerConfig,
        submitted_ns: int | None,
        emit: Callable[[WatchEvent], None],
    ) -> None:
        self._raw = wanted.send
        self.hash = _hash_of(wanted.tx, wanted.send)
        hint = "name one with --rpc, or use a profile that has one"
        if wanted.stage not in (None, "preconfirmed", "sealed"):
            raise UsageError(f"--stage {wanted.stage!r}: not a stage", hint="stages: preconfirmed, sealed")
        if wanted.stage == "sealed" and peers.rpc is None:
            raise UsageError("--stage sealed needs a node", hint=hint)
        send_url = peers.send_rpc or peers.rpc
        if wanted.send is not None and send_url is None:
            raise UsageError("--send needs a node", hint=hint)
        self._until_sealed = peers.rpc is not None and wanted.stage != "preconfirmed"
        self._client = None if peers.rpc is None else JsonRpcClient(peers.rpc, timeout_s=5.0)
        self._send_url = send_url
        self._submitted_ns = submitted_ns
        self._is_timed = submitted_ns is not None or wanted.send is not None
        """Whether a latency can be stated: the time of submission is given, or the transaction was seen to be
        preconfirmed while this was looking for it."""
        self._emit = emit
        self._position: int | None = None
        self._payload_id: str | None = None
        self._block: int | None = None
        self.result = TransactionOutcome.UNDER_WAY
        self.finished = asyncio.Event()

    async def start(self) -> None:
        """Send the transaction if that was asked for, and start looking at the node.

        Raises:
            FlashctlError: The node refuses the transaction or does not answer.
        """
        if self._submitted_ns is None:
            self._submitted_ns = time.time_ns()
        if self._raw is None or self._send_url is None:
            return
        sender = JsonRpcClient(self._send_url, timeout_s=5.0)
        try:
            answer = await sender.call("eth_sendRawTransaction", [self._raw])
        finally:
            await sender.close()
        if isinstance(answer, str) and answer.lower() != self.hash:
            raise DataError(f"the node names the transaction {answer}, its hash is {self.hash}")
        self._report("sent", {"text": f"{self.hash} sent"})

    def see(self, event: WatchEvent) -> None:
        """Look for the transaction in a flashblock."""
        if event.row is None or self._payload_id == event.payload_id:
            return
        wanted = bytes.fromhex(self.hash[2:])
        for position, raw in enumerate(event.row.flashblock.diff.transactions):
            if keccak256(raw) == wanted:
                before = event.row.total_transactions
                self._found(event, None if before is None else before - event.row.new_transactions + position)
                return

    def _found(self, event: WatchEvent, position: int | None) -> None:
        self._payload_id, self._block, self._position = event.payload_id, event.block, position
        replayed = event.row is not None and event.row.replayed
        self._is_timed = self._is_timed or not replayed
        milliseconds = None if replayed else self._milliseconds(event.received_ns)
        where = f"#{event.block} flashblock {event.index}" + (
            "" if position is None else f" position {position}"
        )
        self._report(
            "preconfirmed",
            {
                "position": position,
                "ms": milliseconds,
                "text": f"preconfirmed in {where}"
                + (" before this joined the stream" if replayed else _after(milliseconds)),
                **({"replayed": True} if replayed else {}),
            },
            event,
        )
        if not self._until_sealed:
            self._end(TransactionOutcome.DONE)

    def _milliseconds(self, now_ns: int) -> float:
        return round((now_ns - (self._submitted_ns or now_ns)) / 1e6, 3)

    def _report(self, stage: str, details: dict[str, Any], event: WatchEvent | None = None) -> None:
        received = time.time_ns() if event is None else event.received_ns
        index = None if event is None else event.index
        place = {"stage": stage, "hash": self.hash, **details}
        self._emit(WatchEvent("tx", received, self._payload_id, self._block, index, place))

    def _end(self, result: TransactionOutcome) -> None:
        self.result = result
        self.finished.set()

    async def poll(self) -> None:
        """Poll the node until the transaction is sealed, or its block is sealed without it."""
        client = self._client
        if client is None:
            await asyncio.Event().wait()
            return
        while not self.finished.is_set():
            try:
                await self._look(client)
            except FlashctlError:
                pass  # the node may be behind or restarting; --timeout bounds the patience
            await asyncio.sleep(POLL_S)

    async def _look(self, client: JsonRpcClient) -> None:
        if self._block is not None:
            block = await client.call("eth_getBlockByNumber", [hex(self._block), False])
            if isinstance(block, dict) and isinstance(block.get("hash"), str):
                self._judge(block)
                return
        receipt = await client.call("eth_getTransactionReceipt", [self.hash])
        number = receipt.get("blockNumber") if isinstance(receipt, dict) else None
        if isinstance(number, str) and self._block != (height := parse_quantity(number)):
            block = await client.call("eth_getBlockByNumber", [number, False])
            sealed = block.get("transactions") if isinstance(block, dict) else None
            if (
                isinstance(sealed, list)
                and self.hash in map(str, sealed)
                and block.get("hash") == receipt.get("blockHash")
            ):
                self._block = height
                self._sealed(sealed)

    def _judge(self, block: dict[str, Any]) -> None:
        sealed = [str(tx_hash).lower() for tx_hash in block.get("transactions") or ()]
        if self.hash in sealed:
            self._sealed(sealed)
            return
        self._report("dropped", {"text": f"dropped: block #{self._block} was sealed without it"})
        self._end(TransactionOutcome.DROPPED)

    def _sealed(self, sealed: list[str]) -> None:
        position = [str(tx_hash).lower() for tx_hash in sealed].index(self.hash)
        milliseconds = self._milliseconds(time.time_ns()) if self._is_timed else None
        moved = "" if self._position in (None, position) else f", moved from {self._position}"
        self._report(
            "sealed",
            {
                "position": position,
                "ms": milliseconds,
                "moved": bool(moved),
                "text": f"sealed in #{self._block} position {position}{moved}{_after(milliseconds)}",
            },
        )
        self._end(TransactionOutcome.DONE)

    async def close(self) -> None:
        """Close the connection to the node."""
        if self._client is not None:
            await self._client.close()


def _after(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f" after {milliseconds:.0f} ms"


def _hash_of(tx_hash: str | None, raw: str | None) -> str:
    try:
        if raw is not None:
            return "0x" + keccak256(parse_hex(raw)).hex()
        return "0x" + parse_hex(tx_hash or "", size=32).hex()
    except DataError as error:
        raise UsageError(f"{'--send' if raw is not None else '--tx'}: {error}") from None
