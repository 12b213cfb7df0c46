"""Calls, estimates and access lists on small hand-assembled contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.op_chain import JOVIAN, KARST, block_context, no_ancestors, state_with

from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import JournaledState
from flashctl.op.call import (
    CallRequest,
    CallResult,
    ExecutionHalted,
    ExecutionReverted,
    Simulation,
    create_access_list,
    estimate_gas,
    revert_reason,
    simulate_call,
)
from flashctl.op.config import ChainConfig
from flashctl.op.overrides import AccountOverride, BlockOverrides, InvalidOverride

CALLER = b"\xca" * 20
CONTRACT = b"\xc0" * 20
TARGET = int.from_bytes(CONTRACT, "big")

RETURN_TOP = "5f5260205ff3"
"""MSTORE(0, top); RETURN(0, 32)"""

SLOT_ZERO = bytes.fromhex("5f54" + RETURN_TOP)
TIMESTAMP = bytes.fromhex("42" + RETURN_TOP)
STORE_ONE = bytes.fromhex("60015f5500")
REVERT = bytes.fromhex("5f5ffd")
INVALID = bytes.fromhex("fe")
LOOP = bytes.fromhex("5b5f56")
NEEDS_100K = bytes.fromhex("5a620186a010600c575f5ffd5b00")
"""Reverts unless more than 100,000 gas are left: what it uses says nothing about what it needs."""


def state(code: bytes = b"", balance: int = 10**18) -> JournaledState:
    return state_with({CALLER: (balance, b""), CONTRACT: (0, code)})


def call(
    code: bytes,
    *,
    config: ChainConfig = JOVIAN,
    request: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
    **options: Any,
) -> CallResult:
    wanted = CallRequest(**({"sender": CALLER, "to": CONTRACT} | dict(request or {})))
    simulation = Simulation(config, block_context(), wanted, **options)
    return simulate_call(simulation, state(code), no_ancestors, deadline)


def estimate(code: bytes, *, config: ChainConfig = JOVIAN, balance: int = 10**18, **request: Any) -> int:
    wanted = CallRequest(**({"sender": CALLER, "to": CONTRACT} | request))
    return estimate_gas(Simulation(config, block_context(), wanted), state(code, balance), no_ancestors)


class TestCall:
    def test_a_creation_answers_with_the_code_it_deploys(self) -> None:
        """viem's and ethers' calls without a deployed contract read their result from there."""
        init = bytes.fromhex("602a5f5260205ff3")  # MSTORE(0, 42); RETURN(0, 32)
        result = call(b"", request={"to": None, "data": init})
        assert result.succeeded and int.from_bytes(result.output, "big") == 42

    def test_output_and_gas(self) -> None:
        result = call(TIMESTAMP)
        assert int.from_bytes(result.output, "big") == block_context().timestamp
        assert result.succeeded and result.gas_used == 21_000 + 2 + 2 + 3 + 3 + 3 + 2

    def test_the_state_is_not_changed(self) -> None:
        ground = state(STORE_ONE)
        request = CallRequest(sender=CALLER, to=CONTRACT)
        simulate_call(Simulation(JOVIAN, block_context(), request), ground, no_ancestors)
        assert ground.storage(TARGET, 0) == 0
        assert not ground.changes()

    def test_revert_and_halt_become_errors(self) -> None:
        with pytest.raises(ExecutionReverted) as reverted:
            call(REVERT).require_success()
        assert reverted.value.data == b"" and str(reverted.value) == "execution reverted"
        with pytest.raises(ExecutionHalted, match="invalid opcode"):
            call(INVALID).require_success()

    def test_funds(self) -> None:
        with pytest.raises(ExecutionHalted, match="insufficient funds"):
            call(b"", request={"value": 10**19})
        with pytest.raises(ExecutionHalted, match="insufficient funds"):
            call(b"", request={"gas_price": 10**18, "gas": 21_000})

    def test_an_endless_loop_ends_with_the_deadline(self) -> None:
        with pytest.raises(ExecutionTimeout):
            call(LOOP, deadline=Deadline(0.02), gas_cap=10**12)

    def test_a_call_may_exceed_the_cap_of_transactions(self) -> None:
        assert call(TIMESTAMP, config=KARST, request={"gas": 30_000_000}).succeeded


class TestOverrides:
    def test_storage(self) -> None:
        for override in (AccountOverride(state={0: 7}), AccountOverride(state_diff={0: 7})):
            result = call(SLOT_ZERO, overrides={TARGET: override})
            assert int.from_bytes(result.output, "big") == 7

    def test_full_state_replaces_what_is_there(self) -> None:
        ground = state(SLOT_ZERO)
        ground.set_storage(TARGET, 0, 5)
        for override, expected in (
            (AccountOverride(state={1: 1}), 0),
            (AccountOverride(state_diff={1: 1}), 5),
        ):
            request = CallRequest(sender=CALLER, to=CONTRACT)
            simulation = Simulation(JOVIAN, block_context(), request, {TARGET: override})
            result = simulate_call(simulation, ground, no_ancestors)
            assert int.from_bytes(result.output, "big") == expected

    def test_code_and_balance(self) -> None:
        sender = int.from_bytes(CALLER, "big")
        result = call(
            b"",
            request={"value": 10**20},
            overrides={TARGET: AccountOverride(code=TIMESTAMP), sender: AccountOverride(balance=10**20)},
        )
        assert result.succeeded and len(result.output) == 32

    def test_block(self) -> None:
        result = call(TIMESTAMP, block_overrides=BlockOverrides(timestamp=2_000_000_000))
        assert int.from_bytes(result.output, "big") == 2_000_000_000

    def test_a_precompile_moves(self) -> None:
        result = call(
            b"", request={"data": b"abc"}, overrides={4: AccountOverride(move_precompile_to=TARGET)}
        )
        assert result.output == b"abc"
        with pytest.raises(InvalidOverride, match="is not a precompile"):
            call(b"", overrides={TARGET: AccountOverride(move_precompile_to=4)})

    def test_both_kinds_of_storage_are_refused(self) -> None:
        with pytest.raises(InvalidOverride, match="both 'state' and 'stateDiff'"):
            call(b"", overrides={TARGET: AccountOverride(state={}, state_diff={})})


class TestEstimate:
    def test_a_plain_transfer_is_exact(self) -> None:
        assert estimate(b"", value=1) == 21_000

    def test_calldata_to_an_account_without_code_pays_the_floor(self) -> None:
        assert 21_000 + 40 * 100 <= estimate(b"", data=b"\x01" * 100) <= 25_500

    def test_enough_but_not_much_more(self) -> None:
        needed = call(STORE_ONE).gas_spent
        found = estimate(STORE_ONE)
        assert needed <= found <= needed * 1.2
        assert call(STORE_ONE, request={"gas": found}).succeeded

    def test_a_contract_that_looks_at_its_gas(self) -> None:
        found = estimate(NEEDS_100K)
        assert 121_000 < found < 125_000
        assert call(NEEDS_100K, request={"gas": found}).succeeded

    def test_failures(self) -> None:
        with pytest.raises(ExecutionReverted):
            estimate(REVERT)
        with pytest.raises(ExecutionHalted, match=r"gas required exceeds allowance \(100000\)"):
            estimate(LOOP, gas=100_000)
        with pytest.raises(ExecutionHalted):
            estimate(STORE_ONE, gas=21_100)

    def test_bounded_by_what_the_sender_can_pay_and_by_osakas_cap(self) -> None:
        with pytest.raises(ExecutionHalted, match=r"allowance \(40000\)"):
            estimate(STORE_ONE, gas_price=10, balance=400_000)
        with pytest.raises(ExecutionHalted, match=r"allowance \(16777216\)"):
            estimate(LOOP, config=KARST)

    def test_poor_senders_and_impossible_limits_are_answered_in_geths_words(self) -> None:
        """Wallets take them apart: https://github.com/ethereum-optimism/op-geth, eth/gasestimator."""
        poor = {"gas_price": 10, "fee_cap": 20}
        for balance, value in ((0, 0), (5, 5), (4, 5)):
            with pytest.raises(ExecutionHalted, match=r"^insufficient funds for transfer$"):
                estimate(b"", balance=balance, value=value, **poor)
        # Measured by the cap that is offered, not by the price that is paid.
        with pytest.raises(ExecutionHalted, match=r"^gas required exceeds allowance \(20000\)$"):
            estimate(b"", balance=400_000, **poor)
        with pytest.raises(ExecutionHalted, match=r"^gas required exceeds allowance \(20000\)$"):
            estimate(STORE_ONE, balance=400_000, **poor)
        text = r"^failed with \d+ gas: insufficient funds for gas \* price \+ value: address 0x\w{40}"
        with pytest.raises(ExecutionHalted, match=text + " have 1 want 2$"):
            estimate(STORE_ONE, balance=1, value=2)
        assert estimate(b"", gas=5) == estimate(b"", gas=0) == estimate(b"", gas=20_999) == 21_000
        assert estimate(STORE_ONE, gas=20_999) == estimate(STORE_ONE)


