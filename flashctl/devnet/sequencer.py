"""The sequencer driver: a block every block time, requested and sealed through the Engine API.

Per slot, as in op-node:

    slot starts      engine_forkchoiceUpdated with attributes      -> payload id
    slot ends        engine_getPayload                             -> the block
                     engine_newPayload                             -> VALID
                     engine_forkchoiceUpdated without attributes   -> it is the head

`next_timestamp` and `attributes_after` are the rules, pure; `Sequencer` is the loop around them. It drives
one
engine, in a devnet boost, but any works: it does not depend on who built a block.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flashctl.core.engine.client import EngineClient, requests_of
from flashctl.core.engine.payloads import (
    ForkchoiceState,
    PayloadStatus,
    PayloadValidity,
    forkchoice_version,
    get_payload_version,
    new_payload_version,
    payload_from_json,
)
from flashctl.devnet.l1 import L1Fees, L1Origin, l1_origin_at
from flashctl.errors import FlashctlError, ProtocolError
from flashctl.eth.blocks import Block, Header
from flashctl.eth.transactions import encode_transaction
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.l1_attributes import L1Attributes, attributes_layout, l1_attributes_deposit

__all__ = ["SealedSlot", "Sequencer", "SequencerSettings", "attributes_after", "next_timestamp"]

_log = logging.getLogger(__name__)

_SEAL_LEAD_S = 0.05
"""How long before the slot's end getPayload is called: op-node's sealing duration."""

_TOLERATED_SLOTS = 2
"""How far a running chain may lag before slots are skipped; a fallback block takes slightly longer."""

_RETRY_S = 0.25
"""Pause after a slot that failed; short, because the chain stands still meanwhile."""

_CHAIN_FEE_PARAMETERS = bytes(8)
"""EIP-1559 denominator and elasticity both zero: the chain's own constants (Holocene spec)."""

_SEQUENCER_FEE_VAULT = bytes.fromhex("4200000000000000000000000000000000000011")
"""Recipient of the priority fee (OP spec, predeploys)."""


@dataclass(frozen=True, slots=True)
class SequencerSettings:
    """The settings of a rollup's configuration and operator for every block."""

    block_time: int = 2
    gas_limit: int = 60_000_000
    min_base_fee: int = 0
    """Wei; used from Jovian."""

    l1_fees: L1Fees = field(default_factory=L1Fees)
    base_fee_scalar: int = 1_368
    blob_base_fee_scalar: int = 810_949
    """The L1 fee scalars of OP Mainnet since Ecotone."""

    operator_fee_scalar: int = 0
    operator_fee_constant: int = 0
    da_footprint_gas_scalar: int = 400
    """The default of the Jovian spec."""


@dataclass(frozen=True, slots=True)
class SealedSlot:
    """One sealed block."""

    block: Block
    payload_id: bytes
    asked_at: float
    """Unix seconds at which its build was requested."""

    sealed_at: float
    """Unix seconds at which it became the head."""


def next_timestamp(parent_timestamp: int, now: float, block_time: int, *, tolerated_slots: int = 2) -> int:
    """The timestamp (Unix seconds) of the block after `parent_timestamp`.

    One block time later, as every slot must be filled. A chain that lags by more than `tolerated_slots`,
    because it or its engine was stopped, continues with a whole slot from now and skips the slots between.
    """
    after = parent_timestamp + block_time
    behind = int(now) - after
    if behind < tolerated_slots * block_time:
        return after
    return int(now) + block_time


def attributes_after(
    config: ChainConfig, parent: Header, timestamp: int, settings: SequencerSettings
) -> PayloadAttributes:
    """The attributes of the block after `parent`: the L1 attributes deposit and the fee parameters."""
    origin = l1_origin_at(timestamp)
    fork = config.fork_at(timestamp)
    return PayloadAttributes(
        timestamp=timestamp,
        prev_randao=origin.prev_randao,
        fee_recipient=_SEQUENCER_FEE_VAULT,
        withdrawals=(),
        parent_beacon_block_root=origin.parent_beacon_block_root if fork.has_beacon_root else None,
        transactions=(_l1_deposit(config, parent, timestamp, origin, settings),),
        no_tx_pool=False,
        gas_limit=settings.gas_limit,
        eip1559_params=_CHAIN_FEE_PARAMETERS if fork.has_fee_parameters else None,
        min_base_fee=settings.min_base_fee if fork.has_min_base_fee else None,
    )


