"""What holds for any block: no wei appears or vanishes, and how often a block is sealed changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.op_chain import (
    CANYON,
    ECOTONE,
    HOLOCENE,
    ISTHMUS,
    JOVIAN,
    KARST,
    SENDER,
    attributes_deposit,
    envelope_of,
    no_ancestors,
    parent_header,
    transfer,
    world_with,
)

from flashctl.eth.transactions import DepositTx
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import (
    BlockContext,
    BlockExecution,
    TransactionRejected,
    execute_block,
)
from flashctl.op.fees import L1_BLOCK
from flashctl.op.forks import OpFork

FORWARDER = b"\xf0" * 20
HALF_REVERTER = b"\xf1" * 20
CREATOR = b"\xf2" * 20
BOMB = b"\xf3" * 20
CODES = {
    # Sends half of what it holds to 0x99..99 and keeps the rest.
    FORWARDER: bytes.fromhex("5f5f5f5f600247047399" + "99" * 19 + "5af100"),
    # Reverts if the call carries ether, stores otherwise.
    HALF_REVERTER: bytes.fromhex("3460095743600155005b5f5ffd"),
    # Creates a contract that holds the call's ether and destroys itself in its constructor, to the creator.
    CREATOR: bytes.fromhex("6133ff5f526002601e34f000"),
    # Destroys itself to 0x99..99: keeps its code since Cancun, gives its ether away.
    BOMB: bytes.fromhex("7399" + "99" * 19 + "ff"),
}
TARGETS = (*CODES, b"\x99" * 20, SENDER, L1_BLOCK.to_bytes(20, "big"), None)
DEPOSITORS = (b"\xd0" * 20, b"\xd1" * 20, SENDER)
SLOTS = {
    1: 10**9,
    3: 1368 << 96 | 810949 << 64,
    5: 188,
    6: 684_000,
    7: 5,
    8: 400 << 96 | 1_000_000 << 64 | 77,
}
L1_BLOCK_BYTES = L1_BLOCK.to_bytes(20, "big")
WORLD = world_with(
    {SENDER: (10**19, b""), L1_BLOCK_BYTES: (1, b"")}
    | {address: (1000, code) for address, code in CODES.items()},
    {(L1_BLOCK_BYTES, slot): value for slot, value in SLOTS.items()},
)
TOTAL = 10**19 + 1 + 1000 * len(CODES)


@dataclass(frozen=True)
class Action:
    """One thing that a block may hold."""

    deposit: bool
    target: int
    value: int
    mint: int
    gas: int
    data: bytes
    seal: bool


ACTIONS = st.lists(
    st.builds(
        Action,
        deposit=st.booleans(),
        target=st.integers(0, len(TARGETS) - 1),
        value=st.sampled_from((0, 1, 10**6, 10**17, 10**20)),
        mint=st.sampled_from((0, 5, 10**18)),
        gas=st.sampled_from((20_000, 21_000, 30_000, 100_000, 400_000, 2**24 + 1)),
        data=st.binary(max_size=80),
        seal=st.booleans(),
    ),
    max_size=10,
)


def envelope(action: Action, nonce: int, index: int) -> TxEnvelope:
    to = TARGETS[action.target]
    if action.deposit:
        sender = DEPOSITORS[index % len(DEPOSITORS)]
        tx = DepositTx(
            bytes((index,)) * 32, sender, to, action.mint, action.value, action.gas, False, action.data
        )
        return envelope_of(tx)
    return transfer(nonce, to=to, value=action.value, gas_limit=action.gas, data=action.data)


def opened(config: ChainConfig) -> BlockExecution:
    parent = parent_header(config, WORLD)
    fork = config.fork_at(parent.timestamp + 2)
    attributes = PayloadAttributes(
        timestamp=parent.timestamp + 2,
        prev_randao=b"\x33" * 32,
        fee_recipient=b"\x11" * 20,
        gas_limit=60_000_000,
        parent_beacon_block_root=b"\x44" * 32 if fork >= OpFork.ECOTONE else None,
        eip1559_params=bytes(8) if fork >= OpFork.HOLOCENE else None,
        min_base_fee=0 if fork >= OpFork.JOVIAN else None,
    )
    context = BlockContext.from_attributes(config, parent, attributes)
    return BlockExecution(config, parent, context, WORLD, no_ancestors)


@pytest.mark.parametrize(
    "config", [CANYON, ECOTONE, HOLOCENE, ISTHMUS, JOVIAN, KARST], ids=lambda config: config.fork_at(0).label
)
@given(actions=ACTIONS)
@settings(max_examples=examples(50))
def test_ether_is_conserved_and_the_block_is_valid(config: ChainConfig, actions: list[Action]) -> None:
    execution = opened(config)
    execution.execute(attributes_deposit())
    minted = 0
    for index, action in enumerate(actions):
        nonce = execution.state.get_account(int.from_bytes(SENDER, "big")).nonce
        try:
            execution.execute(envelope(action, nonce, index))
        except TransactionRejected:
            continue
        minted += action.mint if action.deposit else 0
        if action.seal:
            execution.seal()
    sealed = execution.seal()
    held = sum(account.balance for account in execution.state.accounts.values())
    unseen = sum(
        balance for address, balance in known_balances().items() if address not in execution.state.accounts
    )
    assert held + unseen == TOTAL + minted
    checked = execute_block(config, execution.parent, sealed.block, WORLD, no_ancestors)
    assert checked.hash == sealed.hash


def known_balances() -> dict[int, int]:
    balances = {int.from_bytes(address, "big"): 1000 for address in CODES}
    return balances | {int.from_bytes(SENDER, "big"): 10**19, L1_BLOCK: 1}
