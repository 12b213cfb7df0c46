"""`flashctl boost` as an operator runs it: a process, its flags, its one-line errors, its metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.engines import DEPOSIT, SECRET, Driver, ToyBuilder, ToyEngine, genesis
from support.waiting import until_answered

from flashctl.boost.debug_api import DebugClient
from flashctl.cli.app import main

TOKEN = SECRET.hex()
BASE = ["--l2-jwt-token", TOKEN, "--rpc-port", "0", "--debug-server-port", "0", "--flashblocks-port", "0"]

REFERENCE_FLAGS = """
--builder-url --builder-jwt-token --builder-jwt-path --builder-timeout
--l2-url --l2-jwt-token --l2-jwt-path --l2-timeout
--execution-mode --block-selection-policy --external-state-root --ignore-unhealthy-builders
--health-check-interval --max-unsafe-interval
--flashblocks --flashblocks-builder-url --flashblocks-host --flashblocks-port
--flashblock-builder-ws-initial-reconnect-ms --flashblock-builder-ws-max-reconnect-ms
--flashblock-builder-ws-connect-timeout-ms --flashblock-builder-ws-ping-interval-ms
--flashblock-builder-ws-pong-timeout-ms
--rpc-host --rpc-port --metrics --metrics-host --metrics-port --debug-host --debug-server-port
--log-level --log-format
"""


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """`main` configures the logging of a process, which here is everybody's."""
    root, ours = logging.getLogger(), logging.getLogger("flashctl")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    root.handlers[:], _, _, logging.raiseExceptions = before
    root.setLevel(before[1])
    ours.setLevel(before[2])


