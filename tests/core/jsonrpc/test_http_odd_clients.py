"""What clients send that few of them send: upgrades, packed bodies, marks, long numbers, doubtful heads."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
import subprocess
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.waiting import turns, until
from websockets.asyncio.client import connect

from flashctl.core.hub import Hub
from flashctl.core.hub import serve as serve_hub
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.dispatch import Dispatcher, RpcLimits
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.exact import loads_exact
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.core.service import status
from flashctl.core.service.status import serve_status
from flashctl.errors import ProtocolError

CALL = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":["hello"]}'
ANSWER = {"jsonrpc": "2.0", "id": 1, "result": "hello"}


def table() -> Methods:
    async def echo(params: list[Any]) -> Any:
        return params[0]

    methods = Methods()
    methods.register("echo", echo)
    return methods


def with_server(scenario: Callable[[RunningServer], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        server = await serve(table(), "127.0.0.1", 0, **options)
        try:
            async with asyncio.timeout(60):
                await scenario(server)
        finally:
            await server.close()

    asyncio.run(main())


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send bytes piece by piece; what comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await turns()
        return await reader.read()
    finally:
        writer.close()


def post(body: bytes, *headers: bytes, host: bytes = b"host: x\r\n") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST / HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (host, lines, len(body), body)


H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAA")
LAST = post(CALL, b"connection: close")


class TestUpgrades:
    """Offers that nobody takes leave the request as it is."""

    @pytest.mark.parametrize("cuts", [(), (30,), (len(post(CALL, *H2C)) - 20,), (100, 200, 230)])
    def test_h2c(self, cuts: tuple[int, ...]) -> None:
        async def scenario(server: RunningServer) -> None:
            sent = post(CALL, *H2C) + post(CALL, *H2C) + LAST
            starts = (0, *cuts)
            pieces = [sent[a:b] for a, b in zip(starts, (*cuts, len(sent)), strict=True)]
            answer = await exchange(server.port, *pieces)
            assert answer.count(b"HTTP/1.1 200 OK") == 3
            assert answer.count(orjson.dumps(ANSWER)) == 3

        with_server(scenario)

    @pytest.mark.parametrize("offer", [b"h2c", b"TLS/1.0", b"websocket", b"x, y"])
    def test_any_offer_on_a_port_without_websockets(self, offer: bytes) -> None:
        async def scenario(server: RunningServer) -> None:
            sent = post(CALL, b"connection: upgrade", b"upgrade: " + offer)
            assert orjson.dumps(ANSWER) in await exchange(server.port, sent, LAST)

        with_server(scenario, websocket=False)

    def test_a_get_with_an_offer(self) -> None:
        async def scenario(server: RunningServer) -> None:
            head = b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
            answer = await exchange(server.port, head + LAST)
            assert answer.startswith(b"HTTP/1.1 405") and orjson.dumps(ANSWER) in answer

        with_server(scenario)

    @pytest.mark.parametrize("headers", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
    @pytest.mark.parametrize("behind", [b"", LAST, b"\x16\x03\x01"])
    def test_a_tunnel_is_refused(
        self, headers: bytes, behind: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario(server: RunningServer) -> None:
            head = b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n" + headers + b"\r\n"
            assert (await exchange(server.port, head + behind)).startswith(b"HTTP/1.1 40")

        with_server(scenario)
        assert not [record for record in caplog.records if record.exc_info]

    def test_websockets_still_work(self) -> None:
        async def scenario(server: RunningServer) -> None:
            async with connect(server.websocket_url) as ws:
                await ws.send(CALL)
                assert json.loads(await ws.recv()) == ANSWER

        with_server(scenario)

    @pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
    def test_curl(self) -> None:
        async def scenario(server: RunningServer) -> None:
            command = ["curl", "-sS", "--http2", "-H", "content-type: application/json", "-d", CALL.decode()]
            ran = await asyncio.to_thread(subprocess.run, [*command, server.url], capture_output=True)
            assert json.loads(ran.stdout) == ANSWER

        with_server(scenario)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("java") is None, reason="no JDK")
    def test_java(self, tmp_path: Path) -> None:
        source = tmp_path / "Ask.java"
        source.write_text(
            """
            import java.net.URI;
            import java.net.http.*;
            public class Ask {
                public static void main(String[] args) throws Exception {
                    var client = HttpClient.newHttpClient();
                    for (int i = 0; i < 3; i++) {
                        var request = HttpRequest.newBuilder(URI.create(args[0]))
                            .header("content-type", "application/json")
                            .POST(HttpRequest.BodyPublishers.ofString(args[1])).build();
                        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
                    }
                }
            }
            """
        )

        async def scenario(server: RunningServer) -> None:
            command = ["java", str(source), server.url, CALL.decode()]
            ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, cwd=tmp_path)
            assert [json.loads(line) for line in ran.stdout.splitlines()] == [ANSWER] * 3, ran.stderr

        with_server(scenario)


class TestBodies:
    @pytest.mark.parametrize("size", [0, 200_000])
    def test_gzip(self, size: int) -> None:
        async def scenario(server: RunningServer) -> None:
            call = orjson.dumps({"id": 1, "method": "echo", "params": ["hello" + "x" * size]})
            sent = post(gzip.compress(call), b"content-encoding: gzip", b"connection: close")
            answer = await exchange(server.port, sent)
            assert answer.startswith(b"HTTP/1.1 200") and b'"result":"hello' in answer

        with_server(scenario)

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (gzip.compress(bytes(3_000_000)), b"gzip", b"413"),
            (gzip.compress(CALL)[:-9], b"gzip", b"400"),
            (CALL, b"gzip", b"400"),
            (zlib.compress(CALL), b"deflate", b"415"),
            (CALL, b"br", b"415"),
            (CALL, b"gzip, gzip", b"415"),
        ],
    )
    def test_other_encodings(self, body: bytes, encoding: bytes, status: bytes) -> None:
        async def scenario(server: RunningServer) -> None:
            sent = post(body, b"content-encoding: " + encoding, b"connection: close")
            answer = await exchange(server.port, sent)
            assert answer[9:12] == status
            error = orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]
            assert error["code"] in (-32600, -32700)
            assert (b"accept-encoding: gzip, identity" in answer) == (status == b"415")

        with_server(scenario, limits=RpcLimits(request_bytes=1_000_000))

    def test_byte_order_mark(self) -> None:
        async def scenario(server: RunningServer) -> None:
            sent = post(b"\xef\xbb\xbf" + CALL, b"connection: close")
            assert orjson.dumps(ANSWER) in await exchange(server.port, sent)

        with_server(scenario)


class TestNumbers:
    """Numbers that are handed on keep their text."""

    IDS = ("18446744073709551617", "-9223372036854775809", "1" + "0" * 40, "1.50", "0", "1e2", '"a"', "null")

    @staticmethod
    async def relay(method: str, request: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":7,"result":%b}' % orjson.dumps(request.decode())

    def answer(self, body: str) -> str:
        reply = asyncio.run(Dispatcher(table(), fallback=self.relay).handle(body.encode()))
        assert reply is not None
        return reply.decode()

    @pytest.mark.parametrize("identity", IDS)
    def test_ids(self, identity: str) -> None:
        call = f'{{"id":{identity},"method":"echo","params":["x",1.5]}}'
        assert self.answer(call) == f'{{"jsonrpc":"2.0","id":{identity},"result":"x"}}'
        wrong = f'{{"id":{identity},"method":"echo","params":{{}}}}'
        assert self.answer(wrong).startswith(f'{{"jsonrpc":"2.0","id":{identity},"error"')

    def test_a_batch(self) -> None:
        calls = [f'{{"id":{identity},"method":"echo","params":[2.5]}}' for identity in self.IDS]
        answers = [f'{{"jsonrpc":"2.0","id":{identity},"result":2.5}}' for identity in self.IDS]
        assert self.answer(f"[{','.join(calls)}]") == f"[{','.join(answers)}]"

    def test_passed_on_alone_and_in_a_batch(self) -> None:
        request = '{"id":36893488147419103232,"method":"other","params":[1.250,12345678901234567890123456]}'
        for body in (request, f"[{request}]"):
            reply = json.loads(self.answer(body))
            assert (reply[0] if isinstance(reply, list) else reply)["result"] == request

    @pytest.mark.parametrize(
        "text",
        [
            '{"a":123456789012345678901234567890,"b":[1.10,{"c":-98765432109876543210}]}',
            '{"a":"\\"","b":1234567890123456789012}',
            '[1,2,"0x1234567890123456789012345678901234567890"]',
            '{"a":18446744073709551615,"b":-9223372036854775808}',
        ],
    )
    def test_exact(self, text: str) -> None:
        assert orjson.dumps(loads_exact(text.encode())).decode() == text

    def test_as_orjson_where_nothing_would_change(self) -> None:
        text = b'{"a":[1,-2,0],"b":"1.5","c":{"d":null,"e":true},"f":"12345678901234567890"}'
        assert loads_exact(text) == orjson.loads(text)

    def test_what_an_engine_answered_is_handed_on_as_it_was(self) -> None:
        from flashctl.core.engine.client import EngineClient

        async def main() -> None:
            result = b'{"blockValue":123456789012345678901234567890,"rate":0.10}'

            async def answer(method: str, request: bytes) -> bytes:
                return b'{"jsonrpc":"2.0","id":1,"result":%b}' % result

            server = await serve(Methods(), "127.0.0.1", 0, fallback=answer)
            client = EngineClient(server.url)
            assert orjson.dumps(await client.call("engine_getPayloadV4")) == result
            await client.close()
            await server.close()

        asyncio.run(main())


class TestDepth:
    @pytest.mark.parametrize(("depth", "code"), [(50, None), (101, -32602), (900, -32602), (5000, -32700)])
    @pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
    def test_parameters(self, depth: int, code: int | None, brackets: str) -> None:
        opening, closing = brackets[:-1] if brackets != "[]" else "[", brackets[-1]
        nested = opening * depth + "0" + closing * depth
        call = f'{{"id":1,"method":"%s","params":[{nested}]}}'
        for body in (call % "echo", call % "other", f"[{call % 'echo'},{call % 'other'}]"):
            reply = asyncio.run(Dispatcher(table(), fallback=TestNumbers.relay).handle(body.encode()))
            answers = orjson.loads(reply or b"")
            for each in answers if isinstance(answers, list) else [answers]:
                assert each.get("error", {}).get("code") == code

    def test_answers_of_upstreams(self, caplog: pytest.LogCaptureFixture) -> None:
        """Too deep to be read, or to be written again: the upstream's fault, and no defect."""

        async def main() -> None:
            async def answer(method: str, request: bytes) -> bytes:
                depth = int(method.partition("_")[2])
                return b'{"jsonrpc":"2.0","id":1,"result":%b}' % (b"[" * depth + b"]" * depth)

            upstream = await serve(Methods(), "127.0.0.1", 0, fallback=answer)
            client = JsonRpcClient(upstream.url)
            methods = Methods()

            async def ask(params: list[Any]) -> Any:
                return await client.call(params[0])

            methods.register("ask", ask)
            between = await serve(methods, "127.0.0.1", 0)
            caller = JsonRpcClient(between.url)
            for depth in (400, 3000):
                with pytest.raises(RpcError, match="upstream sent an invalid answer"):
                    await caller.call("ask", [f"eth_{depth}"])
            with pytest.raises(ProtocolError):
                await client.call("eth_3000")
            for closing in (caller, between, client, upstream):
                await closing.close()

        asyncio.run(main())
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


