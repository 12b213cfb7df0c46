"""The server over real sockets: requests, every kind of bad input, batches, tokens, CORS, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest
from support.waiting import turns, until

from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.dispatch import Dispatcher, RpcLimits
from flashctl.core.jsonrpc.errors import RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Methods, required
from flashctl.core.jsonrpc.namespaces import EVERYTHING, USER_NAMESPACES, parse_namespaces
from flashctl.core.jsonrpc.protocols import HttpConnection
from flashctl.core.jsonrpc.repeatable import is_repeatable
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.core.jsonrpc.slices import MESSAGES, SLICE_S
from flashctl.core.net.listening import ListenFailed
from flashctl.core.net.upstream_errors import Unreachable, UpstreamRefused
from flashctl.core.service.status import PageAnswer
from flashctl.errors import (
    AuthError,
    DataError,
    Failed,
    FlashctlError,
    InvalidParams,
    IoError,
    ProtocolError,
    TimedOut,
    UnavailableError,
    UsageError,
)

SECRET = b"\x11" * 32
SECRET_URL = "http://user:hunter2@node.example/v2/s3cr3t"


def methods() -> Methods:
    async def add(params: list[Any]) -> Any:
        return sum(params)

    async def echo(params: list[Any]) -> Any:
        return required(params, 0, "value")

    async def fails(params: list[Any]) -> Any:
        match params[0]:
            case "rpc":
                raise RpcError(3, "execution reverted", "0x08c379a0")
            case "params":
                raise InvalidParams("not hex: 0xzz")
            case "data":
                raise DataError(f"{SECRET_URL} sent half a block")
            case "file":
                raise IoError(f"cannot read {SECRET_URL}")
            case "protocol":
                raise ProtocolError(f"{SECRET_URL} speaks Latin")
            case "slow":
                raise TimedOut("took too long")
            case "failed":
                raise Failed("nonce too low")
            case "auth":
                raise AuthError("token 123")
            case _:
                raise ZeroDivisionError("oops")

    async def encoded(params: list[Any]) -> Any:
        return orjson.Fragment(b'{"already":"json"}')

    async def later(params: list[Any]) -> Any:
        await turns(params[0])
        return "later"

    table = Methods()
    for method in (add, echo, fails, encoded, later):
        table.register(method.__name__, method)
    return table


def with_server(
    scenario: Callable[[RunningServer, httpx.AsyncClient], Awaitable[None]],
    table: Methods | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        server = await serve(table or methods(), "127.0.0.1", 0, **options)
        try:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
                await scenario(server, client)
        finally:
            await server.close()

    asyncio.run(main())


def error_of(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    return error["code"], error["message"]


def test_call() -> None:
    async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
        reply = await client.post("/", json={"jsonrpc": "2.0", "id": "a", "method": "add", "params": [1, 2]})
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "application/json"
        assert reply.json() == {"jsonrpc": "2.0", "id": "a", "result": 3}
        assert (await client.post("/any/path", json={"id": 1, "method": "encoded"})).json()["result"] == {
            "already": "json"
        }

    with_server(scenario)


def test_bad_input_gets_a_json_rpc_error() -> None:
    cases = [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 5000, -32700),
        (b"1", -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"method":5}', -32600),
        (b'{"method":""}', -32600),
        (b'{"method":"add","id":{}}', -32600),
        (b'{"jsonrpc":"1.0","method":"add","id":1}', -32600),
        (b"[]", -32600),
        (b'{"method":"nope","id":1}', -32601),
        (b'{"method":"add","id":1,"params":{"a":1}}', -32602),
        (b'{"method":"echo","id":1,"params":[]}', -32602),
        (b'{"method":"add","id":1,"params":["x"]}', -32603),
    ]

    async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
        for body, code in cases:
            reply = await client.post("/", content=body, headers={"content-type": "application/json"})
            assert (reply.status_code, error_of(reply)[0]) == (200, code), body
        assert (await client.post("/", json={"id": 1, "method": "add"})).json()["result"] == 0

    with_server(scenario)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rpc", {"code": 3, "message": "execution reverted", "data": "0x08c379a0"}),
        ("params", {"code": -32602, "message": "not hex: 0xzz"}),
        ("data", {"code": -32603, "message": "internal error"}),
        ("file", {"code": -32603, "message": "internal error"}),
        ("protocol", {"code": -32000, "message": "upstream sent an invalid answer"}),
        ("slow", {"code": -32002, "message": "took too long"}),
        ("failed", {"code": -32000, "message": "nonce too low"}),
        ("auth", {"code": -32603, "message": "upstream refused our credentials"}),
        ("bug", {"code": -32603, "message": "internal error"}),
    ],
)
def test_errors_of_handlers(kind: str, error: dict[str, Any]) -> None:
    async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
        reply = await client.post("/", json={"id": 9, "method": "fails", "params": [kind]})
        assert reply.json() == {"jsonrpc": "2.0", "id": 9, "error": error}

    with_server(scenario)


def test_unforeseen_failure_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
        await client.post("/", json={"id": 9, "method": "fails", "params": ["bug"]})

    caplog.set_level("INFO")
    with_server(scenario)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("flashctl")]
    assert lines == ["jsonrpc.request fails: ZeroDivisionError: oops"]
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


class TestBatch:
    def test_answers_keep_the_order_and_notifications_have_none(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            batch = [
                {"id": 1, "method": "later", "params": [20]},
                {"method": "add", "params": [1]},
                {"id": 2, "method": "add", "params": [1]},
                7,
            ]
            replies = (await client.post("/", json=batch)).json()
            assert [reply["id"] for reply in replies] == [1, 2, None]
            assert replies[2]["error"]["code"] == -32600

        with_server(scenario)

    def test_only_notifications(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            reply = await client.post("/", json=[{"method": "add"}, {"method": "fails", "params": ["bug"]}])
            assert (reply.status_code, reply.content) == (200, b"")

        with_server(scenario)

    def test_limits(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            many = [{"id": i, "method": "add"} for i in range(6)]
            assert error_of(await client.post("/", json=many)) == (-32600, "batch too large (limit 5)")
            large = [{"id": i, "method": "echo", "params": ["x" * 400]} for i in range(4)]
            replies = (await client.post("/", json=large)).json()
            assert ["error" in reply for reply in replies] == [False, False, True, True]

        with_server(scenario, limits=RpcLimits(batch_items=5, batch_response_bytes=1000))

    def test_answers_over_the_limit_are_not_held_until_the_last(self) -> None:
        size, count = 1 << 18, 512

        async def large(params: list[Any]) -> Any:
            await asyncio.sleep(0)
            return "x" * size

        table = Methods()
        table.register_all([("large", large)])
        dispatcher = Dispatcher(table, limits=RpcLimits(batch_response_bytes=2 * size))
        batch = orjson.dumps([{"id": i, "method": "large"} for i in range(count)])
        tracemalloc.start()
        try:
            reply = asyncio.run(dispatcher.handle(batch))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert reply is not None
        assert ["error" in each for each in orjson.loads(reply)] == [False] + [True] * (count - 1)
        assert peak < count * size / 4

    def test_what_comes_after_too_long_answers_is_not_begun(self) -> None:
        begun: list[int] = []

        async def large(params: list[Any]) -> Any:
            begun.append(params[0])
            return "x" * 1000

        table = Methods()
        table.register("large", large)
        batch = orjson.dumps([{"id": i, "method": "large", "params": [i]} for i in range(1000)])
        reply = asyncio.run(Dispatcher(table, limits=RpcLimits(batch_response_bytes=5000)).handle(batch))
        assert ["error" in each for each in orjson.loads(reply or b"")] == [False] * 4 + [True] * 996
        assert begun == [0, 1, 2, 3, 4]

    def test_many_values_are_refused_before_they_are_parsed(self) -> None:
        """Ten megabytes of empty lists held the event loop for 1.5 s, and that of the node behind as well."""

        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            def body(values: int) -> bytes:
                return b'{"id":1,"method":"echo","params":[[' + b",".join([b"[]"] * values) + b"]]}"

            json = {"content-type": "application/json"}
            for content in (body(1001), b"[" + body(1001) + b"]", b"[" * 1001):
                reply = await client.post("/", content=content, headers=json)
                assert error_of(reply) == (-32600, "request has too many values (limit 1000)")
            reply = await client.post("/", content=body(400), headers=json)
            assert reply.json()["result"] == [[]] * 400
            # What is long is not refused, but what is much.
            reply = await client.post("/", json={"id": 1, "method": "echo", "params": ["x" * 10_000]})
            assert reply.json()["result"] == "x" * 10_000

        with_server(scenario, limits=RpcLimits(values=1000))

    def test_it_works_on_few_at_a_time_and_begins_them_in_order(self) -> None:
        begun: list[int] = []
        running = most = 0

        async def waits(params: list[Any]) -> Any:
            nonlocal running, most
            begun.append(params[0])
            running += 1
            most = max(most, running)
            await turns()
            running -= 1
            return params[0]

        table = Methods()
        table.register("waits", waits)
        batch = orjson.dumps([{"id": i, "method": "waits", "params": [i]} for i in range(100)])
        reply = asyncio.run(Dispatcher(table, limits=RpcLimits(batch_at_once=7)).handle(batch))
        assert [each["result"] for each in orjson.loads(reply or b"")] == begun == list(range(100))
        assert most == 7

    def test_it_lets_others_run(self) -> None:
        """Other work of the loop goes on between slices, and a short batch passes a long one."""
        worked: list[str] = []

        async def works(params: list[Any]) -> Any:
            end = time.perf_counter() + SLICE_S / 10
            while time.perf_counter() < end:
                pass
            worked.append(params[0])

        def batch(name: str, length: int) -> bytes:
            return orjson.dumps([{"id": 1, "method": "works", "params": [name]} for _ in range(length)])

        async def main() -> int:
            table = Methods()
            table.register("works", works)
            dispatcher = Dispatcher(table)
            long = asyncio.create_task(dispatcher.handle(batch("long", 1000)))
            await asyncio.sleep(0)
            short = asyncio.create_task(dispatcher.handle(batch("short", 20)))
            turns = 0
            while not long.done():
                await asyncio.sleep(0)
                turns += 1
            await short
            return turns

        turns = asyncio.run(main())
        assert turns >= 1020 / 10
        last = len(worked) - 1 - worked[::-1].index("short")
        assert last < 200


class TestTurns:
    """What one client has under way delays another's request by little, however much it is."""

    def test_a_crowd_of_requests_is_spread_over_turns_and_clients(self) -> None:
        begun: list[str] = []
        turns: list[int] = []

        async def echo(params: list[Any]) -> Any:
            begun.append(params[0])

        async def ask(dispatcher: Dispatcher, address: str, connection: int) -> None:
            caller.set(Caller(address, connection))
            await dispatcher.handle(orjson.dumps({"id": 1, "method": "echo", "params": [address]}))

        async def main() -> None:
            table = Methods()
            table.register("echo", echo)
            dispatcher = Dispatcher(table)
            crowd = [ask(dispatcher, "attacker", connection) for connection in range(1000)]
            tasks = [asyncio.create_task(each) for each in (*crowd, ask(dispatcher, "honest", 1))]
            gone = tasks[500]
            while not all(task.done() for task in tasks):
                before = len(begun)
                await asyncio.sleep(0)
                turns.append(len(begun) - before)
                gone.cancel()
            # Nothing is left over: the next one begins at once.
            before = len(begun)
            await asyncio.wait_for(ask(dispatcher, "attacker", 1), 5)
            assert len(begun) == before + 1

        asyncio.run(main())
        assert max(turns) <= MESSAGES
        assert begun.index("honest") <= MESSAGES + 1
        assert len(begun) == 1001

    def test_batches_of_a_client_take_its_turns_whatever_their_number(self) -> None:
        begun: list[str] = []

        async def works(params: list[Any]) -> Any:
            end = time.perf_counter() + SLICE_S
            while time.perf_counter() < end:
                pass
            begun.append(params[0])

        async def ask(dispatcher: Dispatcher, address: str, connection: int) -> None:
            caller.set(Caller(address, connection))
            item = {"id": 1, "method": "works", "params": [address]}
            await dispatcher.handle(orjson.dumps([item] * 4))

        async def main() -> None:
            table = Methods()
            table.register("works", works)
            dispatcher = Dispatcher(table)
            crowd = [ask(dispatcher, "attacker", connection) for connection in range(25)]
            await asyncio.gather(*crowd, ask(dispatcher, "honest", 1))

        asyncio.run(main())
        last = len(begun) - 1 - begun[::-1].index("honest")
        assert last <= 12 and len(begun) == 104


