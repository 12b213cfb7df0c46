"""Gas before the first instruction, delegations, refunds, and what a refused transaction leaves: nothing."""

from __future__ import annotations

import pytest
from support.assembler import assemble
from support.evm_runs import BLOCK, CALLER, CONTRACT, PRAGUE_RULES, state_with

from flashctl.eth.intrinsic_gas import calldata_tokens, floor_gas
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.evm.forks import CANCUN, OSAKA, PRAGUE, SHANGHAI, EvmRules
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import Account, JournaledState
from flashctl.evm.transaction import (
    Delegation,
    ExecutionOutcome,
    IntrinsicGasError,
    TxParams,
    check_gas_limit,
    run_transaction,
)

STORE = assemble("PUSH1 1 PUSH1 0 SSTORE STOP")
CLEAR = assemble("PUSH1 0 PUSH1 0 SSTORE STOP")
AUTHORITY = 0xA07


def execute(state: JournaledState, params: TxParams, rules: EvmRules = PRAGUE_RULES) -> ExecutionOutcome:
    state.begin_transaction()
    outcome = run_transaction(state, BLOCK, rules, params)
    state.finish_transaction()
    return outcome


@pytest.mark.parametrize(
    ("params", "gas"),
    [
        (TxParams(CALLER, CONTRACT), 21_000),
        (TxParams(CALLER, CONTRACT, data=b"\0\0\1"), 21_000 + 4 + 4 + 16),
        (TxParams(CALLER, None, data=b"\1" * 33), 21_000 + 33 * 16 + 32_000 + 2 * 2),
        (TxParams(CALLER, CONTRACT, access_list=((1, (1, 2)), (2, ()))), 21_000 + 2 * 2_400 + 2 * 1_900),
        (TxParams(CALLER, CONTRACT, authorizations=(Delegation(0, 1, 0, None),)), 21_000 + 25_000),
    ],
)
def test_intrinsic_gas(params: TxParams, gas: int) -> None:
    assert check_gas_limit(params, PRAGUE_RULES)[0] == gas


def test_the_calldata_floor_binds_from_prague() -> None:
    data = b"\1" * 1000
    assert floor_gas(calldata_tokens(data)) == 21_000 + 40 * 1000
    params = TxParams(CALLER, 0x1234, data=data, gas_limit=100_000)
    assert execute(state_with(), params, CANCUN).gas_used == 21_000 + 16 * 1000
    assert execute(state_with(), params, PRAGUE).gas_used == 61_000
    short = TxParams(CALLER, 0x1234, data=data, gas_limit=60_999)
    with pytest.raises(IntrinsicGasError, match="calldata floor not covered: gas limit 60999, needed 61000"):
        execute(state_with(), short, PRAGUE)


def test_osaka_caps_gas_except_for_deposits() -> None:
    params = TxParams(CALLER, 0x1234, gas_limit=2**24 + 1)
    assert execute(state_with(), params, PRAGUE).succeeded
    with pytest.raises(IntrinsicGasError, match="above the cap"):
        execute(state_with(), params, OSAKA)
    exempt = TxParams(CALLER, 0x1234, gas_limit=2**24 + 1, is_gas_cap_exempt=True)
    assert execute(state_with(), exempt, OSAKA).succeeded


def test_init_code_is_bounded() -> None:
    params = TxParams(CALLER, None, data=bytes(49_153), gas_limit=10**7)
    with pytest.raises(IntrinsicGasError, match="init code too large"):
        execute(state_with(), params)


def test_clearing_storage_gives_back_a_fifth_at_most() -> None:
    state = state_with(CLEAR)
    state.set_storage(CONTRACT, 0, 1)
    state.take_changes()
    outcome = execute(state, TxParams(CALLER, CONTRACT, gas_limit=100_000))
    spent = 21_000 + 3 + 3 + 5_000
    assert (outcome.gas_spent, outcome.gas_refunded) == (spent, 4_800)
    assert outcome.gas_used == spent - 4_800
    assert state.changes().storage == {CONTRACT: {0: 0}}