class TestHeads:
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (post(CALL, host=b""), b"400"),
            (post(CALL, b"host: y"), b"400"),
            (post(CALL, b"authorization: Bearer a", b"Authorization: Bearer b"), b"400"),
            (post(CALL, host=b"").replace(b"HTTP/1.1", b"HTTP/1.0"), b"200"),
            (post(CALL, b"connection: close"), b"200"),
            (b"GET /ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", b"400"),
        ],
    )
    def test_one_host_and_one_authorization(self, head: bytes, status: bytes) -> None:
        async def scenario(server: RunningServer) -> None:
            assert (await exchange(server.port, head))[9:12] == status

        with_server(scenario)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
def test_the_wildcard_of_ipv6_is_that_of_ipv4_too() -> None:
    async def main() -> None:
        rpc, status = await serve(table(), "::", 0), await serve_status("::", 0, {})
        hub = await serve_hub(Hub(), "::", 0)
        for port in (rpc.port, status.port, hub.port):
            for address in ("127.0.0.1", "::1"):
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
        for server in (rpc, status, hub):
            await server.close()

    asyncio.run(main())


def test_who_does_not_read_a_status_page_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when little of it is left to be sent: what one such client holds, a thousand hold as well."""
    monkeypatch.setattr(status, "REQUEST_TIMEOUT_S", 0.2)

    async def main() -> None:
        server = await serve_status("127.0.0.1", 0, {"/page": lambda: status.PageAnswer(200, bytes(60_000))})
        assert server._server is not None
        server._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            silent.setblocking(False)
            await asyncio.get_running_loop().sock_connect(silent, ("127.0.0.1", server.port))
            await asyncio.get_running_loop().sock_sendall(silent, b"GET /page HTTP/1.1\r\n\r\n")
            await until(lambda: server._connections)
            await until(lambda: not server._connections)
            await server.close()
            async with asyncio.timeout(60):
                await server._server.wait_closed()

    asyncio.run(main())