def _l1_deposit(
    config: ChainConfig, parent: Header, timestamp: int, origin: L1Origin, settings: SequencerSettings
) -> bytes:
    attributes = L1Attributes(
        number=origin.number,
        timestamp=origin.timestamp,
        base_fee=settings.l1_fees.base_fee,
        block_hash=origin.hash,
        sequence_number=(timestamp - origin.timestamp) // settings.block_time,
        batcher=bytes(20),
        blob_base_fee=settings.l1_fees.blob_base_fee,
        base_fee_scalar=settings.base_fee_scalar,
        blob_base_fee_scalar=settings.blob_base_fee_scalar,
        operator_fee_scalar=settings.operator_fee_scalar,
        operator_fee_constant=settings.operator_fee_constant,
        da_footprint_gas_scalar=settings.da_footprint_gas_scalar,
    )
    # A fork at genesis has its contracts there, so only a later parent can still have the previous layout.
    parent_timestamp = parent.timestamp if parent.number else None
    layout = attributes_layout(config, timestamp, parent_timestamp)
    return encode_transaction(l1_attributes_deposit(attributes, layout))


class Sequencer:
    """Drives one engine, slot by slot, from a head it is given."""

    def __init__(
        self,
        engine: EngineClient,
        config: ChainConfig,
        head: Header,
        settings: SequencerSettings,
        on_sealed: Callable[[SealedSlot], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._config = config
        self._settings = settings
        self._on_sealed = on_sealed
        self._clock = clock
        self.head = head
        self.failed_slots = 0
        self._tolerated_slots = 0  # a run starts with a whole slot

    async def run(self) -> None:
        """Seal blocks until cancelled; a slot that fails is logged and tried again with a new timestamp."""
        while True:
            try:
                await self.seal_next()
            except (FlashctlError, TimeoutError) as error:
                self.failed_slots += 1
                _log.warning("slot after block %d failed: %s", self.head.number, error)
                await asyncio.sleep(_RETRY_S)

    async def seal_next(self) -> SealedSlot:
        """One slot, from forkchoiceUpdated with attributes to the new head.

        Raises:
            FlashctlError: If the engine is unreachable, refuses, or finds its own payload invalid.
        """
        timestamp = next_timestamp(
            self.head.timestamp,
            self._clock(),
            self._settings.block_time,
            tolerated_slots=self._tolerated_slots,
        )
        # A slot lasts one block time: a chain that is ahead of the clock waits for its slot to begin.
        await self._sleep_until(timestamp - self._settings.block_time)
        asked_at = self._clock()
        payload_id = await self._start_build(timestamp)
        await self._sleep_until(timestamp - _SEAL_LEAD_S)
        block = await self._seal(payload_id, timestamp)
        self.head = block.header
        self._tolerated_slots = _TOLERATED_SLOTS
        slot = SealedSlot(block, payload_id, asked_at, self._clock())
        self._on_sealed(slot)
        return slot

    async def _start_build(self, timestamp: int) -> bytes:
        attributes = attributes_after(self._config, self.head, timestamp, self._settings)
        version = forkchoice_version(self._config.fork_at(timestamp))
        result = await self._engine.forkchoice_updated(
            self._forkchoice(self.head.hash), attributes, version=version
        )
        _expect_valid("forkchoiceUpdated", result.status)
        if result.payload_id is None:
            raise ProtocolError("forkchoiceUpdated with attributes started no build")
        return result.payload_id

    async def _seal(self, payload_id: bytes, timestamp: int) -> Block:
        """Get the payload, validate it with newPayload, make it the head."""
        fork = self._config.fork_at(timestamp)
        envelope = await self._engine.get_payload(payload_id, version=get_payload_version(fork))
        root = l1_origin_at(timestamp).parent_beacon_block_root if fork.has_beacon_root else None
        payload = envelope["executionPayload"]
        requests = requests_of(envelope)
        block = payload_from_json(payload, root, requests=requests if fork.has_requests else None)
        status = await self._engine.new_payload(
            payload, root, version=new_payload_version(fork), requests=requests
        )
        _expect_valid("newPayload", status)
        moved = await self._engine.forkchoice_updated(
            self._forkchoice(block.header.hash), version=forkchoice_version(fork)
        )
        _expect_valid("forkchoiceUpdated", moved.status)
        return block

    def _forkchoice(self, head: bytes) -> ForkchoiceState:
        """Head, safe and finalized at the head: with no L1 there is no reorganisation."""
        return ForkchoiceState(head=head, safe=head, finalized=head)

    async def _sleep_until(self, unix_seconds: float) -> None:
        delay = unix_seconds - self._clock()
        if delay > 0:
            await asyncio.sleep(delay)


def _expect_valid(method: str, status: PayloadStatus) -> None:
    if status.status is not PayloadValidity.VALID:
        why = f": {status.validation_error}" if status.validation_error else ""
        raise ProtocolError(f"{method} answered {status.status.value}{why}")
