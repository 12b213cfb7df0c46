"""What the protocol itself does to the state before a block's first transaction.

In this order: the create2 deployer's code (first Canyon block only), the beacon root of the L1 origin into
EIP-4788's contract (Ecotone), the parent's hash into EIP-2935's (Isthmus). The two calls have gas of their
own, no sender's nonce and no fee; in the block that activates their fork the contract does not exist yet, and
nothing happens.
"""

from __future__ import annotations

from typing import Final

from flashctl.evm.forks import EvmRules
from flashctl.evm.machine import execute_message
from flashctl.evm.message import BlockEnv, Message, TxEnv
from flashctl.evm.state import JournaledState
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.create2_deployer import CREATE2_DEPLOYER, CREATE2_DEPLOYER_CODE
from flashctl.op.forks import OpFork

__all__ = ["BEACON_ROOTS", "HISTORY_STORAGE", "SYSTEM_ADDRESS", "begin_block"]

SYSTEM_ADDRESS: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFE
"""The caller of system calls (EIP-4788)."""

BEACON_ROOTS: Final = 0x000F3DF6D732807EF1319FB7B8BB8522D0BEAC02
HISTORY_STORAGE: Final = 0x0000F90827F1C53A10CB7A02335B175320002935
_SYSTEM_CALL_GAS: Final = 30_000_000


def begin_block(
    state: JournaledState,
    config: ChainConfig,
    rules: EvmRules,
    env: BlockEnv,
    context: BlockContext,
    parent_timestamp: int,
) -> None:
    """Apply everything that precedes the block's transactions."""
    if config.activates(OpFork.CANYON, context.timestamp, parent_timestamp):
        state.begin_transaction()
        state.set_code(CREATE2_DEPLOYER, CREATE2_DEPLOYER_CODE)
        state.finish_transaction()
    if context.parent_beacon_block_root is not None:
        _call(state, rules, env, BEACON_ROOTS, context.parent_beacon_block_root)
    if config.fork_at(context.timestamp).stores_block_hashes:
        _call(state, rules, env, HISTORY_STORAGE, context.parent_hash)


def _call(state: JournaledState, rules: EvmRules, env: BlockEnv, contract: int, word: bytes) -> None:
    state.begin_transaction()
    message = Message(SYSTEM_ADDRESS, contract, 0, word, _SYSTEM_CALL_GAS)
    execute_message(state, env, TxEnv(SYSTEM_ADDRESS), rules, message)
    state.finish_transaction()
