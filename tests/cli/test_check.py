"""`--check`: a service's settings are read and resolved, its peers asked, and nothing is started."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.role_process import RoleProcess, free_port, role_process
from support.watch_lab import HOLD, NodeServer, StreamServer, block, text_frames

from flashctl.cli.app import main
from flashctl.core.engine import jwt
from flashctl.core.service import probes

SECRET = "11" * 32


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments], capture_output=True, text=True, timeout=60
    )


NOBODY = "http://127.0.0.1:1"
BOOST_PORTS = ("--rpc-port", "0", "--debug-server-port", "0", "--flashblocks-port", "0")
BUILDER_PORTS = ("--http.port", "0", "--authrpc.port", "0", "--flashblocks.port", "0")
PROXY_PORTS = ("--listen-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")


@pytest.mark.parametrize(
    "arguments",
    [["builder", *BUILDER_PORTS], ["devnet", "--any-ports"]],
    ids=lambda arguments: arguments[0],
)
def test_good_settings_say_nothing(arguments: list[str]) -> None:
    done = run(*arguments, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["boost", "-P", "devnet"], "Missing Client JWT secret"),
        (["rpc"], "no flashblocks stream"),
        (["proxy", "-P", "devnet", "--validate", "maybe"], "--validate"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_settings_are_named(arguments: list[str], complaint: str) -> None:
    done = run(*arguments, "--check")
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["boost", "-P", "devnet", "--l2-jwt-token", SECRET, "--debug-server-port", "0", "--flashblocks-port",
         "0", "--rpc-port", "{port}"],
        ["builder", "--http.port", "0", "--flashblocks.port", "0", "--authrpc.port", "{port}"],
        ["proxy", "-P", "devnet", "--listen-addr", "127.0.0.1:{port}"],
        ["rpc", "-P", "devnet", "--http.port", "{port}", "--sealed-port", "0"],
        ["rpc", "-P", "devnet", "--http.port", "0", "--sealed-port", "{port}"],
        ["devnet", "--any-ports", "--proxy-port", "{port}"],
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_a_port_that_is_taken_is_named(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*(argument.replace("{port}", str(port)) for argument in arguments), "--check")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[0]


def test_all_taken_ports_and_absent_peers_are_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = [str(server.getsockname()[1]) for server in (one, other)]
        done = run(
            "boost", "--builder-url", NOBODY, "--l2-url", NOBODY, "--flashblocks-builder-url", "ws://127.0.0.1:1",
            "--l2-jwt-token", SECRET, "--rpc-port", taken[0], "--debug-server-port", taken[1],
            "--flashblocks-port", "0", "--check",
        )  # fmt: skip
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (1, 5), done.stderr
    assert [taken[0] in lines[0], taken[1] in lines[1], NOBODY in lines[2]] == [True] * 3


def test_an_address_of_another_machine_is_not_blamed_on_a_process() -> None:
    done = run("devnet", "--any-ports", "--host", "192.0.2.1")
    assert done.returncode == 1 and "cannot listen on 192.0.2.1:" in done.stderr
    assert "hint: choose an address of this machine" in done.stderr


def test_a_devnet_beside_another_says_how() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("devnet", "--any-ports", "--proxy-port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "address already in use" in done.stderr and "hint" in done.stderr and "--any-ports" in done.stderr
    assert len(done.stderr.splitlines()) == 2, "no log of a child"


@pytest.mark.parametrize("role", ["builder", "devnet"])
def test_a_genesis_that_cannot_be_used_is_named(role: str, tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text("[]")
    done = run(role, "--genesis", str(genesis), "--check")
    assert done.returncode != 0 and "genesis.json" in done.stderr.splitlines()[0]


def test_a_jwt_secret_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "jwt.hex"
    secret.write_text("none")
    done = run("builder", "--authrpc.jwtsecret", str(secret), "--check")
    assert done.returncode == 2 and "JWT key" in done.stderr.splitlines()[0]


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("http", "authrpc", "flashblocks")}


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "jwt.hex"
    path.write_text(SECRET)
    return path


@pytest.fixture(scope="module")
def engine(ports: dict[str, int], secret: Path) -> Iterator[RoleProcess]:
    flags = [part for name, port in ports.items() for part in (f"--{name}.port", str(port))]
    arguments = ("builder", *flags, "--authrpc.jwtsecret", str(secret), "--workers", "0")
    with role_process(secret.parent, *arguments) as process:
        process.wait_ready()
        yield process


class TestPeers:
    """What the settings name is asked, in this process; the engine is real."""

    def boost(self, ports: dict[str, int], secret: Path, *more: str) -> int:
        engine, stream = f"http://127.0.0.1:{ports['authrpc']}", f"ws://127.0.0.1:{ports['flashblocks']}"
        return main([
            "boost", "--builder-url", engine, "--l2-url", engine, "--flashblocks-builder-url", stream,
            "--l2-jwt-path", str(secret), *BOOST_PORTS, *more, "--check",
        ])  # fmt: skip

    @pytest.mark.usefixtures("engine")
    def test_engines_that_take_us_are_silent(
        self, ports: dict[str, int], secret: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.boost(ports, secret) == 0
        assert capsys.readouterr() == ("", "")

    @pytest.mark.usefixtures("engine")
    def test_a_secret_that_is_not_the_engine_s_and_a_clock_that_is_wrong(
        self, ports: dict[str, int], secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        other = tmp_path / "other.hex"
        other.write_text("22" * 32)
        assert self.boost(ports, other) == 77
        fallback, builder = capsys.readouterr().err.splitlines()
        assert "invalid token signature" in fallback and "--l2-jwt-path must hold" in fallback
        assert "--builder-jwt-path must hold" in builder
        honest = jwt.bearer
        monkeypatch.setattr(jwt, "bearer", lambda secret, now: honest(secret, now - 600))
        assert self.boost(ports, secret) == 77
        assert "clocks of the two machines differ" in capsys.readouterr().err

    @pytest.mark.usefixtures("engine")
    def test_the_wrong_port_and_nobody(
        self, ports: dict[str, int], secret: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = ("--builder-timeout", "900")
        swapped = {**ports, "authrpc": ports["http"], "flashblocks": ports["http"]}
        assert self.boost(swapped, secret, *flags) == 76
        said = capsys.readouterr().err
        assert "must name its engine port" in said and "--flashblocks-builder-url" not in said
        assert self.boost({**ports, "authrpc": 1}, secret) == 69
        assert "start it, or correct --l2-url" in capsys.readouterr().err

    @pytest.mark.usefixtures("engine")
    def test_chains_that_differ(self, ports: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
        with NodeServer(eth_chainId=lambda _: "0xa") as node:
            assert main(["builder", *BUILDER_PORTS, "--sync-rpc", node.url, "--check"]) == 76
            assert "node is of chain 10" in capsys.readouterr().err
        url = f"http://127.0.0.1:{ports['http']}"
        assert main(["builder", *BUILDER_PORTS, "--sync-rpc", url, "--check"]) == 0

    def test_a_hung_peer_is_waited_for_a_bounded_time(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(probes, "CALL_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as hung:
            url = f"http://127.0.0.1:{hung.getsockname()[1]}"
            assert main(["builder", *BUILDER_PORTS, "--sync-rpc", url, "--check"]) == 69
        assert "--sync-rpc" in capsys.readouterr().err
        monkeypatch.setattr(probes, "CALL_S", 60)
        monkeypatch.setattr(probes, "TOTAL_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as hung:
            url = f"http://127.0.0.1:{hung.getsockname()[1]}"
            assert main(["builder", *BUILDER_PORTS, "--sync-rpc", url, "--check"]) == 69
        assert "more than 0.2 s" in capsys.readouterr().err

    def test_streams(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        def check(url: str) -> tuple[int, str]:
            code = main(["proxy", "--upstream-ws", url, *PROXY_PORTS, "--check"])
            return code, capsys.readouterr().err

        with StreamServer([*text_frames(block(1)), HOLD]) as server:
            assert check(server.url) == (0, "")
        with StreamServer(['{"no": "flashblock"}', HOLD]) as server:
            code, said = check(server.url)
            assert code == 76 and "must name a stream of flashblocks" in said
        with StreamServer([HOLD], refuse=(401, "who are you")) as server:
            code, said = check(server.url)
            assert code == 77 and "does it need a key" in said
        monkeypatch.setattr(probes, "FIRST_FRAME_S", 0.3)
        with StreamServer([HOLD]) as server:
            code, said = check(server.url)
            assert code == 69 and "is its builder building?" in said
        code, said = check("ws://127.0.0.1:1")
        assert code == 69 and "Connection refused; start it, or correct --upstream-ws" in said
        assert said.count("\n") == 1

    @pytest.mark.usefixtures("engine")
    def test_nodes_of_an_overlay(self, ports: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
        def check(node: str) -> tuple[int, str]:
            with StreamServer([*text_frames(block(1)), HOLD]) as server:
                urls = ("--upstream-rpc", node, "--flashblocks-url", server.url)
                code = main(["rpc", *urls, "--http.port", "0", "--check"])
            return code, capsys.readouterr().err

        assert check(f"http://127.0.0.1:{ports['http']}") == (0, "")
        with NodeServer(eth_chainId=lambda _: "0xa") as node:
            code, said = check(node.url)
            assert code == 76 and "must name a node that answers batches" in said
        with Batching(eth_chainId=lambda _: "0xa", eth_blockNumber=lambda _: "0x1",
                      eth_getBlockByNumber=lambda _: {"hash": "0x" + "11" * 32}) as node:  # fmt: skip
            code, said = check(node.url)
            assert code == 76 and "EIP-1898" in said


class Batching(NodeServer):
    """One that takes batches."""

    batches = True


def test_addresses_of_peers_are_shown_without_their_secrets(capsys: pytest.CaptureFixture[Any]) -> None:
    urls = (
        "--upstream-rpc",
        "http://u:hunter2@127.0.0.1:1",
        "--flashblocks-url",
        "ws://u:hunter2@127.0.0.1:1",
    )
    assert main(["rpc", *urls, "--http.port", "0", "--check"]) == 69
    said = capsys.readouterr().err
    assert said.count("\n") == 2 and "hunter2" not in said
