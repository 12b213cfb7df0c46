"""Frames, budgets and results of messages, on every tier."""

from __future__ import annotations

import sys

import pytest
from support.assembler import assemble
from support.evm_runs import BLOCK, CALLER, CONTRACT, PRAGUE_RULES, TIERS, run_code, state_with

from flashctl.evm.code import CodeCache
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.machine import execute_message
from flashctl.evm.message import Deadline, Message, MessageStatus, TxEnv

pytestmark = pytest.mark.parametrize("tier", TIERS)

RETURN_TOP = "PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN"

RECURSE = assemble(
    """
    PUSH1 0 SLOAD PUSH1 1 ADD PUSH1 0 SSTORE
    PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 ADDRESS GAS CALL STOP
    """
)
"""Counts in slot 0, then calls itself."""

FOREVER = assemble("again: @again JUMP")
FOREVER_CALLING = assemble("again: PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 4 GAS CALL POP @again JUMP")
FOREVER_HASHING = assemble(
    "PUSH1 7 again: PUSH1 1 ADD DUP1 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 KECCAK256 POP @again JUMP"
)


def test_calls_nest_1024_deep_without_python_recursion(tier: str) -> None:
    state = state_with(RECURSE)
    limit = sys.getrecursionlimit()
    result = run_code(state, tier, gas=10**15)
    assert result.status is MessageStatus.SUCCEEDED
    assert state.storage(CONTRACT, 0) == 1025, "depths 0 to 1,024"
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("code", [FOREVER, FOREVER_CALLING, FOREVER_HASHING], ids=["jump", "call", "hash"])
def test_an_endless_loop_meets_its_deadline(tier: str, code: bytes) -> None:
    state = state_with(code)
    start = state.snapshot()
    with pytest.raises(ExecutionTimeout) as timeout:
        run_code(state, tier, gas=10**15, deadline=Deadline(0.05))
    assert timeout.value.budget_s == 0.05
    state.revert(start)
    assert state.account(CALLER) is not None


def test_an_endless_loop_ends_with_its_gas(tier: str) -> None:
    result = run_code(FOREVER, tier, gas=50_000)
    assert (result.status, result.gas_left, result.halt_reason) == (MessageStatus.HALTED, 0, "out of gas")


@pytest.mark.parametrize(
    "offset", [2**20, 2**32, 2**64, 2**256 - 1], ids=["1 MiB", "4 GiB", "2**64", "the last byte"]
)
def test_memory_is_bounded_by_gas(tier: str, offset: int) -> None:
    code = assemble(f"PUSH32 {offset} MLOAD STOP")
    result = run_code(code, tier, gas=1_000_000)
    assert result.halt_reason == ("out of gas" if offset < 2**63 else "gas uint64 overflow")


def test_a_copy_is_bounded_by_gas(tier: str) -> None:
    for instruction in ("CALLDATACOPY", "CODECOPY", "MCOPY"):
        for size, reason in ((2**32, "out of gas"), (2**64, "gas uint64 overflow")):
            code = assemble(f"PUSH32 {size} PUSH0 PUSH0 {instruction} STOP")
            assert run_code(code, tier, gas=1_000_000).halt_reason == reason


def test_an_empty_range_expands_nothing_wherever_it_is(tier: str) -> None:
    code = assemble(f"PUSH1 0 PUSH32 {2**256 - 1} KECCAK256 MSIZE {RETURN_TOP}")
    assert run_code(code, tier).output == bytes(32)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ADD", "stack underflow"),
        ("PUSH1 1 DUP2", "stack underflow"),
        ("PUSH1 1 SWAP1", "stack underflow"),
        ("again: PUSH1 1 @again JUMP", "stack overflow"),
        ("PUSH1 4 JUMP JUMPDEST", "invalid jump destination"),
        ("PUSH1 4 JUMP PUSH2 23296", "invalid jump destination"),
        ("INVALID", "invalid opcode"),
        ("PUSH1 1 PUSH1 0 PUSH1 0 RETURNDATACOPY", "return data out of bounds"),
    ],
)
def test_a_halt_says_why_and_takes_all_gas(tier: str, code: str, reason: str) -> None:
    result = run_code(assemble(code), tier)
    assert (result.status, result.gas_left, result.halt_reason) == (MessageStatus.HALTED, 0, reason)


def test_a_revert_keeps_gas_and_reason(tier: str) -> None:
    code = assemble("PUSH1 7 PUSH1 0 SSTORE PUSH1 42 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 REVERT")
    state = state_with(code)
    result = run_code(state, tier)
    assert result.status is MessageStatus.REVERTED
    assert result.output == (42).to_bytes(32, "big")
    assert result.gas_left > 0 and result.halt_reason is None
    assert state.storage(CONTRACT, 0) == 0


@pytest.mark.parametrize("write", ["PUSH1 1 PUSH1 0 SSTORE", "PUSH1 0 PUSH1 0 LOG0", "PUSH1 0 SELFDESTRUCT"])
def test_a_static_call_writes_nothing(tier: str, write: str) -> None:
    assert run_code(assemble(write), tier, is_static=True).halt_reason == "write in a static call"