class TestNamespaces:
    """A port answers what it was told to, from its table and from what it passes on."""

    @staticmethod
    async def relay(method: str, request: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":1,"result":"relayed"}'

    @staticmethod
    def table() -> Methods:
        async def answers(params: list[Any]) -> Any:
            return "ours"

        methods = Methods()
        for name in ("eth_chainId", "miner_setGasLimit", "rpc_modules"):
            methods.register(name, answers)
        return methods

    @pytest.mark.parametrize(
        ("namespaces", "answers"),
        [
            (None, ["ours", "ours", "relayed", "relayed", "ours"]),
            (EVERYTHING, ["ours", "ours", "relayed", "relayed", "ours"]),
            (USER_NAMESPACES, ["ours", -32601, "relayed", -32601, "ours"]),
            ({"eth", "debug", "miner"}, ["ours", "ours", -32601, "relayed", "ours"]),
        ],
    )
    def test_methods(self, namespaces: frozenset[str] | None, answers: list[Any]) -> None:
        async def main() -> None:
            server = await serve(
                self.table(), "127.0.0.1", 0, fallback=self.relay, namespaces=namespaces, cors=("*",)
            )
            names = ["eth_chainId", "miner_setGasLimit", "net_version", "debug_setHead", "rpc_modules"]
            client = JsonRpcClient(server.url)
            for name, answer in zip(names, answers, strict=True):
                try:
                    assert await client.call(name) == answer, name
                except (RpcError, ProtocolError) as error:
                    assert getattr(error, "code", "relayed") == answer, name
            await client.close()
            await server.close()

        asyncio.run(main())

    def test_more_than_the_users_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            for namespaces, secret in [(USER_NAMESPACES, None), ({"eth", "miner"}, SECRET), (None, None)]:
                await (
                    await serve(self.table(), "127.0.0.1", 0, namespaces=namespaces, jwt_secret=secret)
                ).close()
            assert not caplog.records
            for namespaces in ({"eth", "miner", "debug", "admin"}, EVERYTHING):
                await (await serve(self.table(), "127.0.0.1", 0, namespaces=namespaces)).close()

        asyncio.run(main())
        texts = [record.getMessage().split(" exposes ")[1] for record in caplog.records]
        assert texts == [
            "admin, debug and miner without a token",
            "every namespace without a token",
        ]

    def test_lists(self) -> None:
        assert parse_namespaces(" eth,NET ,web3") == {"eth", "net", "web3"}
        assert parse_namespaces("*") == parse_namespaces("all") == EVERYTHING
        for wrong in ("", "eth,", "eth net", "eth,*", "eth_call", ",".join(["a"] * 65)):
            with pytest.raises(UsageError, match=r"--http\.api"):
                parse_namespaces(wrong)


class TestHttp:
    def test_body_over_the_limit(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            body = json.dumps({"id": 1, "method": "echo", "params": ["x" * 2000]}).encode()

            async def in_chunks() -> Any:
                for start in range(0, len(body), 100):
                    yield body[start : start + 100]

            for content in (body, in_chunks()):
                reply = await client.post("/", content=content, headers={"content-type": "application/json"})
                assert reply.status_code == 413
                assert error_of(reply) == (-32600, "request too large (limit 1000 bytes)")
            assert (await client.post("/", json={"id": 1, "method": "add"})).json()["result"] == 0

        with_server(scenario, limits=RpcLimits(request_bytes=1000))

    def test_other_methods_and_content_types(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            assert (await client.get("/")).status_code == 405
            assert (await client.put("/", content=b"{}")).status_code == 405
            reply = await client.post("/", content=b"{}", headers={"content-type": "text/plain"})
            assert reply.status_code == 415
            assert error_of(reply)[0] == -32600

        with_server(scenario)

    def test_pages(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            reply = await client.get("/healthz")
            assert (reply.status_code, reply.text) == (206, "Partial Content")

        with_server(
            scenario, pages={"/healthz": lambda: PageAnswer(206, b"Partial Content")}, jwt_secret=SECRET
        )

    @pytest.mark.parametrize(
        "garbage",
        [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"],
    )
    def test_garbage(self, garbage: bytes) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            answer = await raw_exchange(server.port, garbage)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert (await client.post("/", json={"id": 1, "method": "add"})).json()["result"] == 0

        with_server(scenario)

    def test_endless_head_is_cut_off(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            head = b"POST / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"a" * 100) for i in range(2000))
            try:
                assert (await raw_exchange(server.port, head)).startswith(b"HTTP/1.1 400 ")
            except ConnectionResetError:
                # What was sent after the answer and never read may overtake it.
                pass

        with_server(scenario)

    def test_slow_head_and_slow_body_time_out(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n"
            answers = await asyncio.gather(
                raw_exchange(server.port, b""),
                raw_exchange(server.port, head),
                raw_exchange(server.port, head + b"\r\nab"),
            )
            assert [answer[9:12] for answer in answers] == [b"408", b"408", b"408"]

        with_server(scenario, limits=RpcLimits(request_s=0.2))

    def test_client_that_leaves_in_the_middle_of_a_body(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = b'{"id":1,"method":"fails","params":["bug"]}'
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n" + body)
            await until(lambda: server._server.config.app._inbound == len(body))  # type: ignore[union-attr]
            writer.close()
            assert (await client.post("/", json={"id": 1, "method": "add"})).json()["result"] == 0

        with_server(scenario)
        assert not caplog.records

    def test_slow_client_that_keeps_its_connection_is_served_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither the time between two requests nor that of an answer counts as a request's."""
        looks = 0
        look = HttpConnection._check_progress

        def count(self: HttpConnection) -> None:
            nonlocal looks
            look(self)
            looks += 1

        async def due(times: int) -> None:
            seen = looks
            await until(lambda: looks >= seen + times)

        async def slow(params: list[Any]) -> Any:
            await due(2)
            return "late"

        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            for _ in range(2):
                assert (await client.post("/", json={"id": 1, "method": "add"})).json()["result"] == 0
                await due(2)
            reply = await client.post("/", json={"id": 1, "method": "slow"})
            assert reply.json()["result"] == "late"

        monkeypatch.setattr(HttpConnection, "_check_progress", count)
        table = methods()
        table.register("slow", slow)
        with_server(scenario, table, limits=RpcLimits(request_s=0.1))

    def test_too_many_connections(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
            assert (await raw_exchange(server.port, b"")).startswith(b"HTTP/1.1 503 ")
            for _, writer in held:
                writer.close()

        with_server(scenario, limits=RpcLimits(connections=2))


class TestToken:
    def test_required(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            call = {"id": 1, "method": "add"}
            assert (await client.post("/", json=call)).status_code == 401
            stale = {"authorization": jwt.bearer(SECRET, time.time() - 120).decode()}
            reply = await client.post("/", json=call, headers=stale)
            assert (reply.status_code, reply.text[:11]) == (401, "stale token")
            fresh = {"authorization": jwt.bearer(SECRET, time.time()).decode()}
            assert (await client.post("/", json=call, headers=fresh)).json()["result"] == 0

        with_server(scenario, jwt_secret=SECRET)

    def test_client_sends_it(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            ours = JsonRpcClient(server.url, jwt_secret=SECRET)
            assert await ours.call("add", [1, 2]) == 3
            await ours.close()
            other = JsonRpcClient(server.url, jwt_secret=bytes(32))
            with pytest.raises(AuthError, match="invalid token signature"):
                await other.call("add")
            await other.close()

        with_server(scenario, jwt_secret=SECRET)


class TestCors:
    def test_allowed_origin(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            preflight = await client.options("/", headers={"origin": "https://dapp.example"})
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == "https://dapp.example"
            call = {"id": 1, "method": "add"}
            reply = await client.post("/", json=call, headers={"origin": "https://dapp.example"})
            assert reply.headers["access-control-allow-origin"] == "https://dapp.example"
            assert (await client.options("/", headers={"origin": "https://evil.example"})).status_code == 403
            reply = await client.post("/", json=call, headers={"origin": "https://evil.example"})
            assert reply.status_code == 403

        with_server(scenario, cors=("https://dapp.example",))

    def test_any_origin(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            reply = await client.post("/", json={"id": 1, "method": "add"}, headers={"origin": "null"})
            assert reply.headers["access-control-allow-origin"] == "*"

        with_server(scenario, cors=("*",))


class TestFallback:
    def test_unknown_methods_go_there_byte_for_byte(self) -> None:
        seen: list[tuple[str, bytes]] = []

        async def relay(method: str, request: bytes) -> bytes:
            seen.append((method, request))
            identity = json.loads(request)["id"]
            return b'{"jsonrpc":"2.0", "id":%d,"result":"relayed"}' % identity

        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            body = b'{ "id":1,  "method":"eth_chainId" }'
            reply = await client.post("/", content=body, headers={"content-type": "application/json"})
            assert reply.content == b'{"jsonrpc":"2.0", "id":1,"result":"relayed"}'
            assert seen == [("eth_chainId", body)]
            batch = [{"id": 2, "method": "eth_x"}, {"id": 3, "method": "add"}]
            assert [r["result"] for r in (await client.post("/", json=batch)).json()] == ["relayed", 0]

        with_server(scenario, fallback=relay)

    def test_its_failure_is_an_error_response(self) -> None:
        async def relay(method: str, request: bytes) -> bytes:
            raise Unreachable(f"{SECRET_URL} is unreachable: Connection refused")

        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            reply = await client.post("/", json={"id": 4, "method": "eth_chainId"})
            assert error_of(reply) == (-32000, "upstream is not available")

        with_server(scenario, fallback=relay)


class TestLife:
    def test_port_taken(self) -> None:
        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
                with pytest.raises(
                    ListenFailed, match=f"cannot listen on 127.0.0.1:{port}: address already in use"
                ):
                    await serve(methods(), "127.0.0.1", port)

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("host", "port"), [("no.such.host.invalid", 0), ("127.0.0.1", 70000), ("8.8.8.8", 0)]
    )
    def test_address_not_ours(self, host: str, port: int) -> None:
        with pytest.raises(ListenFailed, match="cannot listen on"):
            asyncio.run(serve(methods(), host, port))

    def test_close_lets_answers_finish_and_frees_the_port(self) -> None:
        async def main() -> None:
            begun, finish = asyncio.Event(), asyncio.Event()

            async def waits(params: list[Any]) -> Any:
                begun.set()
                await finish.wait()
                return "finished"

            table = methods()
            table.register("waits", waits)
            server = await serve(table, "127.0.0.1", 0)
            client = JsonRpcClient(server.url)
            pending = asyncio.create_task(client.call("waits"))
            await begun.wait()
            closing = asyncio.create_task(server.close())
            await turns(10)
            assert not closing.done()
            finish.set()
            await closing
            assert await pending == "finished"
            with pytest.raises(UnavailableError, match="Connection refused"):
                await client.call("add")
            await client.close()
            again = await serve(methods(), "127.0.0.1", server.port)
            await again.close()

        asyncio.run(main())

    def test_signal_handlers_stay_ours(self) -> None:
        async def scenario(server: RunningServer, client: httpx.AsyncClient) -> None:
            assert signal.getsignal(signal.SIGTERM) is before

        before = signal.getsignal(signal.SIGTERM)
        with_server(scenario)


class TestClient:
    def test_batch_and_errors(self) -> None:
        async def scenario(server: RunningServer, _: httpx.AsyncClient) -> None:
            client = JsonRpcClient(server.url)
            results = await client.batch([("add", [1, 2]), ("fails", ["rpc"]), ("echo", ["x"])])
            assert (results[0], results[2]) == (3, "x")
            assert isinstance(results[1], RpcError)
            assert (results[1].code, results[1].data) == (3, "0x08c379a0")
            assert await client.batch([]) == []
            with pytest.raises(RpcError, match="execution reverted"):
                await client.call("fails", ["rpc"])
            with pytest.raises(TimedOut):
                await client.call("waits", timeout_s=0.05)
            answered.set()
            assert await client.call("add", [4]) == 4
            await client.close()

        async def waits(params: list[Any]) -> Any:
            await answered.wait()

        answered, table = asyncio.Event(), methods()
        table.register("waits", waits)
        with_server(scenario, table)

    @pytest.mark.parametrize(
        ("answer", "failure"),
        [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", ProtocolError),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", ProtocolError),
            (b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{"id":1}', ProtocolError),
            (b'HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{"id":7,"result":1}', ProtocolError),
            (b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"error":"bad"}', RpcError),
            (b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nno", ProtocolError),
            (b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno", UnavailableError),
            (b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno", UnavailableError),
            (b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno", AuthError),
        ],
    )
    def test_useless_answers(self, answer: bytes, failure: type[Exception]) -> None:
        async def main() -> None:
            async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await reader.read()
                writer.close()

            server = await asyncio.start_server(respond, "127.0.0.1", 0)
            client = JsonRpcClient(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(failure):
                await client.call("eth_chainId")
            await client.close()
            server.close()

        asyncio.run(main())

    @pytest.mark.parametrize(("method", "deliveries"), [("eth_sendRawTransaction", 1), ("eth_getBalance", 2)])
    def test_what_changes_something_is_sent_once(self, method: str, deliveries: int) -> None:
        """To a server that closes idle connections upon the next request, alone, relayed and in a batch."""
        seen: list[bytes] = []

        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served = 0
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                seen.append(await reader.readexactly(length))
                served += 1
                if served > 1:
                    break
                body = b'{"jsonrpc":"2.0","id":1,"result":1}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            writer.close()

        async def main() -> None:
            server = await asyncio.start_server(respond, "127.0.0.1", 0)
            url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            request = orjson.dumps({"id": 1, "method": method})
            uses: list[Callable[[JsonRpcClient], Awaitable[Any]]] = [
                lambda client: client.call(method),
                lambda client: client.relay(method, request),
                lambda client: client.batch([("eth_chainId", []), (method, [])]),
            ]
            for use in uses:
                client = JsonRpcClient(url)
                await asyncio.gather(*(client.relay("web3_sha3", b'{"id":1}') for _ in range(4)))
                seen.clear()
                with contextlib.suppress(FlashctlError):
                    await use(client)
                assert len(seen) == deliveries
                await client.close()
            server.close()

        asyncio.run(main())

    def test_repeatable_methods(self) -> None:
        once = [
            "eth_sendRawTransaction", "eth_sendRawTransactionSync", "eth_sendTransaction", "eth_sendBundle",
            "eth_newFilter", "eth_getFilterChanges", "eth_submitWork", "personal_sign", "miner_setGasLimit",
            "engine_newPayloadV4", "engine_forkchoiceUpdatedV3", "admin_addPeer", "debug_setHead", "x", "",
        ]  # fmt: skip
        twice = [
            "eth_getBalance", "eth_call", "eth_getLogs", "net_version", "txpool_content", "web3_sha3",
            "debug_traceTransaction", "debug_getRawBlock", "engine_getPayloadV4", "eth_estimateGas",
        ]  # fmt: skip
        assert not any(map(is_repeatable, once))
        assert all(map(is_repeatable, twice))

    def test_garbage_is_not_passed_on(self) -> None:
        """What a relay hands back is a JSON-RPC response; a gateway's own words may hold keys."""
        garbage = [
            b"",
            b"<html>",
            b'{"message":"invalid key s3cr3t"}',
            b'"s3cr3t"',
            b"[]",
            b'{"error":"s3cr3t"}',
            b"x" * 100_000,
        ]

        async def main() -> None:
            answers = iter([(status, body) for body in garbage for status in (200, 400, 429, 401)])
            status, body = 0, b""

            async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                writer.write(head % (status, len(body)) + body)
                writer.close()

            server = await asyncio.start_server(respond, "127.0.0.1", 0)
            upstream = JsonRpcClient(f"http://u:s3cr3t@127.0.0.1:{server.sockets[0].getsockname()[1]}/s3cr3t")
            between = await serve(Methods(), "127.0.0.1", 0, fallback=upstream.relay)
            client = JsonRpcClient(between.url)
            for status, body in answers:  # noqa: B007 - `respond` uses it
                with pytest.raises(RpcError) as caught:
                    await client.call("eth_chainId")
                assert "s3cr3t" not in str(caught.value)
                assert caught.value.message in (
                    "upstream sent an invalid answer",
                    "upstream refused: HTTP 429",
                    "upstream refused our credentials",
                )
                if status == 429:
                    with pytest.raises(UpstreamRefused) as refused:
                        await upstream.call("eth_chainId")
                    assert refused.value.retry_after_s == 7
            await client.close()
            await between.close()
            await upstream.close()
            server.close()

        asyncio.run(main())

    def test_params_helpers(self) -> None:
        with pytest.raises(RpcError, match="missing value for required argument 1: block"):
            required(["0x0"], 1, "block")
        assert invalid_params("x").code == -32602


async def raw_exchange(port: int, data: bytes) -> bytes:
    """Send bytes as they are and read whatever comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(60):
            return await reader.read(1000)
    finally:
        writer.close()
