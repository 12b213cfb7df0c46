"""Which rules a chain follows at which time: the part of a chain's configuration that execution needs.

The same configuration comes in three formats, and all of them are read here:

* the `config` object of an op-geth `genesis.json` (`canyonTime`, `optimism.eip1559Elasticity`),
* op-node's `rollup.json` (`canyon_time`, `chain_op_config.eip1559Elasticity`),
* the table of well-known chains in `registry`.

Numbers may be JSON numbers or hex strings; both occur in files written by the reference tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flashctl.errors import DataError
from flashctl.eth.hexdata import MAX_U64, parse_hex, parse_number
from flashctl.op.forks import OpFork

__all__ = ["ChainConfig", "InvalidChainConfig", "parse_schedule", "schedule_up_to"]

DEFAULT_ELASTICITY: Final = 6
DEFAULT_DENOMINATOR: Final = 50
DEFAULT_DENOMINATOR_CANYON: Final = 250
"""EIP-1559 constants of OP Mainnet; every chain of the registry but three uses them."""

_SCHEDULED: Final = tuple(OpFork)[1:]
_ETHEREUM_TIMES: Final = {
    "shanghaiTime": OpFork.CANYON,
    "cancunTime": OpFork.ECOTONE,
    "pragueTime": OpFork.ISTHMUS,
    "osakaTime": OpFork.KARST,
}
"""Ethereum forks that arrive with an OP fork; a genesis that gives both must give the same time."""


class InvalidChainConfig(DataError):
    """A genesis or rollup file whose chain configuration makes no sense."""


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """Chain id, fork times and fee constants of one OP Stack chain."""

    chain_id: int
    """EIP-155 chain id."""

    schedule: tuple[tuple[OpFork, int], ...]
    """Every scheduled fork after Bedrock with its activation time in seconds since the epoch, in fork order.
    """

    name: str = ""
    """Name in the registry, such as `base-mainnet`; empty for a chain read from a file."""

    eip1559_elasticity: int = DEFAULT_ELASTICITY
    """Block gas limit divided by the gas target, where the header does not state another."""

    eip1559_denominator: int = DEFAULT_DENOMINATOR
    """Bound on the base fee's change per block, before Canyon."""

    eip1559_denominator_canyon: int = DEFAULT_DENOMINATOR_CANYON
    """Bound on the base fee's change per block, from Canyon on."""

    block_time: int = 2
    """Seconds between blocks."""

    genesis_hash: bytes | None = None
    """Hash of the first block of the OP era, where it is known beforehand."""

    def fork_at(self, timestamp: int) -> OpFork:
        """The fork whose rules a block with this timestamp follows."""
        active = OpFork.BEDROCK
        for fork, time in self.schedule:
            if time > timestamp:
                break
            active = fork
        return active

    def activation_time(self, fork: OpFork) -> int | None:
        """When a fork's rules start to apply, in seconds since the epoch; None if not scheduled."""
        if fork is OpFork.BEDROCK:
            return 0
        return next((time for scheduled, time in self.schedule if scheduled >= fork), None)

    def is_active(self, fork: OpFork, timestamp: int) -> bool:
        """Whether a block with this timestamp follows the fork's rules."""
        return self.fork_at(timestamp) >= fork

    def activates(self, fork: OpFork, timestamp: int, parent_timestamp: int) -> bool:
        """Whether the block is the first of the fork: it follows the fork's rules and its parent does not."""
        return self.is_active(fork, timestamp) and not self.is_active(fork, parent_timestamp)

    def default_denominator(self, timestamp: int) -> int:
        """The base fee denominator of blocks whose parent's header carries none."""
        if self.is_active(OpFork.CANYON, timestamp):
            return self.eip1559_denominator_canyon
        return self.eip1559_denominator

    @classmethod
    def from_genesis_config(cls, config: Mapping[str, Any]) -> ChainConfig:
        """Read the `config` object of an op-geth style `genesis.json`.

        Raises:
            InvalidChainConfig: If a field is malformed, forks are out of order, an Ethereum fork's time
                differs from that of the OP fork it arrives with, or there is no `optimism` section.
        """
        _expect_object(config, "genesis config")
        constants = config.get("optimism")
        if not isinstance(constants, Mapping):
            raise InvalidChainConfig("genesis config has no `optimism` section: not an OP Stack chain")
        times = {fork: _number(config, f"{fork.label}Time") for fork in _SCHEDULED}
        schedule = parse_schedule(times)
        for name, fork in _ETHEREUM_TIMES.items():
            ethereum = _number(config, name)
            if ethereum is not None and ethereum != times[fork]:
                raise InvalidChainConfig(f"{name} {ethereum} differs from {fork.label}Time {times[fork]}")
        return cls(_required(config, "chainId"), schedule, "", *_fee_constants(constants))

    @classmethod
    def from_rollup(cls, rollup: Mapping[str, Any]) -> ChainConfig:
        """Read op-node's `rollup.json`.

        Raises:
            InvalidChainConfig: If a field is malformed or forks are out of order.
        """
        _expect_object(rollup, "rollup config")
        times = {fork: _number(rollup, f"{fork.label}_time") for fork in _SCHEDULED}
        block_time = _number(rollup, "block_time")
        return cls(
            _required(rollup, "l2_chain_id"),
            parse_schedule(times),
            "",
            *_fee_constants(rollup.get("chain_op_config") or {}),
            block_time=2 if block_time is None else block_time,
            genesis_hash=_genesis_hash(rollup),
        )

    def to_genesis_config(self) -> dict[str, Any]:
        """The `config` object that op-geth and op-reth read, inverse of `from_genesis_config`."""
        blocks = (
            "homestead eip150 eip155 eip158 byzantium constantinople petersburg istanbul muirGlacier berlin "
            "london arrowGlacier grayGlacier mergeNetsplit bedrock"
        )
        config: dict[str, Any] = {"chainId": self.chain_id}
        config |= {f"{name}Block": 0 for name in blocks.split()}
        config |= {f"{fork.label}Time": time for fork, time in self.schedule}
        scheduled = dict(self.schedule)
        config |= {name: scheduled[fork] for name, fork in _ETHEREUM_TIMES.items() if fork in scheduled}
        config["terminalTotalDifficulty"] = 0
        config["optimism"] = {
            "eip1559Elasticity": self.eip1559_elasticity,
            "eip1559Denominator": self.eip1559_denominator,
            "eip1559DenominatorCanyon": self.eip1559_denominator_canyon,
        }
        return config