def test_the_stack_holds_1024_words(tier: str) -> None:
    pushes = "PUSH1 1 " * 1023
    assert run_code(assemble(pushes + "PUSH1 1 STOP"), tier).status is MessageStatus.SUCCEEDED
    assert run_code(assemble(pushes + "PUSH1 1 PUSH1 1 POP STOP"), tier).halt_reason == "stack overflow"


@pytest.mark.parametrize("code", [b"", *(bytes((opcode,)) for opcode in range(0x5F, 0x80))])
def test_code_may_end_in_the_middle_of_a_push(tier: str, code: bytes) -> None:
    assert run_code(code, tier).status is MessageStatus.SUCCEEDED
    assert run_code(b"\x5b" + code, tier).status is MessageStatus.SUCCEEDED


@pytest.mark.parametrize(("below", "more"), [(768, 256), (769, 255), (1000, 24), (1023, 1), (1024, 0)])
def test_a_stack_outgrows_its_limit_inside_a_block(tier: str, below: int, more: int) -> None:
    """The block behind the label starts on `below` words and reaches up to 1,024 of them, or one more."""
    start = "PUSH1 1 " * below + "block: "
    end = " POP" * (more + 1) + " STOP"
    assert run_code(assemble(start + "PUSH1 1 " * more + end), tier).status is MessageStatus.SUCCEEDED
    overflow = run_code(assemble(start + "PUSH1 1 " * (more + 1) + end), tier)
    assert overflow.halt_reason == "stack overflow"


@pytest.mark.parametrize("taker", ["POP", "ADD", "DUP3", "SWAP2", "MSTORE", "LOG0", "SSTORE", "@block JUMPI"])
def test_a_stack_runs_out_inside_a_block(tier: str, taker: str) -> None:
    """Two words below the label, of which the block takes the first."""
    code = assemble(f"PUSH1 1 PUSH1 1 block: POP POP {taker} STOP")
    assert run_code(code, tier).halt_reason == "stack underflow"


def test_a_message_creates_at_the_address_of_the_nonce(tier: str) -> None:
    state = state_with()
    codes = CodeCache(PRAGUE_RULES.instructions, TIERS[tier])
    init = assemble("PUSH1 0 PUSH1 0 MSTORE8 PUSH1 1 PUSH1 0 RETURN")
    message = Message(CALLER, None, 5, init, 100_000)
    result = execute_message(state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=codes)
    assert result.created is not None and result.output == b"\x00"
    assert state.code_of(result.created) == b"\x00"
    assert state.get_account(result.created)[:2] == (1, 5)


def test_a_creation_returns_nothing_to_its_creator(tier: str) -> None:
    """Only who sends the message learns the code; a contract finds an empty return buffer (EIP-211)."""
    init = bytes.fromhex("600160005360016000f3")  # MSTORE8(0, 1); RETURN(0, 1)
    create = f"PUSH10 0x{init.hex()} PUSH1 0 MSTORE PUSH1 10 PUSH1 22 PUSH1 0 CREATE POP "
    assert run_code(assemble(create + "RETURNDATASIZE " + RETURN_TOP), tier).output == bytes(32)


@pytest.mark.parametrize("reads", ["SELFBALANCE", "ADDRESS BALANCE"])
def test_balances_that_add_up_to_more_than_a_word(tier: str, reads: str) -> None:
    """Tools override everybody's balance with the largest there is, then send some."""
    state = state_with(assemble(f"{reads} {RETURN_TOP}"))
    for address in (CALLER, CONTRACT):
        state.put_account(address, state.get_account(address)._replace(balance=2**256 - 1))
    assert int.from_bytes(run_code(state, tier, value=5).output, "big") == 4


def test_precompile_and_plain_account_answer_without_a_frame(tier: str) -> None:
    identity = assemble(
        "PUSH1 42 PUSH1 0 MSTORE PUSH1 32 PUSH1 32 PUSH1 32 PUSH1 0 PUSH1 0 PUSH1 4 GAS CALL POP "
        "PUSH1 32 MLOAD " + RETURN_TOP
    )
    assert run_code(identity, tier).output == (42).to_bytes(32, "big")
    nobody = assemble("PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH2 4919 GAS CALL " + RETURN_TOP)
    assert run_code(nobody, tier).output == (1).to_bytes(32, "big")


def test_one_frame_may_change_tiers_in_the_middle(tier: str) -> None:
    """A loop of 300 rounds with a call and a storage write in it, whatever is compiled when."""
    code = assemble(
        """
        PUSH2 300 again:
        DUP1 PUSH1 3 AND PUSH1 0 SLOAD ADD PUSH1 0 SSTORE
        PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 4 GAS CALL POP
        PUSH1 1 SWAP1 SUB DUP1 @again JUMPI
        GAS PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN
        """
    )
    state = state_with(code)
    result = run_code(state, tier, gas=3_000_000)
    assert result.status is MessageStatus.SUCCEEDED
    assert state.storage(CONTRACT, 0) == sum(n & 3 for n in range(1, 301))
    assert result.output == run_code(state_with(code), "interpreter", gas=3_000_000).output
