"""Calls of one method that leave together: each client's by themselves, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from flashctl.core.jsonrpc import gathered_calls
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.gathered_calls import GatheredCalls
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.upstream_errors import InvalidAnswer, TooManyInLine, Unreachable

ATTACKER, HONEST = Caller("192.0.2.1", 1), Caller("192.0.2.2", 2)


class Recording(JsonRpcClient):
    """Remembers what was posted."""

    posts: list[Any]

    async def post_raw(self, body: bytes, **options: Any) -> bytes:
        self.posts.append(orjson.loads(body))
        return await super().post_raw(body, **options)


class Lab:
    """An upstream with one method, and calls to it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.held = asyncio.Event()
        self.held.set()

    async def answer(self, params: list[Any]) -> Any:
        self.seen.append(params[0])
        await self.held.wait()
        if params[0] == "bad":
            raise RpcError(-32000, "nonce too low", {"at": "bad"})
        return f"took {params[0]}"

    async def as_caller(self, who: Caller, *values: Any) -> list[Any]:
        caller.set(who)
        return await asyncio.gather(*(self.calls.call([value]) for value in values), return_exceptions=True)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

    def begin(self, who: Caller, *values: Any) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(self.as_caller(who, *values))

    @property
    def sizes(self) -> list[int]:
        """Calls of each exchange."""
        return [len(post) if isinstance(post, list) else 1 for post in self.client.posts]

    async def run(self, scenario: Callable[[Lab], Awaitable[None]], limits: RpcLimits) -> None:
        table = Methods()
        table.register("x_send", self.answer)
        server = await serve(table, "127.0.0.1", 0, limits=limits)
        self.client = Recording(server.url, timeout_s=20)
        self.client.posts = []
        self.calls = GatheredCalls(self.client, "x_send")
        try:
            await scenario(self)
        finally:
            self.held.set()
            await self.calls.close()
            await self.client.close()
            await server.close()


IN_ORDER = RpcLimits(batch_at_once=1)


def run(scenario: Callable[[Lab], Awaitable[None]], limits: RpcLimits = IN_ORDER) -> None:
    async def main() -> None:
        await Lab().run(scenario, limits)

    asyncio.run(main())


def test_a_thousand_are_ten_exchanges_in_their_order_and_each_has_its_own_answer() -> None:
    async def scenario(lab: Lab) -> None:
        sent = [*range(500), "bad", *range(501, 1000)]
        outcomes = await lab.as_caller(ATTACKER, *sent)
        assert lab.sizes == [100] * 10
        assert lab.seen == sent
        refusal = outcomes.pop(500)
        assert isinstance(refusal, RpcError)
        assert refusal.to_json() == {"code": -32000, "message": "nonce too low", "data": {"at": "bad"}}
        assert outcomes == [f"took {value}" for value in sent if value != "bad"]

    run(scenario)


def test_a_batch_that_a_server_begins_turn_by_turn_leaves_as_one() -> None:
    async def scenario(lab: Lab) -> None:
        table = Methods()
        table.register("x_send", lab.calls.call)
        before = await serve(table, "127.0.0.1", 0, limits=RpcLimits(batch_at_once=16))
        client = JsonRpcClient(before.url)
        outcomes = await client.batch([("x_send", [value]) for value in range(64)])
        assert outcomes == [f"took {value}" for value in range(64)] and lab.seen == list(range(64))
        assert len(lab.sizes) <= 16, lab.sizes
        await client.close()
        await before.close()

    run(scenario)


def test_a_single_call_waits_for_no_batch_of_another_client() -> None:
    async def scenario(lab: Lab) -> None:
        lab.held.clear()
        attack = lab.begin(ATTACKER, *range(1000))
        await lab.until(lambda: lab.seen)
        honest = lab.begin(HONEST, "honest")
        await lab.until(lambda: "honest" in lab.seen)
        # With the attacker's first exchange under way and 900 calls in line.
        assert lab.sizes == [100, 1]
        lab.held.set()
        assert await honest == ["took honest"]
        assert len(await attack) == 1000

    run(scenario)


