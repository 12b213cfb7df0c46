"""Changes to state and block that a simulation starts from: the override objects of `eth_call`.

https://geth.ethereum.org/docs/interacting-with-geth/rpc/objects#state-override-set
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flashctl.errors import InvalidParams
from flashctl.eth.addresses import checksum_address
from flashctl.evm.forks import EvmRules
from flashctl.evm.state import Account, JournaledState
from flashctl.op.context import BlockContext

__all__ = ["AccountOverride", "BlockOverrides", "InvalidOverride", "StateOverrides", "apply_overrides"]


class InvalidOverride(InvalidParams):
    """An override that contradicts itself or names a precompile that is none."""


@dataclass(frozen=True, slots=True)
class AccountOverride:
    """What one account shall be like; None leaves things as they are."""

    balance: int | None = None
    """In wei."""

    nonce: int | None = None
    code: bytes | None = None
    state: Mapping[int, int] | None = None
    """All of its storage: slots that are not named become zero."""

    state_diff: Mapping[int, int] | None = None
    """Some of its storage: slots that are not named stay."""

    move_precompile_to: int | None = None
    """Address at which the precompile that lives here shall answer instead."""


StateOverrides = Mapping[int, AccountOverride]
"""Overrides by address."""


@dataclass(frozen=True, slots=True)
class BlockOverrides:
    """What the block shall look like to contracts; None leaves things as they are."""

    number: int | None = None
    timestamp: int | None = None
    """Seconds since the epoch; it also decides which fork's rules apply."""

    gas_limit: int | None = None
    base_fee: int | None = None
    """Wei per gas."""

    fee_recipient: bytes | None = None
    prev_randao: bytes | None = None
    parent_beacon_block_root: bytes | None = None
    """Passed to the beacon roots contract (EIP-4788); only where whole blocks are simulated."""

    def applied_to(self, context: BlockContext) -> BlockContext:
        """The context with these changes."""
        changes = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        return replace(context, **changes)


def apply_overrides(state: JournaledState, rules: EvmRules, overrides: StateOverrides) -> EvmRules:
    """Change a state, between transactions, and the rules where a precompile moves.

    Raises:
        InvalidOverride: If `state` and `state_diff` are both given, or a moved precompile does not exist.
    """
    precompiles = dict(rules.precompiles)
    for address, override in overrides.items():
        if override.state is not None and override.state_diff is not None:
            raise InvalidOverride(f"account {_shown(address)} has both 'state' and 'stateDiff'")
        if override.move_precompile_to is not None:
            moved = precompiles.pop(address, None)
            if moved is None:
                raise InvalidOverride(f"account {_shown(address)} is not a precompile")
            precompiles[override.move_precompile_to] = moved
        elif address in precompiles and override.code is not None:
            del precompiles[address]
        _override_account(state, address, override)
    return rules.with_precompiles(precompiles) if precompiles != rules.precompiles else rules


def _shown(address: int) -> str:
    return checksum_address(address.to_bytes(20, "big"))


def _override_account(state: JournaledState, address: int, override: AccountOverride) -> None:
    state.begin_transaction()
    if override.code is not None:
        state.set_code(address, override.code)
    if override.balance is not None or override.nonce is not None:
        nonce, balance, code_hash = state.get_account(address)
        nonce = nonce if override.nonce is None else override.nonce
        balance = balance if override.balance is None else override.balance
        state.put_account(address, Account(nonce, balance, code_hash))
    state.finish_transaction()
    if override.state is not None:
        state.clear_storage(address)
    for slot, value in (override.state or override.state_diff or {}).items():
        state.set_storage(address, slot, value)
