"""What README promises of every service, held against each as a process: loopback, pages, signals, exit
codes; and that all of them can run beside each other as they come."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.certificates import self_signed
from support.role_process import RoleProcess, free_port, get, role_process
from support.waiting import wait_until

from flashctl.core.engine.jwt import bearer, create_secret, parse_secret
from flashctl.devnet.config import Ports
from tests.cli.test_inputs import flashctl

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
NOBODY = "127.0.0.1:1"
SERVICES = ("builder", "boost", "proxy", "rpc")


def started(role: str, folder: Path, port: int) -> tuple[str, ...]:
    """A role on a given port for its pages and free ones for the rest; what it follows is not there."""
    secret = folder / "jwt.hex"
    if not secret.exists():
        create_secret(secret)
    flags: Mapping[str, tuple[str, ...]] = {
        "builder": ("--http.port", f"{port}", "--authrpc.port", "0", "--flashblocks.port", "0",
                    "--authrpc.jwtsecret", str(secret), "--workers", "0"),
        "boost": ("--rpc-port", f"{port}", "--debug-server-port", "0", "--flashblocks-port", "0",
                  "--l2-jwt-path", str(secret), "--builder-url", NOBODY, "--l2-url", NOBODY,
                  "--flashblocks-builder-url", f"ws://{NOBODY}"),
        "proxy": ("--upstream-ws", f"ws://{NOBODY}", "--metrics-addr", f"127.0.0.1:{port}",
                  "--listen-addr", "127.0.0.1:0"),
        "rpc": ("--flashblocks-url", f"ws://{NOBODY}", "--upstream-rpc", f"http://{NOBODY}",
                "--http.port", f"{port}", "--workers", "0"),
    }  # fmt: skip
    return (role, *flags[role])


def listening_addresses(pid: int) -> set[str]:
    """Local addresses, in hex, of the TCP sockets that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor))
        except OSError:
            continue
    rows = [line.split() for name in ("tcp", "tcp6")
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]  # fmt: skip
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


@pytest.mark.parametrize("role", SERVICES)
def test_loopback_pages_and_a_drained_end(role: str, tmp_path: Path) -> None:
    port = free_port()
    with role_process(tmp_path, *started(role, tmp_path, port)) as service:
        service.wait_ready()
        assert listening_addresses(service.process.pid) == {"0100007F"}, "127.0.0.1"
        for page in ("/healthz", "/readyz"):
            assert get(f"http://127.0.0.1:{port}{page}")[0] in (200, 206, 503)
        status, text = get(f"http://127.0.0.1:{port}/metrics")
        assert status == 200 and "flashctl_defects" in text
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            service.process.send_signal(number)
            service.wait_for("reloaded" if number is signal.SIGHUP else f"{number.name}: nothing to do")
        assert service.end() == 0
        assert "SIGTERM: draining" in service.said()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("role", [*SERVICES, "devnet"])
