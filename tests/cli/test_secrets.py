"""A secret in every URL, token, header and variable of every role, and upstreams that do everything wrong:
none is in an answer, a log line at any level, a metric, a page, or the arguments of a child."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.role_process import free_port, get, post, role_process

from flashctl.core.engine.jwt import create_secret

USER, QUERY, PATH, HEADER, KEY = (f"hunter{n}secret{n}" for n in range(5))
TOKEN = "5ec4e7" + "c0ffee" * 9 + "1234"
SECRETS = (USER, QUERY, PATH, HEADER, KEY, TOKEN)

ANSWERS = (
    (404, b"<html>nothing</html>"), (500, b'{"jsonrpc":"2.0"}'),
    (429, b"slow down"), (503, b""), (200, b"not json"), (200, b"[]"), (200, b'{"id":1,"jsonrpc":"2.0"}'),
    (200, b'{"id":99,"result":1}'), (301, b""),
    (200, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}'),
    # Last: boost ends when its fallback refuses the secret at the first probe.
    (401, b"no"), (403, b"{}"),
)  # fmt: skip


class _Wrong(BaseHTTPRequestHandler):
    """Whatever is asked, the next wrong answer."""

    protocol_version = "HTTP/1.1"
    answers = itertools.cycle(ANSWERS)
    delays = itertools.cycle((500, 502, 503, 429))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, body = next(self.answers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 301:
            self.send_header("Location", "http://elsewhere/")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """A stream that would be: nothing final, which a service may end for at its start."""
        self.send_response(next(self.delays))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def wrong_server() -> Iterator[int]:
    _Wrong.answers = itertools.cycle(ANSWERS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Wrong)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def url(scheme: str, port: int) -> str:
    return f"{scheme}://user:{USER}@127.0.0.1:{port}/v2/{PATH}?apikey={QUERY}"


def assert_none_in(*texts: str) -> None:
    for text in texts:
        for secret in SECRETS:
            place = text.find(secret)
            assert place < 0, text[max(0, place - 300) : place + 100]


@pytest.fixture(params=["wrong", "refused"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "refused":
        yield free_port()
    else:
        with wrong_server() as number:
            yield number


def settle() -> None:
    """Time for a few attempts at each upstream."""
    time.sleep(1.5)


RAW = "0x02f8" + "00" * 100
BLOCK = {"headBlockHash": "0x" + "00" * 32, "safeBlockHash": "0x" + "00" * 32,
         "finalizedBlockHash": "0x" + "00" * 32}  # fmt: skip


def test_builder(tmp_path: Path, port: int) -> None:
    http = free_port()
    arguments = (
        "builder", "--log-level", "trace", "--http.port", str(http), "--authrpc.port", "0",
        "--flashblocks.port", "0", "--authrpc.jwtsecret", str(tmp_path / "jwt.hex"), "--workers", "0",
    )  # fmt: skip
    secrets = {
        "FLASHCTL_BUILDER_SYNC_RPC": url("http", port),
        "FLASHCTL_BUILDER_SEQUENCER": url("http", port),
        "BUILDER_SECRET_KEY": TOKEN,
    }
    with role_process(tmp_path, *arguments, **secrets) as builder:
        builder.wait_ready()
        here = f"http://127.0.0.1:{http}"
        answers = [post(here, "eth_sendRawTransaction", RAW) for _ in ANSWERS]
        settle()
        pages = [get(here + page)[1] for page in ("/healthz", "/readyz", "/metrics")]
        assert builder.end() == 0
        assert_none_in(*answers, *pages, builder.said())
        assert (tmp_path / "jwt.hex").read_text().strip() not in builder.said()


def test_boost(tmp_path: Path, port: int) -> None:
    engine, debug = free_port(), free_port()
    arguments = (
        "boost", "--log-level", "trace", "--rpc-port", str(engine), "--debug-server-port", str(debug),
        "--flashblocks-port", "0", "--health-check-interval", "0.2",
    )  # fmt: skip
    secrets = {
        "BUILDER_URL": url("http", port).replace(f"user:{USER}@", ""), "L2_JWT_TOKEN": TOKEN,
        "L2_URL": url("http", port).replace(f"user:{USER}@", ""),
        "FLASHBLOCKS_BUILDER_URL": url("ws", port), "FLASHBLOCKS_AUTHORIZER_SK": KEY,
    }  # fmt: skip
    with role_process(tmp_path, *arguments, **secrets) as boost:
        boost.wait_ready()
        here = f"http://127.0.0.1:{engine}"
        answers = [post(here, "eth_chainId") for _ in ANSWERS]
        answers += [post(here, "engine_forkchoiceUpdatedV3", BLOCK, None) for _ in ANSWERS]
        answers += [post(here, "engine_getPayloadV4", "0x0000000000000001") for _ in range(3)]
        answers += [post(here, "miner_setMaxDASize", "0x1", "0x1") for _ in range(3)]
        answers.append(post(f"http://127.0.0.1:{debug}", "debug_status"))
        settle()
        pages = [get(here + page)[1] for page in ("/healthz", "/readyz", "/metrics")]
        assert boost.end() == 0
        assert_none_in(*answers, *pages, boost.said())


def test_proxy(tmp_path: Path, port: int) -> None:
    status, clients = free_port(), free_port()
    arguments = (
        "proxy", "--log-level", "trace", "--listen-addr", f"127.0.0.1:{clients}",
        "--metrics-addr", f"127.0.0.1:{status}", "--subscriber-max-interval-ms", "100",
    )  # fmt: skip
    secrets = {
        "UPSTREAM_WS": url("ws", port), "FLASHCTL_PROXY_UPSTREAM_HEADER": f"X-Key: {HEADER}",
        "FLASHCTL_PROXY_UPSTREAM_API_KEY": KEY, "API_KEYS": f"app:{TOKEN}:5",
        "REDIS_URL": f"redis://:{USER}@127.0.0.1:{port}/",
    }  # fmt: skip
    with role_process(tmp_path, *arguments, **secrets) as proxy:
        proxy.wait_ready()
        answers = [get(f"http://127.0.0.1:{clients}/ws/{key}")[1] for key in (TOKEN, QUERY)]
        settle()
        names = ("/healthz", "/readyz", "/metrics", "/status")
        pages = [get(f"http://127.0.0.1:{status}{page}")[1] for page in names]
        assert proxy.end() == 0
        assert_none_in(*answers, *pages, proxy.said())


def test_rpc(tmp_path: Path, port: int) -> None:
    http = free_port()
    arguments = ("rpc", "--log-level", "trace", "--http.port", str(http), "--http.api", "*", "--workers", "0")
    secrets = {
        "FLASHBLOCKS_URL": url("ws", port), "FLASHCTL_RPC_UPSTREAM_RPC": url("http", port),
        "FLASHCTL_RPC_UPSTREAM_WS": url("ws", port), "FLASHCTL_RPC_SEQUENCER": url("http", port),
    }  # fmt: skip
    with role_process(tmp_path, *arguments, **secrets) as rpc:
        rpc.wait_ready()
        here = f"http://127.0.0.1:{http}"
        calls = (
            ("eth_chainId",),
            ("eth_sendRawTransaction", RAW),
            ("debug_traceTransaction", "0x" + "11" * 32),
        )
        answers = [post(here, *call) for call in calls for _ in ANSWERS]
        settle()
        pages = [get(here + page)[1] for page in ("/healthz", "/readyz", "/metrics")]
        assert rpc.end() == 0
        assert_none_in(*answers, *pages, rpc.said())


@pytest.mark.parametrize("flags", [("--json",), ("--check",)])
def test_watch(tmp_path: Path, port: int, flags: tuple[str, ...]) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    arguments = (
        "watch", "--log-level", "trace", "--timeout", "2s", "--api-key-file", str(key), *flags,
    )  # fmt: skip
    secrets = {
        "FLASHCTL_WATCH_URL": url("ws", port), "FLASHCTL_WATCH_HEADER": f"X-Key: {HEADER}",
        "FLASHCTL_WATCH_RPC": url("http", port), "FLASHCTL_WATCH_CONFIRM": url("http", port),
    }  # fmt: skip
    with role_process(tmp_path, *arguments, is_service=False, **secrets) as watch:
        watch.process.wait(30)
        assert watch.said()
        assert_none_in(watch.said())


def test_devnet_gives_its_children_files(tmp_path: Path) -> None:
    secret = create_secret(tmp_path / "jwt.hex").hex()
    command = ("devnet", "--any-ports", "--datadir", str(tmp_path), "--log-level", "trace", "--json")
    with role_process(tmp_path, *command, "--workers", "0") as devnet:
        devnet.wait_ready()
        devnet.wait_for('"event":"ready"')
        ready = next(json.loads(line) for line in devnet.said().splitlines() if '"event":"ready"' in line)
        shown = [Path(f"/proc/{pid}/cmdline").read_text() for pid in ready["processes"].values()]
        shown += [get(ready["endpoints"][name] + "/metrics")[1] for name in ("rpc", "builder", "boost")]
        devnet.process.send_signal(signal.SIGHUP)  # goes on to the children, and ends nobody
        devnet.wait_for('"event":"sealed"')
        assert devnet.end() == 0
    logs = [path.read_text(errors="replace") for path in (tmp_path / "logs").iterdir()]
    assert len(shown) > 5 and len(logs) == 5
    assert all("reloaded" in text for text in logs)
    assert not any(secret in text for text in (*shown, *logs, devnet.said()))


@pytest.mark.parametrize(
    ("role", "given"),
    [
        ("builder", {"FLASHCTL_BUILDER_SYNC_RPC": "http", "FLASHCTL_BUILDER_SEQUENCER": "http"}),
        ("boost", {"BUILDER_URL": "http", "L2_URL": "http", "FLASHBLOCKS_BUILDER_URL": "ws"}),
        ("proxy", {"UPSTREAM_WS": "ws", "REDIS_URL": "redis"}),
        ("rpc", {"FLASHBLOCKS_URL": "ws", "FLASHCTL_RPC_UPSTREAM_RPC": "http"}),
        ("watch", {"FLASHCTL_WATCH_URL": "ws", "FLASHCTL_WATCH_COMPARE": "ws", "FLASHCTL_WATCH_RPC": "http"}),
    ],
)
def test_saved_profiles(role: str, given: dict[str, str], tmp_path: Path) -> None:
    tokens = {"L2_JWT_TOKEN": TOKEN, "API_KEYS": f"a:{KEY}:1", "FLASHCTL_WATCH_HEADER": f"X: {HEADER}"}
    saved = tmp_path / "saved.toml"
    done = subprocess.run(
        [sys.executable, "-m", "flashctl", role, "--save-profile", str(saved)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **{name: url(scheme, 1) for name, scheme in given.items()}, **tokens},
    )
    assert done.returncode == 0, done.stderr
    assert_none_in(saved.read_text(), done.stdout, done.stderr)
