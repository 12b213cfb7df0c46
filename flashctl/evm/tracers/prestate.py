"""What a transaction touched, as it was before and, on demand, after: go-ethereum's prestateTracer.

An account counts as touched when an instruction names it, or when it takes part in the transaction itself:
sender, recipient, fee recipient, authorities. A slot does when it is read or written. Both are looked up
before anything could have changed them, and stay when the call that named them fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.evm import opcodes as op
from flashctl.evm.calls import CallKind, create2_address, create_address
from flashctl.evm.code import DELEGATION_PREFIX
from flashctl.evm.frame import Frame
from flashctl.evm.instructions import ADDRESS_MASK
from flashctl.evm.state import EMPTY_ACCOUNT, Account, JournaledState
from flashctl.evm.tracers.tracer import Allowance, Tracer

__all__ = ["PrestateOptions", "PrestateTracer", "StateDifference", "TouchedAccount"]

ACCOUNT_BYTES: Final = 400
"""Of an account without code and storage, in memory and as JSON."""

SLOT_BYTES: Final = 300

_NAMES_ACCOUNT: Final = frozenset(
    (op.BALANCE, op.EXTCODESIZE, op.EXTCODECOPY, op.EXTCODEHASH, op.SELFDESTRUCT)
)
"""Instructions whose operand is the address of an account that they read."""

_CALLS: Final = frozenset(CallKind)
_DELEGATED_CODE_SIZE: Final = 23


@dataclass(frozen=True, slots=True)
class PrestateOptions:
    """What is shown."""

    diff: bool = False
    """Only what changed, before and after."""
    code: bool = True
    storage: bool = True


@dataclass(slots=True)
class TouchedAccount:
    """An account, or what changed of one: None for what did not."""

    balance: int | None
    nonce: int | None
    code: bytes | None
    """None too for an account without any; empty where there is none any more."""
    storage: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateDifference:
    """Accounts before and after; one that is gone is missing from `after`, a new one from `before`."""

    before: dict[int, TouchedAccount]
    after: dict[int, TouchedAccount]


class PrestateTracer(Tracer):
    """Looks things up at first touch. `state` must be the one that the transaction runs on."""

    def __init__(self, state: JournaledState, options: PrestateOptions, allowance: Allowance) -> None:
        self._state = state
        self._options = options
        self._allowance = allowance
        self._accounts: dict[int, Account] = {}
        self._slots: dict[int, dict[int, int]] = {}

    def touch(self, addresses: Iterable[int]) -> None:
        """Name accounts that take part before the first instruction; those they delegate to take part
        too."""
        for address in addresses:
            self._touch(address)
            self._touch_delegate(address)

    def step(self, frame: Frame, pc: int, opcode: int) -> None:
        stack = frame.stack
        if not pc and not frame.depth:
            self._touch_delegate(frame.address)  # which the transaction's own authorizations may have set
        if (opcode == op.SLOAD or (opcode == op.SSTORE and not frame.is_static)) and stack:
            self._touch_slot(frame.address, stack[-1])
        elif opcode in _NAMES_ACCOUNT and stack:
            self._touch(stack[-1] & ADDRESS_MASK)
        elif opcode in _CALLS and len(stack) > 1:
            self._touch(stack[-2] & ADDRESS_MASK)
            self._touch_delegate(stack[-2] & ADDRESS_MASK)
        elif opcode == op.CREATE:
            nonce = self._state.get_account(frame.address).nonce
            self._touch(create_address(frame.address, nonce))
        elif opcode == op.CREATE2 and len(stack) > 3:
            offset, size = stack[-2], stack[-3]
            if size <= frame.context.rules.max_initcode_size:
                init_code = bytes(frame.memory[offset : offset + size]).ljust(size, b"\0")
                self._touch(create2_address(frame.address, stack[-4], init_code))

    def before(self) -> dict[int, TouchedAccount]:
        """Everything touched as it was before the transaction, without what did not exist."""
        return {
            address: self._shown(account, self._slots.get(address, {}))
            for address, account in self._accounts.items()
            if account != EMPTY_ACCOUNT
        }

    def difference(self) -> StateDifference:
        """What the finished transaction changed."""
        state, options = self._state, self._options
        difference = StateDifference({}, {})
        for address, old in self._accounts.items():
            new = state.get_account(address)
            slots = self._slots.get(address, {}) if options.storage else {}
            written = {slot: state.storage(address, slot) for slot, value in slots.items()}
            changed = {slot: value for slot, value in written.items() if value != slots[slot]}
            if new == old and not changed:
                continue
            if old != EMPTY_ACCOUNT:
                kept = {slot: slots[slot] for slot in changed if slots[slot]}
                difference.before[address] = self._shown(old, kept)
            if state.account(address) is not None:
                difference.after[address] = self._changed(
                    old, new, {slot: value for slot, value in changed.items() if value}
                )
        return difference

    def _changed(self, old: Account, new: Account, slots: dict[int, int]) -> TouchedAccount:
        code = None
        if self._options.code and new.code_hash != old.code_hash:
            code = self._state.code(new.code_hash)
            self._allowance.take(2 * len(code))
        return TouchedAccount(
            None if new.balance == old.balance else new.balance,
            None if new.nonce == old.nonce else new.nonce,
            code,
            slots,
        )

    def _shown(self, account: Account, slots: dict[int, int]) -> TouchedAccount:
        code = None
        if self._options.code and account.code_hash != EMPTY_CODE_HASH:
            code = self._state.code(account.code_hash)
            self._allowance.take(2 * len(code))
        return TouchedAccount(account.balance, account.nonce, code, slots if self._options.storage else {})

    def _touch(self, address: int) -> None:
        if address not in self._accounts:
            self._allowance.take(ACCOUNT_BYTES)
            self._accounts[address] = self._state.get_account(address)

    def _touch_delegate(self, address: int) -> None:
        code_hash = self._state.get_account(address).code_hash
        if code_hash == EMPTY_CODE_HASH:
            return
        code = self._state.code(code_hash)
        if len(code) == _DELEGATED_CODE_SIZE and code.startswith(DELEGATION_PREFIX):
            self._touch(int.from_bytes(code[len(DELEGATION_PREFIX) :], "big"))

    def _touch_slot(self, address: int, slot: int) -> None:
        slots = self._slots.setdefault(address, {})
        if slot not in slots:
            self._allowance.take(SLOT_BYTES)
            slots[slot] = self._state.storage(address, slot)