class TestAccessList:
    def test_slots_of_the_called_contract(self) -> None:
        simulation = Simulation(JOVIAN, block_context(), CallRequest(CALLER, CONTRACT))
        entries, result = create_access_list(simulation, state(SLOT_ZERO), no_ancestors)
        assert [(entry.address, entry.storage_keys) for entry in entries] == [(CONTRACT, (bytes(32),))]
        assert result.gas_used == call(SLOT_ZERO).gas_used + 2_400 + 1_900 - 2_000

    def test_nothing_touched(self) -> None:
        simulation = Simulation(JOVIAN, block_context(), CallRequest(CALLER, CONTRACT))
        entries, _ = create_access_list(simulation, state(), no_ancestors)
        assert entries == ()


class TestRevertReason:
    def test_error_panic_and_neither(self) -> None:
        text = b"not enough"
        encoded = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + len(text).to_bytes(32, "big")
        assert revert_reason(encoded + text.ljust(32, b"\0")) == "not enough"
        assert revert_reason(encoded) is None
        panic = bytes.fromhex("4e487b71")
        assert revert_reason(panic + (0x11).to_bytes(32, "big")) == "arithmetic underflow or overflow"
        assert revert_reason(panic + (0x99).to_bytes(32, "big")) == "unknown panic code: 0x99"
        assert revert_reason(b"") is None

    def test_absurd_offsets_are_no_reason(self) -> None:
        assert revert_reason(bytes.fromhex("08c379a0") + b"\xff" * 64) is None
