"""The two HTTP clients fail alike: same kinds of errors, no secret in any."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from flashctl.core.net.http1 import ClientLimits, HttpClient
from flashctl.core.net.httpx_client import HttpxClient
from flashctl.core.net.upstream_errors import InvalidAnswer, Unreachable, UpstreamTimedOut
from flashctl.errors import FlashctlError

LIMITS = ClientLimits(body_bytes=100)
KEY = "5ecretkey"

ANSWERS: dict[str, tuple[bytes | None, type[FlashctlError]]] = {
    "nothing": (b"", Unreachable),
    "silence": (None, UpstreamTimedOut),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", InvalidAnswer),
    "too long": (b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + bytes(101), InvalidAnswer),
    "cut short": (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n1", InvalidAnswer),
}


async def ask(kind: type[HttpClient] | type[HttpxClient], url: str) -> bytes:
    client = kind(url, timeout_s=2.0, limits=LIMITS)
    try:
        reply = await client.post(b"{}", headers=[(b"x-tried", b"1")])
        assert reply.status == 200 and reply.header(b"server") == b"test"
        return reply.body
    finally:
        await client.close()


async def served(kind: type[HttpClient] | type[HttpxClient], answer: bytes | None) -> bytes:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"x-tried: 1" in head and f"/{KEY}".encode() in head
        if answer is None:
            await reader.read(100_000)
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await ask(kind, f"http://127.0.0.1:{port}/{KEY}?key={KEY}")


@pytest.mark.parametrize("kind", [HttpClient, HttpxClient])
@pytest.mark.parametrize("name", ANSWERS)
def test_failures_are_of_one_kind_and_name_no_secret(
    kind: type[HttpClient] | type[HttpxClient], name: str
) -> None:
    answer, error = ANSWERS[name]
    with pytest.raises(error) as raised:
        asyncio.run(served(kind, answer))
    assert "127.0.0.1" in str(raised.value) and KEY not in str(raised.value)


@pytest.mark.parametrize("kind", [HttpClient, HttpxClient])
def test_an_answer(kind: type[HttpClient] | type[HttpxClient]) -> None:
    answer = b"HTTP/1.1 200 OK\r\nServer: test\r\ncontent-length: 2\r\n\r\nok"
    assert asyncio.run(served(kind, answer)) == b"ok"


@pytest.mark.parametrize("kind", [HttpClient, HttpxClient])
def test_a_port_that_is_closed(kind: type[HttpClient] | type[HttpxClient]) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        asyncio.run(ask(kind, f"http://127.0.0.1:1/{KEY}"))


def test_httpx_is_imported_with_the_first_exchange() -> None:
    code = "import sys, flashctl.core.jsonrpc.low_rate, flashctl.watch.run; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