def parse_schedule(times: Mapping[OpFork, int | None]) -> tuple[tuple[OpFork, int], ...]:
    """Order fork times; none may be earlier than one before it.

    A fork that is left out comes with the next one that is not: rollup-boost's genesis schedules Isthmus but
    not Holocene, and rules only ever build on their predecessor's.

    Raises:
        InvalidChainConfig: If the order is wrong.
    """
    schedule: list[tuple[OpFork, int]] = []
    for fork in _SCHEDULED:
        time = times.get(fork)
        if time is None:
            continue
        if schedule and time < schedule[-1][1]:
            earlier, limit = schedule[-1]
            raise InvalidChainConfig(f"{fork.label} at {time} is before {earlier.label} at {limit}")
        schedule.append((fork, time))
    return tuple(schedule)


def schedule_up_to(latest: OpFork) -> tuple[tuple[OpFork, int], ...]:
    """Every fork up to `latest`, active from genesis."""
    return tuple((fork, 0) for fork in _SCHEDULED if fork <= latest)


def _fee_constants(constants: Mapping[str, Any]) -> tuple[int, int, int]:
    """Elasticity and both denominators; one that is absent has OP Mainnet's value, zero is refused."""
    _expect_object(constants, "chain_op_config")
    values: list[int] = []
    for key, default in (
        ("eip1559Elasticity", DEFAULT_ELASTICITY),
        ("eip1559Denominator", DEFAULT_DENOMINATOR),
        ("eip1559DenominatorCanyon", DEFAULT_DENOMINATOR_CANYON),
    ):
        value = _number(constants, key)
        if value == 0:
            raise InvalidChainConfig(f"{key} is zero")
        values.append(default if value is None else value)
    elasticity, denominator, canyon = values
    return elasticity, denominator, canyon


def _expect_object(value: object, name: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidChainConfig(f"{name} is not an object")


def _required(source: Mapping[str, Any], key: str) -> int:
    value = _number(source, key)
    if not value:
        raise InvalidChainConfig(f"{key} is missing")
    return value


def _number(source: Mapping[str, Any], key: str) -> int | None:
    """An unsigned 64-bit number given as a number or hex string; None if absent or null."""
    value = source.get(key)
    if value is None:
        return None
    try:
        return parse_number(value, most=MAX_U64)
    except DataError:
        shown = str(value)[:40] if isinstance(value, str | int) else type(value).__name__
        raise InvalidChainConfig(f"{key} {shown!r} is not an unsigned 64-bit number") from None


def _genesis_hash(rollup: Mapping[str, Any]) -> bytes | None:
    """`genesis.l2.hash`, where the file has it."""
    section: object = rollup
    for key in ("genesis", "l2", "hash"):
        section = section.get(key) if isinstance(section, Mapping) else None
    return parse_hex(section, size=32) if isinstance(section, str) else None
