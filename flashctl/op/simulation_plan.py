"""What a simulation is asked for, and the words and codes it refuses with.

A request names blocks with gaps: a number may be left out (one more than before) or jump ahead (the blocks
between are empty ones), a time may be left out (12 s later). `complete_plans` fills that in and
refuses what is out of order, before anything runs.

Codes and messages are those of https://github.com/ethereum/execution-apis (eth_simulateV1) and of the
exchanges recorded there; they are part of the method, so they are decided here and not at the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from flashctl.eth.blocks import Header
from flashctl.eth.transactions import SignedTransaction
from flashctl.op.call import ExecutionFailed
from flashctl.op.overrides import AccountOverride, BlockOverrides, StateOverrides

__all__ = [
    "LOG_BYTES",
    "MAX_RESULT_BYTES",
    "BlockPlan",
    "RefusalCode",
    "SimulatedCall",
    "SimulationRefused",
    "complete_plans",
]

BLOCK_TIME_S: Final = 12
"""Between simulated blocks whose times are not given: geth's figure, which op-geth leaves as it is whatever
the block time of its chain."""

MAX_BLOCKS: Final = 256
"""Simulated blocks of one request, empty ones between included: the reach of BLOCKHASH, and geth's limit."""

MAX_CALLS_PER_BLOCK: Final = 5_000
MAX_CALLS: Final = 10_000
"""Calls of one block and of one request, geth's limits. The gas of all calls together is bounded too."""

MAX_RESULT_BYTES: Final = 32 * 2**20
"""Returned data and logs of one request. Memory is cheap for the EVM: 50 Mgas of calls that return what they
touched come to 100 MB, twice that as JSON."""

LOG_BYTES: Final = 300
"""What a log counts beside its data: half of its JSON, as data is counted. 50 Mgas have room for 130,000."""


class RefusalCode(IntEnum):
    """Why a simulation has no result, as JSON-RPC error codes."""

    NONCE_TOO_LOW = -38010
    NONCE_TOO_HIGH = -38011
    FEE_TOO_LOW = -38012
    INTRINSIC_GAS = -38013
    FUNDS = -38014
    BLOCK_GAS = -38015
    BLOCK_NUMBER = -38020
    BLOCK_TIMESTAMP = -38021
    PRECOMPILE_MOVED_TO_ITSELF = -38022
    PRECOMPILES_MOVED_TO_ONE = -38023
    INITCODE_SIZE = -38025
    LIMIT_EXCEEDED = -38026
    INVALID_PARAMS = -32602
    OVERRIDE = -32000
    NONCE_EXHAUSTED = -32603
    """An internal error by its code: the table has no other for it, and the recorded exchanges use it."""


class SimulationRefused(ExecutionFailed):
    """The whole simulation has no result: a rule of the sequence or of one call in it is broken."""

    code: Final[RefusalCode]

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """A transaction without a signature, with what it leaves open."""

    sender: bytes
    tx: SignedTransaction
    """Nonce and gas limit in it count only where they are given; the signature is zeros."""

    has_nonce: bool
    """False: the sender's next one."""

    has_gas: bool
    """False: all gas that the block has left."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One block to simulate."""

    block: BlockOverrides = field(default_factory=BlockOverrides)
    state: StateOverrides = field(default_factory=dict)
    """Accounts that look different from this block on."""

    calls: tuple[SimulatedCall, ...] = ()


def complete_plans(base: Header, plans: Sequence[BlockPlan]) -> list[BlockPlan]:
    """All blocks of a simulation upon `base`, every one with its number and timestamp.

    Args:
        base: The block to start from.
        plans: What the request names.

    Raises:
        SimulationRefused: If numbers or times do not grow, or there are too many blocks or calls.
    """
    _check_size(plans)
    number, timestamp = base.number, base.timestamp
    complete: list[BlockPlan] = []
    for plan in plans:
        wanted = number + 1 if plan.block.number is None else plan.block.number
        if wanted <= number:
            raise SimulationRefused(
                RefusalCode.BLOCK_NUMBER, f"block numbers must be in order: {wanted} <= {number}"
            )
        if wanted - base.number > MAX_BLOCKS:
            raise SimulationRefused(RefusalCode.LIMIT_EXCEEDED, "too many blocks")
        for between in range(number + 1, wanted):
            timestamp += BLOCK_TIME_S
            complete.append(BlockPlan(BlockOverrides(number=between, timestamp=timestamp)))
        at = timestamp + BLOCK_TIME_S if plan.block.timestamp is None else plan.block.timestamp
        if at <= timestamp:
            raise SimulationRefused(
                RefusalCode.BLOCK_TIMESTAMP, f"block timestamps must be in order: {at} <= {timestamp}"
            )
        complete.append(replace(plan, block=replace(plan.block, number=wanted, timestamp=at)))
        number, timestamp = wanted, at
    return complete


def _check_size(plans: Sequence[BlockPlan]) -> None:
    if not plans:
        raise SimulationRefused(RefusalCode.INVALID_PARAMS, "empty input")
    if len(plans) > MAX_BLOCKS:
        raise SimulationRefused(RefusalCode.LIMIT_EXCEEDED, "too many blocks")
    total = 0
    for plan in plans:
        total += len(plan.calls)
        if len(plan.calls) > MAX_CALLS_PER_BLOCK:
            text = f"too many calls in block: {len(plan.calls)} > {MAX_CALLS_PER_BLOCK}"
            raise SimulationRefused(RefusalCode.LIMIT_EXCEEDED, text)
        if total > MAX_CALLS:
            raise SimulationRefused(RefusalCode.LIMIT_EXCEEDED, f"too many calls: {total} > {MAX_CALLS}")
        _check_moves(plan.state)


def _check_moves(overrides: StateOverrides) -> None:
    """A precompile moves to one place, and no two to the same."""
    targets: set[int] = set()
    for address, target in _moves(overrides):
        if target == address:
            raise SimulationRefused(
                RefusalCode.PRECOMPILE_MOVED_TO_ITSELF, f"precompile {address:#x} is moved to itself"
            )
        if target in targets:
            raise SimulationRefused(
                RefusalCode.PRECOMPILES_MOVED_TO_ONE, f"several precompiles are moved to {target:#x}"
            )
        targets.add(target)


def _moves(overrides: StateOverrides) -> Iterator[tuple[int, int]]:
    override: AccountOverride
    for address, override in overrides.items():
        if override.move_precompile_to is not None:
            yield address, override.move_precompile_to