def test_a_signal_while_it_starts(role: str, number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Sent as soon as the process listens to signals at all, which is long before it serves."""
    arguments = ("devnet", "--any-ports") if role == "devnet" else started(role, tmp_path, 0)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with role_process(tmp_path, *arguments, TMPDIR=str(temporary)) as service:
        wait_for_handlers(service)
        assert service.end(number) == code, service.said()
        assert "Traceback" not in service.said()
    assert not list(temporary.glob("flashctl-devnet-*")), "made for the run"


def wait_for_handlers(service: RoleProcess) -> None:
    """Until SIGHUP is caught: the first thing that a service does."""
    status = Path(f"/proc/{service.process.pid}/status")
    while True:
        caught = re.search(r"^SigCgt:\s+([0-9a-f]+)$", status.read_text(), re.M)
        if caught and int(caught[1], 16) >> (signal.SIGHUP - 1) & 1:
            return
        assert service.process.poll() is None, service.said()


OLD, NEW = "11" * 32, "22" * 32


def status_with(port: int, secret: str) -> int:
    """What a port says to a caller who signs with a secret."""
    token = bearer(parse_secret(secret), time.time()).decode()
    headers = {"Content-Type": "application/json", "Authorization": token}
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}'
    request = urllib.request.Request(f"http://127.0.0.1:{port}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return 200 if "result" in json.loads(reply.read()) else 0
    except urllib.error.HTTPError as error:
        return error.code


def reload(service: RoleProcess, times: int) -> None:
    """SIGHUP, and wait until it has worked for the `times`th time."""
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.said().count("core.service.lifecycle: reloaded") == times, service)


def until(condition: Callable[[], bool], service: RoleProcess) -> None:
    wait_until(lambda: condition() or service.process.poll() is not None, explain=service.said)
    assert condition(), service.said()


def test_a_new_jwt_secret_is_in_force_after_sighup(tmp_path: Path) -> None:
    """Whoever checks tokens takes the new one alone; boost, which signs too, calls its engines with it."""
    engine, front = tmp_path / "engine.hex", tmp_path / "front.hex"
    port, door = free_port(), free_port()
    engine.write_text(OLD)
    front.write_text(OLD)
    builder_flags = ("builder", "--http.port", "0", "--flashblocks.port", "0", "--workers", "0",
                     "--authrpc.port", f"{port}", "--authrpc.jwtsecret", str(engine))  # fmt: skip
    boost_flags = ("boost", "--rpc-port", f"{door}", "--debug-server-port", "0", "--no-flashblocks",
                   "--l2-jwt-path", str(engine), "--rpc-jwt-path", str(front),
                   "--l2-url", f"http://127.0.0.1:{port}", "--builder-url", NOBODY)  # fmt: skip
    with role_process(tmp_path, *builder_flags) as builder, role_process(tmp_path, *boost_flags) as boost:
        builder.wait_ready()
        boost.wait_ready()
        assert status_with(port, OLD) == status_with(door, OLD) == 200
        engine.write_text(NEW)
        assert status_with(port, OLD) == 200, "not before it is told"
        reload(builder, 1)
        assert (status_with(port, NEW), status_with(port, OLD)) == (200, 401)
        assert status_with(door, OLD) != 200, "boost still signs with the old one"
        front.write_text(NEW)
        reload(boost, 1)
        assert (status_with(door, NEW), status_with(door, OLD)) == (200, 401)
        engine.write_text("no secret")
        reload(builder, 2)
        assert "what was in force stays" in builder.said()
        assert status_with(port, NEW) == 200
        assert (builder.end(), boost.end()) == (0, 0)


def test_a_new_certificate_is_shown_after_sighup(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    address = ("127.0.0.1", free_port())
    arguments = ("proxy", "--upstream-ws", f"ws://{NOBODY}", "--metrics-addr", "127.0.0.1:0",
                 "--listen-addr", f"127.0.0.1:{address[1]}",
                 "--tls-cert", str(certificate), "--tls-key", str(key))  # fmt: skip
    with role_process(tmp_path, *arguments) as proxy:
        proxy.wait_ready()
        first = ssl.get_server_certificate(address)
        assert first == certificate.read_text()
        self_signed(tmp_path)
        reload(proxy, 1)
        second = ssl.get_server_certificate(address)
        assert second == certificate.read_text() != first
        certificate.write_text("none")
        reload(proxy, 2)
        assert "what was in force stays" in proxy.said()
        assert ssl.get_server_certificate(address) == second
        assert proxy.end() == 0


def test_the_log_level_of_a_profile_is_read_again(tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('[proxy]\nlog_level = "info"\n')
    with role_process(tmp_path, *started("proxy", tmp_path, 0), "--profile", str(profile)) as proxy:
        proxy.wait_ready()
        assert " debug " not in proxy.said()
        profile.write_text('[proxy]\nlog_level = "debug"\n')
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for("logging at level debug")
        profile.write_text('[proxy]\nlog_level = "loud"\n')
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for("reload of log level: --log-level 'loud'")
        assert proxy.end() == 0


def saved(*arguments: str) -> dict[str, object]:
    done = flashctl(*arguments, "--save-profile", "-")
    assert done.returncode == 0, done.stderr
    return dict(tomllib.loads(done.stdout)[arguments[0]])


def test_defaults_run_beside_each_other_as_the_devnet_s_do() -> None:
    builder, boost, proxy, rpc = (saved(role) for role in SERVICES)
    ports = Ports()
    assert builder["http_port"] == ports.builder_rpc
    assert builder["authrpc_port"] == ports.builder_engine
    assert builder["flashblocks_port"] == ports.builder_stream
    assert boost["builder_url"] == f"http://127.0.0.1:{ports.builder_engine}"
    assert boost["l2_url"] == f"http://127.0.0.1:{ports.fallback_engine}"
    assert boost["flashblocks_builder_url"] == f"ws://127.0.0.1:{ports.builder_stream}"
    own = (boost["rpc_port"], boost["flashblocks_port"], boost["debug_server_port"])
    assert own == (ports.boost_engine, ports.boost_stream, ports.boost_debug)
    assert proxy["listen_addr"] == f"127.0.0.1:{ports.proxy}"
    assert rpc["http_port"] == ports.rpc and "sealed_port" not in rpc
    numbers = [builder["http_port"], builder["authrpc_port"], builder["flashblocks_port"], *own,
               ports.proxy, 9000, rpc["http_port"], ports.rpc_sealed, ports.fallback_rpc,
               ports.fallback_engine]  # fmt: skip
    assert len(set(numbers)) == len(numbers)
    table = README.partition("## Ports")[2].partition("\n## ")[0]
    assert all(f"{number}" in table for number in numbers), "README's table of ports"


@pytest.mark.parametrize(
    ("name", "role", "expected"),
    [
        ("websocket-proxy", "proxy", {"listen_addr": "0.0.0.0:8545", "metrics_addr": "0.0.0.0:9000"}),
        ("rollup-boost", "boost", {"flashblocks": False, "l2_url": "http://127.0.0.1:8551"}),
    ],
)
def test_under_the_name_of_a_peer_its_defaults(
    name: str, role: str, expected: dict[str, object], tmp_path: Path
) -> None:
    link = tmp_path / name
    link.symlink_to(Path(sys.executable).parent / "flashctl")
    done = subprocess.run([link, "--save-profile", "-"], capture_output=True, text=True, timeout=30)
    settings = tomllib.loads(done.stdout)[role]
    assert {key: settings[key] for key in expected} == expected
    mine = tmp_path / "mine.toml"
    mine.write_text('[proxy]\nlisten_addr = "127.0.0.1:1"\n[boost]\nl2_url = "http://127.0.0.1:2"\n')
    done = subprocess.run(
        [link, "-P", str(mine), "--save-profile", "-"], capture_output=True, text=True, timeout=30
    )
    settings = tomllib.loads(done.stdout)[role]
    assert settings.get("listen_addr", "127.0.0.1:1") == "127.0.0.1:1", "a profile goes before them"
    assert settings.get("l2_url", "http://127.0.0.1:2") == "http://127.0.0.1:2"


def test_readme_s_exit_codes_are_the_program_s() -> None:
    from flashctl.errors import ExitCode

    table = README.partition("## Exit codes")[2].partition("\n## ")[0]
    stated = {int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", table, re.M) for code in row.split(",")}
    assert stated == {int(code) for code in ExitCode}
