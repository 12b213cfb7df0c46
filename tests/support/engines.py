"""Execution clients for boost's tests: real servers over a toy chain whose "execution" is a hash.

The state after a block is the hash of everything before and in it, so that two engines agree on every block
without an EVM, and a block with a wrong root is as invalid as a real one. Faults are set by method.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.payloads import (
    BlockHashMismatch,
    ForkchoiceResult,
    ForkchoiceState,
    PayloadStatus,
    PayloadValidity,
    attributes_from_json,
    envelope_to_json,
    payload_from_json,
    payload_id_from_json,
)
from flashctl.core.flashblocks import wire
from flashctl.core.hub import Hub, HubServer
from flashctl.core.hub import serve as serve_hub
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Block,
    Header,
)
from flashctl.eth.hexdata import parse_hex, quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.ordered_trie import ordered_root
from flashctl.op.attributes import PayloadAttributes, payload_id
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig
from flashctl.op.forks import OpFork

__all__ = ["SECRET", "Driver", "ToyBuilder", "ToyEngine", "attributes_after", "genesis", "make_block"]

SECRET = b"\x42" * 32
DEPOSIT = b"\x7e" + bytes(40)
BLOCK_TIME = 2
MINER_SETTINGS = ("setMaxDASize", "setGasLimit", "setGasPrice", "setExtra")


CHAIN_DEFAULTS = (250).to_bytes(4, "big") + (6).to_bytes(4, "big")
"""The toy chain's EIP-1559 constants, as `eip1559Params`."""


JOVIAN = ChainConfig(901, tuple((fork, 0) for fork in OpFork if OpFork.BEDROCK < fork <= OpFork.JOVIAN))


def extra_data(attributes: PayloadAttributes) -> bytes:
    """Jovian's, from the attributes or, where they ask for it, from the chain's constants."""
    parameters = attributes.eip1559_params or bytes(8)
    floor = (attributes.min_base_fee or 0).to_bytes(8, "big")
    return b"\1" + (parameters if any(parameters) else CHAIN_DEFAULTS) + floor


def make_block(parent: Header, attributes: PayloadAttributes, transactions: tuple[bytes, ...]) -> Block:
    """The one valid block of these transactions on `parent`."""
    root = keccak256(parent.state_root + b"".join(transactions))
    header = Header(
        parent_hash=parent.hash,
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=attributes.fee_recipient,
        state_root=root,
        transactions_root=ordered_root(transactions),
        receipts_root=keccak256(b"receipts" + root),
        logs_bloom=bytes(256),
        difficulty=0,
        number=parent.number + 1,
        gas_limit=attributes.gas_limit or 0,
        gas_used=21_000 * len(transactions),
        timestamp=attributes.timestamp,
        extra_data=extra_data(attributes),
        prev_randao=attributes.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=next_base_fee(JOVIAN, parent, attributes.timestamp) if parent.extra_data else 1000,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=attributes.parent_beacon_block_root,
        requests_hash=EMPTY_REQUESTS_HASH,
    )
    return Block(header, transactions)


def genesis() -> Header:
    """Where every toy chain starts: now."""
    zero = PayloadAttributes(
        int(time.time()), bytes(32), bytes(20), gas_limit=30_000_000, parent_beacon_block_root=bytes(32)
    )
    parent = make_block(_NOTHING, zero, ()).header
    return replace(parent, number=0)


def attributes_after(parent: Header, *, no_tx_pool: bool = False) -> PayloadAttributes:
    """What a consensus client asks for on `parent`."""
    return PayloadAttributes(
        timestamp=parent.timestamp + BLOCK_TIME,
        prev_randao=keccak256(parent.hash),
        fee_recipient=b"\x11" * 20,
        transactions=(DEPOSIT,),
        no_tx_pool=no_tx_pool,
        gas_limit=30_000_000,
        parent_beacon_block_root=b"\x07" * 32,
        eip1559_params=bytes(8),
        min_base_fee=0,
    )


@dataclass
class Build:
    """A payload being built."""

    parent: Header
    attributes: PayloadAttributes
    transactions: list[bytes]
    published: int = 0

    @property
    def block(self) -> Block:
        return make_block(self.parent, self.attributes, tuple(self.transactions))