def test_the_nonce_counts_even_if_execution_fails() -> None:
    state = state_with(assemble("INVALID"))
    outcome = execute(state, TxParams(CALLER, CONTRACT, gas_limit=50_000))
    assert (outcome.succeeded, outcome.gas_used, outcome.halt_reason) == (False, 50_000, "invalid opcode")
    assert state.get_account(CALLER).nonce == 1


def test_a_timeout_leaves_no_trace() -> None:
    state = state_with(assemble("PUSH1 1 PUSH1 0 SSTORE again: @again JUMP"))
    state.take_changes()
    state.begin_transaction()
    with pytest.raises(ExecutionTimeout):
        run_transaction(
            state, BLOCK, PRAGUE_RULES, TxParams(CALLER, CONTRACT, gas_limit=10**12), deadline=Deadline(0.02)
        )
    state.finish_transaction()
    assert not state.changes()


def delegation(address: int = CONTRACT, nonce: int = 0, chain_id: int = 10) -> Delegation:
    return Delegation(chain_id, address, nonce, AUTHORITY)


def test_a_delegated_account_runs_the_code_on_its_own_storage() -> None:
    state = state_with(STORE)
    params = TxParams(CALLER, AUTHORITY, authorizations=(delegation(),), gas_limit=200_000)
    outcome = execute(state, params)
    assert outcome.succeeded
    assert state.storage(AUTHORITY, 0) == 1 and state.storage(CONTRACT, 0) == 0
    assert state.code_of(AUTHORITY) == b"\xef\x01\x00" + CONTRACT.to_bytes(20, "big")
    assert outcome.gas_refunded == 0, "the account did not exist"
    ended = TxParams(CALLER, CONTRACT, authorizations=(delegation(0, 1),), gas_limit=200_000)
    assert execute(state, ended).gas_refunded == 12_500
    assert state.code_of(AUTHORITY) == b""


@pytest.mark.parametrize(
    "void",
    [
        delegation(nonce=1),
        delegation(chain_id=11),
        delegation(nonce=2**64 - 1),
        Delegation(10, CONTRACT, 0, None),
        Delegation(10, CONTRACT, 1, CONTRACT),
    ],
    ids=["nonce", "chain", "last nonce", "signature", "a contract"],
)
def test_a_void_authorization_is_paid_for_and_skipped(void: Delegation) -> None:
    state = state_with(STORE)
    outcome = execute(state, TxParams(CALLER, 0x1234, authorizations=(void,), gas_limit=100_000))
    assert outcome.succeeded and outcome.gas_used == 46_000
    assert state.account(AUTHORITY) is None


def test_a_fork_shows_what_it_changes() -> None:
    def added(new: EvmRules, old: EvmRules) -> set[str]:
        return {
            opcode.name
            for code, opcode in new.instructions.opcodes.items()
            if code not in old.instructions.opcodes
        }

    assert added(CANCUN, SHANGHAI) == {"BLOBHASH", "BLOBBASEFEE", "TLOAD", "TSTORE", "MCOPY"}
    assert PRAGUE.instructions is CANCUN.instructions
    assert added(OSAKA, PRAGUE) == {"CLZ"}
    assert [rules.selfdestruct_deletes_any for rules in (SHANGHAI, CANCUN)] == [True, False]


@pytest.mark.parametrize(("rules", "survives"), [(SHANGHAI, False), (CANCUN, True)])
def test_selfdestruct_deletes_old_contracts_only_before_cancun(rules: EvmRules, survives: bool) -> None:
    state = state_with(assemble("PUSH2 4660 SELFDESTRUCT"))
    state.begin_transaction()
    state.put_account(CONTRACT, state.get_account(CONTRACT)._replace(balance=9))
    state.finish_transaction()
    state.set_storage(CONTRACT, 5, 5)
    state.take_changes()
    execute(state, TxParams(CALLER, CONTRACT, gas_limit=100_000), rules)
    assert (state.account(CONTRACT) is not None) is survives
    assert state.account(0x1234) == Account(0, 9, EMPTY_CODE_HASH)
    assert (CONTRACT in state.changes().cleared) is not survives
