"""The small HTTP client: its parser on bytes, its pool on real sockets."""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.waiting import until

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.net.endpoint import Endpoint
from flashctl.core.net.http1 import HttpClient
from flashctl.core.net.http_reply import ClientLimits, Reply, ReplyTooLarge, ResponseParser
from flashctl.core.net.upstream_errors import TooManyInLine
from flashctl.errors import ProtocolError, TimedOut, UnavailableError, UsageError

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def parse(data: bytes, limits: ClientLimits | None = None) -> Reply | None:
    return ResponseParser(limits or ClientLimits()).receive_data(data)


class TestParser:
    def test_content_length(self) -> None:
        reply = parse(OK)
        assert reply is not None
        assert (reply.status, reply.body, reply.keep_alive) == (200, b"hello", True)
        assert reply.header(b"content-length") == b"5"
        assert reply.header(b"absent") is None

    def test_chunked(self) -> None:
        reply = parse(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        )
        assert reply is not None
        assert reply.body == b"hello"

    def test_interim_responses_are_passed_over(self) -> None:
        reply = parse(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        assert reply is not None
        assert (reply.status, reply.body) == (200, b"hello")

    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_connection_close(self, version: bytes) -> None:
        reply = parse(b"HTTP/" + version + b" 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        assert reply is not None
        assert not reply.keep_alive

    def test_length_given_by_end_of_connection(self) -> None:
        parser = ResponseParser()
        assert parser.receive_data(b"HTTP/1.0 200 OK\r\n\r\nhel") is None
        assert parser.receive_data(b"lo") is None
        assert parser.receive_eof().body == b"hello"

    @pytest.mark.parametrize("cut", range(1, len(OK)))
    def test_cut_short(self, cut: int) -> None:
        parser = ResponseParser()
        assert parser.receive_data(OK[:cut]) is None
        with pytest.raises(ProtocolError, match="before the end"):
            parser.receive_eof()

    @given(st.lists(st.integers(1, 20), max_size=10))
    def test_any_fragmentation(self, sizes: list[int]) -> None:
        parser, rest, reply = ResponseParser(), OK, None
        for size in [*sizes, len(OK)]:
            if rest:
                reply = parser.receive_data(rest[:size])
                rest = rest[size:]
        assert reply is not None
        assert reply.body == b"hello"

    @given(st.binary(min_size=1, max_size=300))
    @settings(max_examples=examples(200))
    def test_garbage_is_a_protocol_error(self, garbage: bytes) -> None:
        try:
            parse(garbage)
        except ProtocolError:
            pass

    def test_limits(self) -> None:
        small = ClientLimits(head_bytes=100, body_bytes=4)
        with pytest.raises(ReplyTooLarge, match="body is over the limit of 4 bytes"):
            parse(OK, small)
        with pytest.raises(ReplyTooLarge, match="head"):
            parse(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100, small)


class TestEndpoint:
    @pytest.mark.parametrize(
        ("url", "host", "port", "path", "authority"),
        [
            ("http://127.0.0.1:8551", "127.0.0.1", 8551, "/", "127.0.0.1:8551"),
            ("127.0.0.1:8551", "127.0.0.1", 8551, "/", "127.0.0.1:8551"),
            ("localhost", "localhost", 80, "/", "localhost"),
            ("https://rpc.example/v1/key?x=1", "rpc.example", 443, "/v1/key?x=1", "rpc.example"),
            ("http://[::1]:8545/", "::1", 8545, "/", "[::1]:8545"),
        ],
    )
    def test_forms(self, url: str, host: str, port: int, path: str, authority: str) -> None:
        endpoint = Endpoint.parse(url)
        assert (endpoint.host, endpoint.port, endpoint.path) == (host, port, path)
        assert endpoint.authority == authority

    @pytest.mark.parametrize(
        "url", ["", "ws://x:1", "http://", "http://x:99999", "http://x:y", "http://a b/", "http://x/\r\nX: y"]
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(UsageError):
            Endpoint.parse(url)


class Last(bytes):
    """An answer after which the connection is closed."""


@dataclass
class Peer:
    """A server that answers each request on a connection with the next script entry, then closes."""

    script: Callable[[int, int], bytes | None]
    """(connection number, request number on it) -> bytes to answer, None to close without."""

    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        connection, served = self.connections, 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                served += 1
                answer = self.script(connection, served)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if isinstance(answer, Last):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def age(client: HttpClient, seconds: float) -> None:
    """Let the idle connections of a client be idle for so much longer."""
    for connection in client._idle:
        connection.idle_since -= seconds


def with_peer(
    script: Callable[[int, int], bytes | None],
    scenario: Callable[[Peer, HttpClient], Awaitable[None]],
    **options: object,
) -> None:
    async def main() -> None:
        peer = Peer(script)
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        client = HttpClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/path", **options)  # type: ignore[arg-type]
        try:
            await scenario(peer, client)
        finally:
            await client.close()
            server.close()

    asyncio.run(main())


def gzipped(body: bytes) -> bytes:
    packed = gzip.compress(body)
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed


class TestContentEncoding:
    """We ask for none, and unpack gzip all the same, within the limit."""

    def test_gzip(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            assert (await client.post(b"")).body == b"hello" * 100
            assert b"accept-encoding: identity\r\n" in peer.requests[0]

        with_peer(lambda c, n: gzipped(b"hello" * 100), scenario)

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (gzipped(bytes(100_000)), "over the limit of 10000 bytes"),
            (gzipped(b"hello").replace(b"\x1f\x8b", b"\x1f\x8c"), "gzip is damaged"),
            (
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10\r\n\r\n"
                + gzip.compress(b"hello")[:10],
                "gzip is cut short",
            ),
            (gzipped(b"hello").replace(b"gzip", b"br"), "not asked for"),
        ],
    )
    def test_refused(self, answer: bytes, text: str) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            with pytest.raises(ProtocolError, match=text):
                await client.post(b"")

        with_peer(lambda c, n: answer, scenario, limits=ClientLimits(body_bytes=10_000))


class TestSecrets:
    """A URL's secrets are used, and never shown."""

    URL = "http://user:p%40ss@127.0.0.1:1/v2/K3Y?token=T0K3N"

    def test_user_and_password_are_sent(self) -> None:
        async def main() -> None:
            peer = Peer(lambda c, n: OK)
            server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            client = HttpClient(self.URL.replace(":1/", f":{port}/"))
            await client.post(b"")
            assert peer.requests[0].startswith(b"POST /v2/K3Y?token=T0K3N HTTP/1.1\r\n")
            assert b"authorization: Basic " + base64.b64encode(b"user:p@ss") + b"\r\n" in peer.requests[0]
            assert b"@" not in peer.requests[0]
            await client.close()
            server.close()

        asyncio.run(main())

    def test_a_token_and_a_user_are_one_credential_too_many(self) -> None:
        with pytest.raises(UsageError, match="JWT secret and a user in the URL") as caught:
            JsonRpcClient(self.URL, jwt_secret=bytes(32))
        assert not any(secret in str(caught.value) for secret in ("p%40ss", "K3Y", "T0K3N"))

    def test_nothing_is_shown(self) -> None:
        async def main() -> None:
            client = HttpClient(self.URL)
            with pytest.raises(UnavailableError) as caught:
                await client.post(b"")
            for text in (str(caught.value), repr(client.endpoint), client.endpoint.shown):
                assert not any(secret in text for secret in ("user", "p%40ss", "p@ss", "K3Y", "T0K3N")), text

        asyncio.run(main())

    @pytest.mark.parametrize(
        "url", ["http://user:S3CR3T/x@host", "http://h:S3CR3T", "ftp://u:S3CR3T@h/S3CR3T"]
    )
    def test_nor_of_what_is_no_url(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            Endpoint.parse(url)
        assert "S3CR3T" not in str(caught.value)


class TestClient:
    def test_one_connection_carries_serial_requests(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            for number in range(5):
                reply = await client.post(b"x" * number, headers=((b"x-n", b"%d" % number),))
                assert reply.body == b"hello"
            assert peer.connections == 1
            assert peer.requests[2].startswith(b"POST /path HTTP/1.1\r\nhost: 127.0.0.1:")
            assert b"\r\nx-n: 2\r\ncontent-length: 2\r\n\r\nxx" in peer.requests[2]

        with_peer(lambda c, n: OK, scenario)

    def test_concurrent_requests_never_share_a_connection(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            replies = await asyncio.gather(*(client.post(b"") for _ in range(8)))
            assert [reply.body for reply in replies] == [b"hello"] * 8
            assert peer.connections == 4

        with_peer(lambda c, n: OK, scenario, limits=ClientLimits(connections=4))

    def test_closed_idle_connection_is_replaced(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            for _ in range(3):
                assert (await client.post(b"", repeatable=True)).body == b"hello"
            assert peer.connections == 3

        # Each connection answers once, and closes on the second request without a byte.
        with_peer(lambda c, n: OK if n == 1 else None, scenario)

    @pytest.mark.parametrize(("repeatable", "deliveries"), [(False, 1), (True, 2)])
    def test_idle_connections_that_die_of_the_next_request(self, repeatable: bool, deliveries: int) -> None:
        """A request reaches the server once, or twice if it changes nothing; not once per connection."""

        async def scenario(peer: Peer, client: HttpClient) -> None:
            await asyncio.gather(*(client.post(b"first") for _ in range(6)))
            assert peer.connections == 6
            if repeatable:
                assert (await client.post(b"second", repeatable=True)).body == b"hello"
            else:
                with pytest.raises(UnavailableError, match="connection closed"):
                    await client.post(b"second")
            assert sum(request.endswith(b"second") for request in peer.requests) == deliveries

        with_peer(lambda c, n: OK if n == 1 else None, scenario)

    def test_what_may_not_be_sent_twice_does_not_trust_an_old_connection(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            await client.post(b"")
            age(client, 10.0)
            assert (await client.post(b"")).body == b"hello"
            assert peer.connections == 2
            await client.post(b"", repeatable=True)
            assert peer.connections == 2

        with_peer(lambda c, n: OK, scenario, limits=ClientLimits(fresh_s=5.0, idle_s=100.0))

    def test_fresh_connection_is_not_retried(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            with pytest.raises(UnavailableError, match="connection closed"):
                await client.post(b"")
            assert peer.connections == 1

        with_peer(lambda c, n: None, scenario)

    def test_half_an_answer_is_not_retried(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            assert (await client.post(b"")).body == b"hello"
            with pytest.raises(ProtocolError, match="before the end"):
                await client.post(b"")
            assert peer.connections == 1

        with_peer(lambda c, n: OK if n == 1 else Last(OK[:30]), scenario)

    def test_connection_close_is_honoured(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            await client.post(b"")
            await client.post(b"")
            assert peer.connections == 2

        with_peer(lambda c, n: OK.replace(b"content", b"connection: close\r\ncontent"), scenario)

    def test_two_answers_to_one_request(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            with pytest.raises(ProtocolError, match="more than one HTTP response"):
                await client.post(b"")

        with_peer(lambda c, n: OK + OK, scenario)

    def test_bytes_on_an_idle_connection_end_it(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            await client.post(b"")
            peer.writers[0].write(OK)
            await until(lambda: not client._idle[0].reusable)
            assert (await client.post(b"")).body == b"hello"
            assert peer.connections == 2

        with_peer(lambda c, n: OK, scenario)

    def test_old_idle_connections_are_not_trusted(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            await client.post(b"", repeatable=True)
            age(client, 10.0)
            await client.post(b"", repeatable=True)
            assert peer.connections == 2

        with_peer(lambda c, n: OK, scenario, limits=ClientLimits(idle_s=5.0))

    def test_time_out_then_a_clean_connection(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            with pytest.raises(TimedOut, match=r"did not answer within 0\.05 s"):
                await client.post(b"", timeout_s=0.05)
            assert (await client.post(b"")).body == b"hello"
            assert peer.connections == 2

        with_peer(lambda c, n: b"" if c == 1 else OK, scenario)

    def test_waiting_in_line_does_not_count(self) -> None:
        """Each has the whole time-out for its own exchange, however long those before it took."""

        async def scenario(peer: Peer, client: HttpClient) -> None:
            results = await asyncio.gather(*(client.post(b"") for _ in range(3)), return_exceptions=True)
            assert [str(result).split(" ", 1)[1] for result in results] == [
                "did not answer within 0.05 s"
            ] * 3
            assert peer.connections == 3

        with_peer(lambda c, n: b"", scenario, timeout_s=0.05, limits=ClientLimits(connections=1))

    @pytest.mark.parametrize(
        ("limits", "size", "text"),
        [
            (ClientLimits(connections=1, line=2), 0, "2 requests wait for a connection already"),
            (ClientLimits(connections=1, line_bytes=900), 300, "1 requests wait for a connection already"),
            (ClientLimits(connections=1, line_s=0.02), 0, "no connection came free within 0.02 s"),
        ],
    )
    def test_the_line_is_bounded(self, limits: ClientLimits, size: int, text: str) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            held = [asyncio.create_task(client.post(bytes(size))) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(TooManyInLine, match=text):
                await client.post(bytes(size))
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)
            # Whoever left the line, or a connection, left its place behind.
            replies = [client.post(b"") for _ in range(3)]
            if limits.line_s > 1:
                assert [reply.body for reply in await asyncio.gather(*replies)] == [b"hello"] * 3
            else:
                for reply in replies:
                    assert (await reply).body == b"hello"

        with_peer(lambda c, n: b"" if c == 1 else OK, scenario, limits=limits)

    def test_cancelled_request_leaves_nothing_behind(self) -> None:
        async def scenario(peer: Peer, client: HttpClient) -> None:
            task = asyncio.create_task(client.post(b""))
            await until(lambda: peer.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.post(b"")).body == b"hello"
            assert peer.connections == 2

        with_peer(lambda c, n: b"" if c == 1 else OK, scenario)

    def test_refused_and_unknown(self) -> None:
        async def main() -> None:
            server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            server.close()
            await server.wait_closed()
            client = HttpClient(f"127.0.0.1:{port}")
            with pytest.raises(
                UnavailableError, match=f"http://127.0.0.1:{port} is unreachable: Connection refused"
            ):
                await client.post(b"")
            await client.close()
            with pytest.raises(UnavailableError, match="client is closed"):
                await client.post(b"")
            with pytest.raises(UnavailableError, match="unreachable"):
                await HttpClient("http://no.such.host.invalid").post(b"")

        asyncio.run(main())

    def test_large_bodies(self) -> None:
        body = bytes(range(256)) * 8192
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

        async def scenario(peer: Peer, client: HttpClient) -> None:
            for _ in range(2):
                assert (await client.post(body)).body == body
            assert peer.requests[1].endswith(body)

        with_peer(lambda c, n: answer, scenario)