def failing(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    code = main(["boost", *flags])
    return code, capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        ("flags", "code", "line"),
        [
            ((), 2, "Missing Client JWT secret"),
            (("--l2-jwt-token", "12"), 2, "length of 64 digits. 2 digits key provided"),
            (("--l2-jwt-path", "/no/such/file"), 74, "cannot read JWT secret /no/such/file"),
            ((*BASE, "--execution-mode", "fast"), 2, "unknown execution mode 'fast'"),
            ((*BASE, "--block-selection-policy", "best"), 2, "unknown block selection policy 'best'"),
            ((*BASE, "--l2-url", "ftp://x"), 2, "not an http or https URL"),
            ((*BASE, "--flashblocks-builder-url", "http://x"), 2, "is ws:// or wss://"),
            ((*BASE, "--builder-timeout", "0"), 2, "--builder-timeout 0"),
            ((*BASE, "--health-check-interval", "0"), 2, "--health-check-interval must be above 0"),
            ((*BASE, "--decisions", "/no/such/folder/file"), 74, "cannot write decisions"),
            ((*BASE, "--rpc-host", "no.such.host.invalid"), 1, "cannot listen on no.such.host.invalid"),
            (("--no-such-flag",), 2, "--no-such-flag"),
        ],
    )
    def test_one_line_and_a_code(
        self, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int, line: str
    ) -> None:
        got, text = failing(capsys, *flags)
        assert got == code
        errors = [row for row in text.splitlines() if row.startswith("flashctl: error:")]
        assert len(errors) == 1
        assert line in errors[0]
        assert "Traceback" not in text
        assert TOKEN not in text

    @pytest.mark.parametrize(
        "flag", ["--rpc-port", "--debug-server-port", "--flashblocks-port", "--metrics-port"]
    )
    def test_port_taken(self, capsys: pytest.CaptureFixture[str], flag: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            flags = [*BASE, "--metrics", "--metrics-port", "0"]
            flags[flags.index(flag) + 1] = port
            code, text = failing(capsys, *flags)
        assert code == 1
        assert f"cannot listen on 127.0.0.1:{port}" in text

    def test_debug_client(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert failing(capsys, "debug", "--debug-server-port", "1")[0] == 69
        assert failing(capsys, "debug", "set-execution-mode")[0] == 2
        assert failing(capsys, "debug", "status", "enabled")[0] == 2
        code, text = failing(capsys, "debug", "explode")
        assert (code, "'explode' is not one of status," in text) == (2, True)


def test_help_shows_the_reference_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boost", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in REFERENCE_FLAGS.split():
        assert re.search(rf"(?m)^  {flag}\b|, {flag}\b", text), flag
    assert "flashctl boost --builder-url" in text


def test_refused_by_the_fallback_is_the_end_by_the_builder_is_not() -> None:
    async def scenario() -> None:
        fallback = ToyEngine(genesis())
        await fallback.start()
        loop = asyncio.get_running_loop()
        wrong = "00" * 32
        flags = [*BASE, "--l2-url", fallback.url, "--builder-url", fallback.url]
        refused = [wrong if flag == TOKEN else flag for flag in flags]
        done = await loop.run_in_executor(None, run_command, "boost", *refused)
        assert done.returncode == 77
        assert "refused our credentials: invalid token signature" in done.stderr
        await loop.run_in_executor(
            None, runs_with_a_builder_that_refuses, *flags, "--builder-jwt-token", wrong
        )
        await fallback.stop()

    asyncio.run(scenario())


def runs_with_a_builder_that_refuses(*flags: str) -> None:
    with boost_process(*flags) as boost:
        assert boost.stderr is not None
        while "builder: " not in (line := boost.stderr.readline()):
            assert line
        assert "refused our credentials" in line
        assert boost.poll() is None


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flashctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@contextmanager
def boost_process(*flags: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A boost that is ready; killed if the test leaves it running."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "flashctl", "boost", "--ready-fd", str(writer), *flags],
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            assert ready.readline() == "ready\n", process.communicate()[1]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_ports(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(sock.getsockname()[1]) for sock in held]
    for sock in held:
        sock.close()
    return ports


def test_process_from_environment_to_drain(tmp_path: Path) -> None:
    """The reference's variables and metric names, three blocks, the debug client, SIGTERM."""

    async def scenario() -> None:
        start = genesis()
        fallback, builder = ToyEngine(start), ToyBuilder(start, auto_publish=[2, 1])
        await fallback.start()
        await builder.start()
        rpc, debug, metrics = free_ports(3)
        environment = {
            "BUILDER_URL": builder.url,
            "L2_URL": fallback.url,
            "L2_JWT_TOKEN": TOKEN,
            "RPC_PORT": rpc,
            "DEBUG_SERVER_PORT": debug,
            "METRICS": "true",
            "METRICS_PORT": metrics,
            "FLASHBLOCKS_BUILDER_URL": builder.stream_url,
            "FLASHBLOCKS_PORT": "0",
        }
        decisions = tmp_path / "decisions.jsonl"
        loop = asyncio.get_running_loop()
        started = boost_process("--decisions", str(decisions), "--log-format", "json", **environment)
        process = await loop.run_in_executor(None, started.__enter__)
        try:
            await drive(rpc, debug, fallback)
            async with httpx.AsyncClient() as http:
                text = (await http.get(f"http://127.0.0.1:{metrics}/metrics")).text
            check_metrics(text)
            answer = await loop.run_in_executor(None, debug_command, debug, "set-execution-mode", "dry-run")
            assert answer == {"execution_mode": "dry_run"}
            status = await loop.run_in_executor(None, debug_command, debug, "status")
            assert (status["execution_mode"], status["health"]) == ("dry_run", 200)
            process.send_signal(signal.SIGTERM)
            _, log = await loop.run_in_executor(None, process.communicate)
            assert process.returncode == 0
            lines = [json.loads(line) for line in log.splitlines()]
            returned = [line for line in lines if line["msg"] == "returning block"]
            assert [(line["block"], line["source"]) for line in returned] == [
                (number, "builder") for number in (1, 2, 3)
            ]
            assert TOKEN not in log
        finally:
            await loop.run_in_executor(None, started.__exit__, None, None, None)
            await fallback.stop()
            await builder.stop()
        written = [json.loads(line) for line in decisions.read_text().splitlines()]
        assert [(line["flashblocks"], line["transactions"]) for line in written] == [(3, 4)] * 3

    asyncio.run(scenario())


async def three_flashblocks(watcher: DebugClient) -> bool:
    return (await watcher.status())["round"]["flashblocks"] >= 3


async def drive(rpc: str, debug: str, fallback: ToyEngine) -> None:
    """Three blocks of three flashblocks each."""
    driver = Driver(f"http://127.0.0.1:{rpc}", fallback.start_header)
    watcher = DebugClient(f"http://127.0.0.1:{debug}")
    for _ in range(3):
        identity = await driver.begin()
        await until_answered(lambda: three_flashblocks(watcher))
        block = await driver.finish(identity)
        assert block.transactions[0] == DEPOSIT
    await watcher.close()
    await driver.client.close()


def check_metrics(text: str) -> None:
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert samples['rollup_boost_rpc_blocks_created{source="builder"}'] == "3.0"
    assert samples["rollup_boost_execution_mode"] == "3.0"
    assert samples["rollup_boost_rollup_boost_execution_mode"] == "3.0"
    assert samples["rollup_boost_flashblocks_ws_inbound_connection_status"] == "1.0"
    assert samples["rollup_boost_flashblocks_ws_inbound_messages_received"] == "9.0"
    assert samples["rollup_boost_flashblocks_service_messages_processed"] == "9.0"
    assert samples["rollup_boost_flashblocks_service_flashblocks_gauge"] == "3.0"
    assert samples["rollup_boost_flashblocks_service_flashblocks_counter"] == "9.0"
    assert samples['rollup_boost_get_payload_v4_duration_count{status="ok"}'] == "3.0"
    assert samples['rollup_boost_fork_choice_updated_v3_duration_count{status="ok"}'] == "6.0"
    assert samples["rollup_boost_block_building_tx_count_delta_count"] == "3.0"


def debug_command(port: str, *words: str) -> dict[str, object]:
    command = [sys.executable, "-m", "flashctl", "boost", "debug", *words, "--debug-server-port", port]
    answer: dict[str, object] = json.loads(subprocess.check_output(command, text=True))
    return answer