@dataclass
class ToyEngine:
    """One execution client; `pool` goes into the next block it builds."""

    start_header: Header
    id_version: int = 3
    pool: list[bytes] = field(default_factory=list)
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)
    faults: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Method name -> what happens instead: returns the answer (or an awaitable of it), or raises."""

    builds: dict[bytes, Build] = field(default_factory=dict)
    server: RunningServer | None = None
    port: int = 0
    secret: bytes = SECRET

    def __post_init__(self) -> None:
        self.headers = {self.start_header.hash: self.start_header}
        self.head = self.start_header

    def called(self, method: str) -> list[list[Any]]:
        return [params for name, params in self.calls if name == method]

    async def start(self) -> None:
        self.server = await serve(self._methods(), "127.0.0.1", self.port, jwt_secret=self.secret)
        self.port = self.server.port

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.close()
            self.server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _methods(self) -> Methods:
        table = Methods()
        for name, handler in (
            ("engine_forkchoiceUpdatedV3", self.forkchoice_updated),
            ("engine_getPayloadV4", self.get_payload),
            ("engine_newPayloadV4", self.new_payload),
            ("eth_getBlockByNumber", self.latest),
            ("eth_sendRawTransaction", self.send_raw),
            ("eth_chainId", self.chain_id),
            ("eth_sendBundle", self.absent),
            *((f"miner_{name}", self.absent) for name in MINER_SETTINGS),
        ):
            table.register(name, self._watched(name, handler))
        return table

    def _watched(self, name: str, handler: Any) -> Any:
        async def watched(params: list[Any]) -> Any:
            self.calls.append((name, params))
            fault = self.faults.get(name)
            if fault is None:
                return await handler(params)
            answer = fault()
            return await answer if asyncio.iscoroutine(answer) else answer

        return watched

    async def forkchoice_updated(self, params: list[Any]) -> Any:
        head = self.headers.get(ForkchoiceState.from_json(params[0]).head)
        if head is None:
            return ForkchoiceResult(PayloadStatus(PayloadValidity.SYNCING)).to_json()
        self.head = head
        identity = None
        if params[1] is not None:
            attributes = attributes_from_json(params[1])
            identity = payload_id(head.hash, attributes, self.id_version)
            extra = [] if attributes.no_tx_pool else self.pool
            self.builds[identity] = Build(head, attributes, [*attributes.transactions, *extra])
            self.on_build(identity)
        return ForkchoiceResult(PayloadStatus(PayloadValidity.VALID, head.hash), identity).to_json()

    def on_build(self, identity: bytes) -> None:
        """A build began."""

    async def get_payload(self, params: list[Any]) -> Any:
        build = self.builds.get(payload_id_from_json(params[0]))
        if build is None:
            raise RpcError(ErrorCode.UNKNOWN_PAYLOAD, "Unknown payload")
        return envelope_to_json(build.block, block_value=1)

    async def new_payload(self, params: list[Any]) -> Any:
        try:
            block = payload_from_json(params[0], parse_hex(params[2]), requests=params[3])
        except BlockHashMismatch as error:
            return PayloadStatus(PayloadValidity.INVALID, None, str(error)).to_json()
        parent = self.headers.get(block.header.parent_hash)
        if parent is None:
            return PayloadStatus(PayloadValidity.SYNCING).to_json()
        if block.header.state_root != keccak256(parent.state_root + b"".join(block.transactions)):
            return PayloadStatus(PayloadValidity.INVALID, parent.hash, "invalid merkle root").to_json()
        self.headers[block.hash] = block.header
        return PayloadStatus(PayloadValidity.VALID, block.hash).to_json()

    async def latest(self, params: list[Any]) -> Any:
        return {"number": quantity(self.head.number), "timestamp": quantity(self.head.timestamp)}

    async def send_raw(self, params: list[Any]) -> Any:
        raw = parse_hex(params[0])
        self.pool.append(raw)
        return to_hex(keccak256(raw))

    async def absent(self, params: list[Any]) -> Any:
        raise RpcError(ErrorCode.METHOD_NOT_FOUND, "the method does not exist/is not available")

    async def chain_id(self, params: list[Any]) -> Any:
        return "0x385"


@dataclass
class ToyBuilder(ToyEngine):
    """A builder: an engine that also publishes flashblocks, when told to or by itself."""

    hub: Hub | None = None
    stream: HubServer | None = None
    stream_port: int = 0
    auto_publish: list[int] = field(default_factory=list)
    """Transactions of each flashblock after index 0, published as soon as a build begins."""

    async def start(self) -> None:
        await super().start()
        self.hub = Hub()
        self.stream = await serve_hub(self.hub, "127.0.0.1", self.stream_port)
        self.stream_port = self.stream.port

    async def stop(self) -> None:
        await super().stop()
        if self.stream is not None:
            await self.stream.close(timeout_s=0.1)
            self.stream = self.hub = None

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.stream_port}"

    def on_build(self, identity: bytes) -> None:
        if self.auto_publish:
            self.builds[identity].transactions = [DEPOSIT]
            self.publish(identity)
            for number, count in enumerate(self.auto_publish):
                self.publish(identity, [b"\x02\xc0" + bytes([number, place]) for place in range(count)])

    def publish(self, identity: bytes, transactions: list[bytes] | None = None, **changes: Any) -> bytes:
        """Add transactions to a build and publish the next flashblock; its bytes."""
        build = self.builds[identity]
        if build.published == 0:
            build.transactions = [*build.attributes.transactions]
        build.transactions += transactions or []
        data = wire.encode(self.flashblock(identity, transactions or [], **changes))
        build.published += 1
        assert self.hub is not None
        self.hub.publish(
            data,
            payload_id=to_hex(identity),
            index=build.published - 1,
            block_number=build.parent.number + 1,
        )
        return data

    def publish_nothing(self, identity: bytes) -> bytes:
        """What would be published next."""
        return wire.encode(self.flashblock(identity, []))

    def flashblock(self, identity: bytes, added: list[bytes], **changes: Any) -> wire.Flashblock:
        """The next flashblock of a build, with parts of its diff changed at will."""
        build = self.builds[identity]
        header = build.block.header
        first = build.published == 0
        base = wire.Base(
            parent_beacon_block_root=build.attributes.parent_beacon_block_root or bytes(32),
            parent_hash=build.parent.hash,
            fee_recipient=header.fee_recipient,
            prev_randao=header.prev_randao,
            block_number=header.number,
            gas_limit=header.gas_limit,
            timestamp=header.timestamp,
            extra_data=header.extra_data,
            base_fee_per_gas=header.base_fee_per_gas or 0,
        )
        diff = wire.Diff(
            transactions=tuple(build.transactions if first else added),
            gas_used=header.gas_used,
            receipts_root=header.receipts_root,
            logs_bloom=header.logs_bloom,
            state_root=header.state_root,
            block_hash=header.hash,
            withdrawals_root=header.withdrawals_root or bytes(32),
            blob_gas_used=0,
        )
        return wire.Flashblock(
            payload_id=to_hex(identity),
            index=build.published,
            base=base if first else None,
            diff=replace(diff, **changes),
            metadata=wire.Metadata(block_number=header.number),
            extra={"unknown_field": {"kept": True}} if first else {},
        )


class Driver:
    """The consensus client: asks for a block, takes it, makes it the head."""

    def __init__(self, url: str, start: Header) -> None:
        self.client = EngineClient(url, timeout_s=10)
        self.head = start

    @property
    def state(self) -> ForkchoiceState:
        return ForkchoiceState(self.head.hash, bytes(32), bytes(32))

    async def begin(self, *, no_tx_pool: bool = False) -> bytes:
        """forkchoiceUpdated with attributes; the payload id."""
        attributes = attributes_after(self.head, no_tx_pool=no_tx_pool)
        result = await self.client.forkchoice_updated(self.state, attributes)
        assert result.status.status is PayloadValidity.VALID
        assert result.payload_id is not None
        return result.payload_id

    async def finish(self, identity: bytes) -> Block:
        """getPayload, newPayload, forkchoiceUpdated: the block, now the head."""
        envelope = await self.client.get_payload(identity, version=4)
        root = parse_hex(envelope["parentBeaconBlockRoot"])
        block = payload_from_json(envelope["executionPayload"], root, requests=[])
        assert block.header.parent_hash == self.head.hash
        status = await self.client.new_payload(envelope["executionPayload"], root, version=4)
        assert status == PayloadStatus(PayloadValidity.VALID, block.hash)
        self.head = block.header
        result = await self.client.forkchoice_updated(self.state)
        assert result.status.status is PayloadValidity.VALID
        return block


_NOTHING = Header(
    *(bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), bytes(32), bytes(256)),
    *(0, 0, 30_000_000, 0, 0, b"", bytes(32), bytes(8)),
)
