"""A state with code in it, and messages to it, on a chosen tier."""

from __future__ import annotations

from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.forks import PRAGUE, EvmRules
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit.compiler import compile_superblock
from flashctl.evm.machine import execute_message
from flashctl.evm.message import BlockEnv, Deadline, Message, MessageResult, TxEnv
from flashctl.evm.precompiles import tables
from flashctl.evm.state import Account, EmptyReader, JournaledState

__all__ = ["BLOCK", "CALLER", "CONTRACT", "PRAGUE_RULES", "TIERS", "run_code", "state_with"]

CALLER = 0xCA11E4
CONTRACT = 0xC0DE
BLOCK = BlockEnv(
    number=100,
    timestamp=1_700_000_000,
    gas_limit=30_000_000,
    base_fee=7,
    coinbase=0xC01BA5E,
    prev_randao=1,
    chain_id=10,
)
PRAGUE_RULES = PRAGUE.with_precompiles(tables.PRAGUE)

TIERS = {
    "interpreter": TierPolicy(interpret, None),
    "compiler": TierPolicy(interpret, compile_superblock, hot_after=0),
    "mixed": TierPolicy(interpret, compile_superblock, hot_after=2),
}


def state_with(*codes: bytes) -> JournaledState:
    """A funded caller, and contracts at CONTRACT, CONTRACT + 1 and so on."""
    state = JournaledState(EmptyReader())
    state.begin_transaction()
    state.put_account(CALLER, Account(0, 10**24, EMPTY_CODE_HASH))
    for index, code in enumerate(codes):
        state.put_account(CONTRACT + index, Account(1, 0, EMPTY_CODE_HASH))
        state.set_code(CONTRACT + index, code)
    state.finish_transaction()
    return state


def run_code(
    code: bytes | JournaledState,
    tier: str = "interpreter",
    *,
    data: bytes = b"",
    gas: int = 1_000_000,
    value: int = 0,
    is_static: bool = False,
    rules: EvmRules = PRAGUE_RULES,
    deadline: Deadline | None = None,
) -> MessageResult:
    """Call CONTRACT in a state that has it, or in a new one with this code."""
    state = state_with(code) if isinstance(code, bytes) else code
    message = Message(CALLER, CONTRACT, value, data, gas, is_static)
    codes = CodeCache(rules.instructions, TIERS[tier])
    return execute_message(state, BLOCK, TxEnv(CALLER), rules, message, deadline=deadline, codes=codes)
