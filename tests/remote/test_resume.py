"""Run, collect what is missing, fetch, resume: no result rests on a guess, and one fetch is for all that a
run can be found to lack."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.flashblocks import make_flashblock
from support.op_chain import JOVIAN, block_context

from flashctl.core.flashblocks.assembly import MAX_GAS_LIMIT
from flashctl.core.flashblocks.assembly import block_context as streamed_context
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.errors import DataError
from flashctl.eth.transactions import DepositTx, encode_transaction
from flashctl.evm.message import Deadline
from flashctl.evm.missing_state import Missing, StateMissing, attempt
from flashctl.evm.state import NO_CHANGES, Account, StateReader
from flashctl.op.envelope import recover_all
from flashctl.remote.look_up import MAX_ROUNDS, look_up
from flashctl.remote.state import CanonicalBlock, CanonicalState, PendingState, StateView
from flashctl.remote.transactions import BlockSetting, BlockSoFar, Diverged, TransactionRun, look_ahead
from flashctl.remote.upstream_client import UpstreamClient


def unknown() -> PendingState:
    return PendingState(CanonicalState(CanonicalBlock(1, bytes(32), bytes(32), 0, bytes(32), ())))


class Node(UpstreamClient):
    """Knows every slot: its own number plus one."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", timeout_s=1)
        self.loads: list[Missing] = []

    async def load(self, state: CanonicalState, missing: Missing) -> None:
        self.loads.append(missing)
        for address in missing.accounts:
            state.add_account(address, Account(address, 1, bytes(32)), b"")
        for address, slot in missing.slots:
            state.add_slot(address, slot, slot + 1)


def looked_up(work: object) -> tuple[object, list[Missing]]:
    async def body() -> tuple[object, list[Missing]]:
        node = Node()
        try:
            return await look_up(node, unknown(), work, timeout_s=60), node.loads  # type: ignore[arg-type]
        finally:
            await node.close()

    return asyncio.run(body())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_independent_reads_are_one_fetch(slots: list[int]) -> None:
    found, loads = looked_up(lambda state: [state.storage(7, slot) for slot in slots])
    assert found == [slot + 1 for slot in slots]
    assert [load.slots for load in loads] == [{(7, slot) for slot in slots}]


def test_dependent_reads_are_a_fetch_each_and_bounded() -> None:
    def walk(state: StateReader, steps: int) -> int:
        slot = 5
        for _ in range(steps):
            slot = state.storage(7, slot)
        return slot

    found, loads = looked_up(lambda state: walk(state, 6))
    assert found == 11
    # Behind a guessed zero the walk asks for slot 0, which costs a fetch that does not matter.
    assert [max(slot for _, slot in load.slots) for load in loads] == [5, 6, 7, 8, 9, 10]
    with pytest.raises(RpcError, match=f"still missing after {MAX_ROUNDS} fetches"):
        looked_up(lambda state: walk(state, MAX_ROUNDS + 2))


def test_what_a_run_on_guesses_comes_to_means_nothing() -> None:
    state = unknown()
    results: list[int] = []

    def refuse_the_poor(guesses: Missing | None) -> int:
        account = StateView(state, guesses).account(1)
        if account is None:
            raise DataError("a sender that is not loaded owns nothing")
        results.append(account.balance)
        return account.balance

    with pytest.raises(StateMissing) as caught:
        attempt(refuse_the_poor)
    assert caught.value.missing == Missing(accounts={1}) and not results
    state.canonical.add_account(1, Account(0, 9, bytes(32)), b"")
    assert attempt(refuse_the_poor) == 9


def test_a_refusal_of_a_run_that_lacked_nothing_counts() -> None:
    def refuse(_: Missing | None) -> None:
        raise DataError("refused")

    with pytest.raises(DataError, match="refused"):
        attempt(refuse)


def test_a_transaction_that_asks_for_more_gas_than_its_block_has_is_not_tried() -> None:
    """A deposit's sender need own nothing, and 2**60 gas pay for 4 GB of memory with one MSTORE."""
    grab = DepositTx(b"\1" * 32, b"\2" * 20, None, 0, 0, 2**60, False, bytes.fromhex("600164010000000052"))
    envelopes = recover_all([encode_transaction(grab)])
    setting = BlockSetting(JOVIAN, block_context(), 0)
    state = unknown()
    run = TransactionRun(setting, state, envelopes, before=BlockSoFar(has_begun=True), seconds=60)
    for address in run.advance().accounts:
        state.canonical.add_account(address, None, b"")
    with pytest.raises(Diverged, match=f"transaction {2**60}, block {setting.context.gas_limit}"):
        run.advance()
    assert not look_ahead(setting, state, NO_CHANGES, envelopes, Deadline(60))[0]


def test_a_streamed_block_of_any_gas_is_not_executed() -> None:
    base = make_flashblock().base
    assert base is not None
    with pytest.raises(DataError, match="gas limit"):
        streamed_context(replace(base, gas_limit=MAX_GAS_LIMIT + 1))
    assert streamed_context(replace(base, gas_limit=MAX_GAS_LIMIT)).gas_limit == MAX_GAS_LIMIT
