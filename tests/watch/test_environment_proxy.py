"""A proxy that the environment names is named in errors, instead of blaming the endpoint behind it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from support.watch_lab import HOLD, StreamServer, block, text_frames, watch

from flashctl.core.net.environment_proxy import proxy_for

VARIABLES = [f"{scheme}_proxy" for scheme in ("ws", "wss", "http", "https", "socks", "all", "no")]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def dead_proxy() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://user:secret@127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if connection.recv(4096):
                        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("source", ["raw", "rpc"])
def test_a_dead_proxy_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, dead_proxy: str, source: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", dead_proxy)
    code, _, errors = watch(monkeypatch, "ws://node.invalid:1/ws", "-o", "line", "--source", source)
    assert code == 69 and "proxy http://127.0.0.1:" in errors and "(HTTP_PROXY): Connection refused" in errors
    assert "secret" not in errors


def test_check_names_a_dead_proxy(monkeypatch: pytest.MonkeyPatch, dead_proxy: str) -> None:
    monkeypatch.setenv("https_proxy", dead_proxy)
    code, output, _ = watch(monkeypatch, "wss://node.invalid:1/ws", "--check", "--json")
    (step,) = [json.loads(line) for line in output.splitlines()]
    assert code == 1 and step["step"] == "proxy" and step["status"] == "fail" and "secret" not in output
    assert "Connection refused" in step["text"] and step["fix"].startswith("unset https_proxy")


def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, refusing_proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", refusing_proxy)
    code, _, errors = watch(monkeypatch, "ws://node.invalid:1/ws", "-o", "line")
    assert code == 69 and f"proxy {refusing_proxy} (HTTP_PROXY): HTTP 502" in errors
    code, output, _ = watch(monkeypatch, "ws://node.invalid:1/ws", "--check", "--json")
    steps = [json.loads(line) for line in output.splitlines()]
    assert code == 1 and [step["step"] for step in steps] == ["proxy", "upgrade"]
    assert steps[1]["fix"].startswith("unset HTTP_PROXY"), "the path of the stream is not to blame"


@pytest.mark.parametrize("proxy", ["127.0.0.1:9", "ftp://user:secret@127.0.0.1", "socks5://127.0.0.1:9"])
def test_what_cannot_be_a_proxy_is_said_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ws_proxy", proxy)
    code, _, errors = watch(monkeypatch, "ws://node.invalid:1/ws", "-o", "line")
    assert code == 69 and "(ws_proxy)" in errors and "secret" not in errors


def test_an_exempt_host_is_met_directly(monkeypatch: pytest.MonkeyPatch, dead_proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", dead_proxy)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert proxy_for("ws://127.0.0.1:1/") is None and proxy_for("ws://node.invalid/") is not None
    with StreamServer([*text_frames(block(1, 2)), HOLD]) as server:
        assert watch(monkeypatch, server.url, "-n", "2", "-o", "line")[0] == 0
