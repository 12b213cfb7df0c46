"""The proxy as a whole: the scenarios of the field's own test suites, reload, status, and the process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.proxy_lab import FAST, UpstreamServer, configured, port_of, run, running
from support.proxy_process import proxy_process
from support.raw_websocket import RawClient, client_frame, http, upgrade_request
from support.waiting import until

from flashctl.cli.app import main
from flashctl.errors import AuthError, UsageError
from flashctl.proxy.config import ProxyConfig
from flashctl.proxy.connection_limits import ConnectionLimits
from flashctl.proxy.service import Proxy
from flashctl.proxy.status import fetch_status


async def upstream() -> UpstreamServer:
    return await UpstreamServer().start()


async def status_of(port: int, path: str) -> int:
    return (await http(port, upgrade_request(path)))[0]


class TestScenariosOfTheField:
    """Reference section 4: the integration tests of flashbots' and Base's proxies."""

    def test_healthcheck(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                plain = b" /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
                assert (await http(port_of(proxy), b"GET" + plain))[::2] == (
                    200,
                    b"no message from any upstream lately\n",
                )
                assert (await http(port_of(proxy), b"HEAD" + plain))[0] == 200
                assert (await http(port_of(proxy), b"POST" + plain))[0] == 405

        run(test)

    def test_clients_receive_messages(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source) as proxy,
                await RawClient.connect(port_of(proxy)) as first,
                await RawClient.connect(port_of(proxy)) as second,
            ):
                source.hub.publish(b"one")
                source.hub.publish(b"two")
                for client in (first, second):
                    assert await client.frames(2) == [b"one", b"two"]

        run(test)

    def test_server_limits_connections(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, access_instance_limit=3) as proxy:
                clients = [await RawClient.connect(port_of(proxy)) for _ in range(3)]
                assert await status_of(port_of(proxy), "/ws") == 429
                clients.pop().close()
                await until(lambda: proxy.access.counts.total == 2)
                clients.append(await RawClient.connect(port_of(proxy)))
                for client in clients:
                    client.close()

        run(test)

    def test_deregister(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                first = await RawClient.connect(port_of(proxy))
                source.hub.publish(b"one")
                assert await first.frames(1) == [b"one"]
                first.close()
                await until(lambda: proxy.hub.stats.subscribers == 0)
                async with await RawClient.connect(port_of(proxy)) as late:
                    await until(lambda: proxy.hub.stats.subscribers == 1)
                    source.hub.publish(b"two")
                    assert await late.frames(1) == [b"two"], "what is no flashblock is not replayed"

        run(test)

    def test_several_upstreams_all_arrive(self) -> None:
        async def test() -> None:
            first, second = await upstream(), await upstream()
            async with running(first, second) as proxy, await RawClient.connect(port_of(proxy)) as client:
                for source, texts in ((first, (b"a", b"b")), (second, (b"c", b"d"))):
                    for text in texts:
                        source.hub.publish(text)
                assert sorted(await client.frames(4)) == [b"a", b"b", b"c", b"d"]

        run(test)

    def test_keys_close_the_public_endpoint_and_open_their_own(self) -> None:
        async def test() -> None:
            source = await upstream()
            keys = ("app1:key1:10", "app2:key2:10", "app3:key3:10")
            async with running(source, access_api_keys=keys) as proxy:
                assert await status_of(port_of(proxy), "/ws") == 401
                assert await status_of(port_of(proxy), "/ws/key4") == 401
                for key in ("key1", "key2", "key3"):
                    async with await RawClient.connect(port_of(proxy), f"/ws/{key}"):
                        pass

        run(test)

    def test_ping_timeout_disconnects_client(self) -> None:
        async def test() -> None:
            source = await upstream()
            settings = {"clients_ping_interval_s": 0.1, "clients_pong_timeout_s": 0.5}
            async with (
                running(source, **settings) as proxy,
                await RawClient.connect(port_of(proxy)) as client,
            ):
                assert (await client.closed()).close_code == 1008
                await until(lambda: proxy.hub.stats.subscribers == 0)
                await until(lambda: proxy.access.counts.total == 0)

        run(test)

    def test_an_upstream_that_never_answers_pings_is_dialled_again(self) -> None:
        async def test() -> None:
            connects = 0

            async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal connects
                connects += 1
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                key = next(line.split(": ")[1] for line in request.split("\r\n") if "Key:" in line)
                from websockets.utils import accept_key

                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
                )
                await asyncio.Future()

            server = await asyncio.start_server(mute, "127.0.0.1", 0)
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            settings = {"upstream_ping_interval_s": 0.1, "upstream_pong_timeout_s": 0.2}
            async with running(url, **settings) as proxy:
                await until(lambda: connects >= 2)
                assert proxy.upstreams.all[0].stats.ping_failures >= 1

        run(test)

    def test_unknown_paths(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                for path in ("/", "/ws/", "/ws/key", "/other"):
                    assert await status_of(port_of(proxy), path) == 404

        run(test)


class TestUpstreams:
    def test_headers_reach_the_upstream_and_secrets_stay_out_of_logs(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", logger="flashctl")

        async def test() -> None:
            source = await upstream()
            url = f"ws://127.0.0.1:{source.port}/?token=t0psecret"
            async with running(url, upstream_headers=(("Authorization", "Bearer hunter2"),)) as proxy:
                assert source.requests[-1][2]["authorization"] == "Bearer hunter2"
                source.publish(7, 0)
                await until(lambda: proxy.relay.stats.forwarded == 1)
                port = proxy.status_server.port
                for page in ("/metrics", "/status"):
                    _, _, body = await http(port, f"GET {page} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    assert b"hunter2" not in body
                    assert b"t0psecret" not in body

        run(test)
        assert "t0psecret" not in caplog.text
        assert "hunter2" not in caplog.text

    def test_refused_credentials_end_a_proxy_with_nothing_else_to_serve(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, access_api_keys=("a:key:5",)) as locked:
                url = f"ws://127.0.0.1:{port_of(locked)}/ws"
                proxy = Proxy(configured(FAST, upstream_urls=(url,)))
                with pytest.raises(AuthError, match="401"):
                    await proxy.upstreams.run()

        run(test)

    def test_proxies_chain(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source) as inner,
                running(f"ws://127.0.0.1:{port_of(inner)}/ws") as outer,
                await RawClient.connect(port_of(outer)) as client,
            ):
                sent = [source.publish(7, 0), source.publish(7, 1, binary=True)]
                assert await client.frames(2) == sent

        run(test)

    def test_the_gauge_of_connected_upstreams_never_goes_wrong(self) -> None:
        """rollup-boost#403: failed connects took it below zero."""

        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                for _ in range(2):
                    await source.stop()
                    await until(lambda: proxy.upstreams.all[0].stats.failures >= 1)
                    _, _, body = await http(
                        proxy.status_server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
                    )
                    assert b"websocket_proxy_upstream_connections 0.0\n" in body
                    await source.start()
                    await until(lambda: proxy.upstreams.all[0].connected)

        run(test)


