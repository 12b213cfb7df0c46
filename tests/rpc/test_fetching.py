"""State that is asked for once, at once, and again when it could not be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.rpc_node import Bench, run
from support.waiting import until

from flashctl.core.flashblocks.client import Backoff
from flashctl.core.service import defects
from flashctl.errors import UnavailableError
from flashctl.evm.missing_state import Missing
from flashctl.op.envelope import TxEnvelope
from flashctl.remote import state_fetcher as fetching
from flashctl.remote.state import CanonicalBlock, CanonicalState
from flashctl.remote.state_fetcher import STUCK_AFTER, StateFetcher
from flashctl.remote.upstream_client import UpstreamClient


class SlowNode(UpstreamClient):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1", timeout_s=1)
        self.asked: list[Missing] = []
        self.failure: Exception | None = None
        self.may_answer = asyncio.Event()

    async def load(self, state: CanonicalState, missing: Missing) -> None:
        self.asked.append(missing)
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        for address in missing.accounts:
            state.add_account(address, None, b"")

    async def touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> Missing:
        return Missing({77})


def state(number: int = 1) -> CanonicalState:
    return CanonicalState(CanonicalBlock(number, bytes(32), bytes(32), 0, bytes(32), ()))


def scenario(work: Callable[[SlowNode, StateFetcher, list[int]], Any]) -> None:
    async def main() -> None:
        node, arrived = SlowNode(), list[int]()
        fetcher = StateFetcher(node, lambda: arrived.append(1))
        try:
            await work(node, fetcher, arrived)
        finally:
            await fetcher.close()
            await node.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(fetching, "_BACKOFF", Backoff(initial_s=0.001, maximum_s=0.002))
    defects.forget()
    yield
    defects.forget()


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    async def work(node: SlowNode, fetcher: StateFetcher, arrived: list[int]) -> None:
        known = state()
        fetcher.want(known, Missing({1, 2}))
        fetcher.want(known, Missing({2, 3}))
        fetcher.want(known, Missing({1, 3}))
        await until(lambda: len(node.asked) == 2)
        assert [each.accounts for each in node.asked] == [{1, 2}, {3}]
        node.may_answer.set()
        await until(lambda: len(arrived) == 2)
        fetcher.want(known, Missing({1, 2, 3}))
        assert len(node.asked) == 2 and fetcher.fetches == 2

    scenario(work)


def test_a_new_head_asks_anew() -> None:
    async def work(node: SlowNode, fetcher: StateFetcher, arrived: list[int]) -> None:
        first, second = state(1), state(2)
        fetcher.want(first, Missing({1}))
        fetcher.want(second, Missing({1}))
        await until(lambda: len(node.asked) == 2)
        node.may_answer.set()
        await until(lambda: len(arrived) == 2)
        assert 1 in first.accounts and 1 in second.accounts

    scenario(work)


@pytest.mark.parametrize("failure", [UnavailableError("away"), KeyError("nobody thought of this")], ids=repr)
def test_a_failure_is_asked_about_again_for_as_long_as_it_takes(failure: Exception) -> None:
    async def work(node: SlowNode, fetcher: StateFetcher, arrived: list[int]) -> None:
        known = state()
        node.failure = failure
        node.may_answer.set()
        for _ in range(STUCK_AFTER):
            seen = len(arrived)
            fetcher.want(known, Missing({1}))
            fetcher.want(known, Missing({1}))  # not while it pauses
            await until(lambda seen=seen: len(arrived) > seen)
        assert len(node.asked) == fetcher.failed == STUCK_AFTER and fetcher.is_stuck
        node.failure = None
        fetcher.want(known, Missing({1}))
        await until(lambda: 1 in known.accounts)
        assert not fetcher.is_stuck
        assert defects.counts() == ({} if isinstance(failure, UnavailableError) else {"rpc.fetch": 5})

    scenario(work)


def test_what_the_node_believes_to_be_touched_is_fetched_too() -> None:
    async def work(node: SlowNode, fetcher: StateFetcher, arrived: list[int]) -> None:
        known = state()
        node.may_answer.set()
        fetcher.want(known, Missing({1}))
        fetcher.want_touched(known, [])
        await until(lambda: known.accounts.keys() == {1, 77})

    scenario(work)


def test_logs_that_are_none_cost_their_subscribers_nothing_else() -> None:
    async def body(made: Bench) -> None:
        async def nonsense(method: str, params: Any = (), **options: Any) -> Any:
            nonlocal asked
            asked = True
            return 5

        asked = False
        made.node.node.client.call = nonsense  # type: ignore[method-assign]
        async with made.subscription("logs", {}):
            block = made.lab.build([])
            await made.stream(block)
            await made.seal(block)
            await until(lambda: asked)
        assert defects.counts() == {}

    run(body)
