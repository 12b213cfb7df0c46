"""A contract that is slow for want of a library looks at the wall budget on its way, not only before.

The budget here counts looks instead of seconds: so many are let pass, the next one ends the execution.
"""

from __future__ import annotations

import pytest
from support.assembler import assemble
from support.evm_runs import BLOCK, CALLER, CONTRACT, PRAGUE_RULES, state_with

from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.machine import execute_message
from flashctl.evm.message import Deadline, Message, MessageResult, MessageStatus, TxEnv
from flashctl.evm.precompiles import blake2f as blake2f_module
from flashctl.evm.precompiles import bn254_python
from flashctl.evm.precompiles.bn254 import BN254_PAIRING
from flashctl.evm.precompiles.bn254_python import PurePython

GENERATORS = b"".join(
    value.to_bytes(32, "big")
    for value in (
        1,
        2,
        11559732032986387107991004021392285783925812861821192530917403151452391805634,
        10857046999023057135944570762232829481370756359578518086990519993285655852781,
        4082367875863433681332203403145435568316851327593401208105741076214120093531,
        8495653923123431417604973247489272438418190587263600148770280649306958101930,
    )
)
FORWARD = assemble(
    """
    CALLDATASIZE PUSH1 0 PUSH1 0 CALLDATACOPY
    PUSH1 0 PUSH1 0 CALLDATASIZE PUSH1 0 PUSH1 0 PUSH1 9 GAS CALL STOP
    """
)
"""Calls BLAKE2F with what it was given."""


class Looks(Deadline):
    """A budget of so many looks."""

    def __init__(self, allowed: int) -> None:
        super().__init__(3600.0)
        self.left = allowed

    def check(self, ahead_s: float = 0.0) -> None:
        self.left -= 1
        if self.left < 0:
            raise ExecutionTimeout(self.budget_s)


def call(to: int, data: bytes, looks: int) -> MessageResult:
    message = Message(CALLER, to, 0, data, 10**9)
    return execute_message(
        state_with(FORWARD), BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, deadline=Looks(looks)
    )


@pytest.fixture(autouse=True)
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.evm.precompiles.bn254.backend", PurePython)
    monkeypatch.setattr(blake2f_module, "_compression", lambda: blake2f_module.compress)


def test_a_pairing_of_many_ends_between_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = 0
    times_line = bn254_python._times_line

    def counted(*arguments: object) -> object:
        nonlocal lines
        lines += 1
        return times_line(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bn254_python, "_times_line", counted)
    pairs = 40
    with pytest.raises(ExecutionTimeout):
        call(8, GENERATORS * pairs, looks=1 + pairs + 100)
    assert lines == 100, "one look before the call, one a pair on reading it, one a line"


def test_a_pairing_within_its_budget() -> None:
    result = call(8, GENERATORS, looks=1_000)
    assert (result.status, result.output) == (MessageStatus.SUCCEEDED, BN254_PAIRING.run(GENERATORS))


@pytest.mark.parametrize("to", [9, CONTRACT], ids=["called by the transaction", "called by a contract"])
def test_blake2f_ends_within_a_few_hundred_rounds(to: int) -> None:
    """Its rounds at one gas each: 50 million would take ten minutes."""
    endless = (50_000_000).to_bytes(4, "big") + bytes(209)
    with pytest.raises(ExecutionTimeout):
        call(to, endless, looks=10)
    short = (1_000).to_bytes(4, "big") + bytes(209)
    assert call(to, short, looks=10).status is MessageStatus.SUCCEEDED