class TestReload:
    def test_keys_and_limits(self, tmp_path: Path) -> None:
        keys, limits = tmp_path / "keys", tmp_path / "limits.toml"
        keys.write_text("a:key1\n")
        limits.write_text("instance_connection_limit = 1\n")

        async def test() -> None:
            source = await upstream()
            async with running(source, access_api_keys_file=keys, access_limits_file=limits) as proxy:
                async with await RawClient.connect(port_of(proxy), "/ws/key1") as client:
                    assert await status_of(port_of(proxy), "/ws/key1") == 429
                    keys.write_text("b:key2\n")
                    limits.write_text("instance_connection_limit = 2\nper_ip_connection_limit = 9\n")
                    proxy.reload()
                    assert await status_of(port_of(proxy), "/ws/key1") == 401
                    async with await RawClient.connect(port_of(proxy), "/ws/key2"):
                        pass
                    sent = source.publish(7, 0)
                    assert await client.frames(1) == [sent], "who is connected stays"
                # What does not parse changes nothing.
                keys.write_text("nonsense\n")
                limits.write_text("instance_connection_limit = 'many'\n")
                with pytest.raises(UsageError):
                    proxy.reload()
                assert len(proxy.access.keys) == 1
                assert proxy.access.limits == ConnectionLimits(2, 9)

        run(test)


class TestConfiguration:
    def test_an_upstream_is_needed(self) -> None:
        with pytest.raises(UsageError, match="no upstream"):
            Proxy(ProxyConfig())


def flashctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


class TestProcess:
    def test_a_life(self) -> None:
        """Start by environment as a compose file has it, serve, report, reload, drain."""

        async def test() -> None:
            source = await upstream()
            environment = {"UPSTREAM_WS": f"{source.url},{source.url}x", "PER_IP_CONNECTION_LIMIT": "3"}
            async with proxy_process(**environment) as proxy:
                client = await RawClient.connect(proxy.port)
                sent = source.publish(7, 0)
                assert await client.frames(1) == [sent]
                status = await asyncio.to_thread(fetch_status, f"http://127.0.0.1:{proxy.status_port}")
                assert status["limits"]["per_ip"] == 3
                assert [one["connected"] for one in status["upstreams"]] == [True, True]
                assert status["ready"]
                shown = await asyncio.to_thread(
                    flashctl, "proxy", "status", "--url", f"127.0.0.1:{proxy.status_port}"
                )
                assert shown.returncode == 0
                assert "1 connected" in shown.stdout
                proxy.child.send_signal(signal.SIGHUP)
                # Answered after it: it goes on.
                await asyncio.to_thread(fetch_status, f"http://127.0.0.1:{proxy.status_port}")
                proxy.child.send_signal(signal.SIGTERM)
                end = await client.closed()
                assert end.close_code == 1001
                client.send(client_frame(8, end.payload))
                assert await asyncio.wait_for(proxy.child.wait(), 60) == 0

        run(test)

    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            ((), 2, "no upstream"),
            (("--upstream-ws", "http://x"), 2, "--upstream-ws: http://x is an HTTP URL"),
            (("--upstream-ws", "x:1111"), 2, "--upstream-ws: 'x:1111' is not a ws:// or wss:// URL"),
            (("--upstream-ws", "ws://user:pass/word@x"), 2, "--upstream-ws: not a URL\n"),
            (("--upstream-ws", "ws://x", "--listen-addr", "8545"), 2, "'8545' is not HOST:PORT"),
            (("--upstream-ws", "ws://x", "--on-lag", "wait"), 2, "evict, conflate"),
            (("--upstream-ws", "ws://x", "--api-keys", "nonsense"), 2, "Missing API Key"),
            (("--upstream-ws", "ws://x", "--trusted-proxies", "x"), 2, "'x'"),
            (("--upstream-ws", "ws://x", "--tls-cert", "a"), 2, "--tls-key"),
            (("--upstream-ws", "ws://x", "--api-keys-file", "/nowhere"), 74, "/nowhere"),
            (("--upstream-ws", "ws://x", "--upstream-header", "x"), 2, "NAME: VALUE"),
        ],
    )
    @pytest.mark.parametrize("check", [(), ("--check",)], ids=["run", "check"])
    def test_mistakes_are_one_line(
        self,
        arguments: tuple[str, ...],
        code: int,
        text: str,
        check: tuple[str, ...],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(["proxy", *arguments, *check]) == code
        said = capsys.readouterr().err
        assert text in said
        assert said.count("error:") == 1
        assert "Traceback" not in said

    def test_status_of_nobody(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["proxy", "status", "--url", "http://127.0.0.1:9"]) == 69
        assert "--metrics-addr" in capsys.readouterr().err

    def test_a_port_that_is_taken(self) -> None:
        async def test() -> None:
            source = await upstream()
            taken = f"127.0.0.1:{source.port}"
            done = await asyncio.to_thread(
                flashctl, "proxy", "--upstream-ws", source.url, "--listen-addr", taken, "--no-metrics"
            )
            assert done.returncode == 1
            assert f"cannot listen on {taken}" in done.stderr
            assert "Traceback" not in done.stderr

        run(test)

    def test_refused_by_the_upstream(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, access_api_keys=("a:key:5",)) as locked:
                done = await asyncio.to_thread(
                    flashctl, "proxy", "--upstream-ws", f"ws://127.0.0.1:{port_of(locked)}/ws",
                    "--listen-addr", "127.0.0.1:0", "--no-metrics",
                )  # fmt: skip
                assert done.returncode in (1, 77)
                assert "401" in done.stderr
                assert "Traceback" not in done.stderr

        run(test)