def test_what_waits_is_bounded_and_more_so_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered_calls, "MAX_WAITING_PER_ADDRESS", 50)

    async def scenario(lab: Lab) -> None:
        lab.held.clear()
        attack = lab.begin(ATTACKER, *range(80))
        await lab.until(lambda: lab.seen)
        honest = lab.begin(HONEST, "honest")
        lab.held.set()
        assert await honest == ["took honest"]
        outcomes = await attack
        assert [isinstance(outcome, TooManyInLine) for outcome in outcomes] == [False] * 50 + [True] * 30
        # All of it was given back.
        assert await lab.as_caller(ATTACKER, *range(50)) == [f"took {value}" for value in range(50)]

    run(scenario)


def test_an_upstream_that_refuses_batches_is_asked_one_by_one() -> None:
    async def scenario(lab: Lab) -> None:
        for _ in range(2):
            outcomes = await lab.as_caller(ATTACKER, *range(40))
            assert outcomes == [f"took {value}" for value in range(40)]
        assert lab.sizes == [40] + [1] * 80

    run(scenario, RpcLimits(batch_items=10))


def test_a_failed_exchange_costs_its_calls_only() -> None:
    async def scenario(lab: Lab) -> None:
        url = lab.client
        lab.calls._client = JsonRpcClient("http://127.0.0.1:1", timeout_s=5)
        outcomes = await lab.as_caller(ATTACKER, *range(3))
        assert all(isinstance(outcome, Unreachable) for outcome in outcomes)
        await lab.calls._client.close()
        lab.calls._client = url
        assert await lab.as_caller(ATTACKER, 1) == ["took 1"]

    run(scenario)


def test_who_is_gone_is_not_asked_for_any_more() -> None:
    async def scenario(lab: Lab) -> None:
        lab.held.clear()
        gone = lab.begin(ATTACKER, *range(150))
        await lab.until(lambda: lab.seen)
        gone.cancel()
        await asyncio.wait({gone})
        lab.held.set()
        assert await lab.as_caller(ATTACKER, "next") == ["took next"]
        assert 149 not in lab.seen

    run(scenario)


def test_closing_leaves_nobody_waiting() -> None:
    """Neither those of the exchange under way nor those in line."""

    async def scenario(lab: Lab) -> None:
        lab.held.clear()
        waiting = lab.begin(ATTACKER, *range(150))
        await lab.until(lambda: lab.seen)
        await lab.calls.close()
        outcomes = await waiting
        assert len(outcomes) == 150
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}

    run(scenario)


class Answering(Recording):
    """Its upstream's answers to batches pass through a function on the way."""

    def __init__(self, url: str, change: Callable[[list[Any]], Any]) -> None:
        super().__init__(url, timeout_s=20)
        self.posts = []
        self.change = change

    async def post_raw(self, body: bytes, **options: Any) -> bytes:
        answer = orjson.loads(await super().post_raw(body, **options))
        return orjson.dumps(self.change(answer) if isinstance(answer, list) else answer)


HALF = {
    "left out": lambda answers: answers[:4],
    "in another order": lambda answers: answers[3::-1],
    "among garbage": lambda answers: [None, 7, "x", [], {}, {"id": []}, *answers[:4], {"id": 99_999}],
    "without a result": lambda answers: [*answers[:4], *({"id": each["id"]} for each in answers[4:])],
    "with other ids": lambda answers: [*answers[:4], *({**each, "id": "7"} for each in answers[4:])],
}


@pytest.mark.parametrize("how", HALF)
def test_an_upstream_that_answers_half_of_a_batch_is_believed_in_that_half(how: str) -> None:
    """Those answers stand: sent again, transactions that were taken would be refused as known."""

    async def scenario(lab: Lab) -> None:
        await lab.client.close()
        lab.client = lab.calls._client = Answering(lab.client.url, HALF[how])
        outcomes = await lab.as_caller(ATTACKER, 0, 1, "bad", *range(3, 8))
        assert [outcomes[place] for place in (0, 1, 3)] == ["took 0", "took 1", "took 3"]
        assert isinstance(outcomes[2], RpcError)
        assert all(isinstance(outcome, InvalidAnswer) for outcome in outcomes[4:])
        assert lab.sizes == [8]

    run(scenario)


@pytest.mark.parametrize("strange", [[[[]]], {"a": 1}, 1e300, None], ids=str)
def test_a_strange_call_leaves_alone(strange: Any) -> None:
    """What makes an upstream refuse a whole request costs the other calls nothing."""

    async def scenario(lab: Lab) -> None:
        await lab.as_caller(ATTACKER, 1, 2, strange, 3, 4)
        assert lab.sizes == [2, 1, 2]

    run(scenario)
