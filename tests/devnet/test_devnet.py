"""The devnet as its users run it: one command, real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.chains import transfer
from support.devnet import Devnet, devnet, rpc
from support.waiting import wait_until

from flashctl.devnet.commands import Layout, role_commands
from flashctl.devnet.config import ChainSettings, DevnetConfig, Ports

ROLES = {"builder", "fallback", "boost", "proxy", "rpc"}


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_gone(pids: list[int]) -> list[int]:
    """The processes that still run after the drain that every role is granted."""
    wait_until(lambda: not any(map(alive, pids)))
    return []


def test_ready_line_tells_a_script_everything() -> None:
    with devnet() as running:
        assert set(running.ready["processes"]) == ROLES
        assert len(running.ready["accounts"]) == 10
        for name in ("rpc", "builder", "fallback"):
            assert int(rpc(running.url(name), "eth_chainId"), 16) == running.ready["chain_id"]
        address, _ = running.account(0)
        assert int(rpc(running.url("rpc"), "eth_getBalance", address, "latest"), 16) == 10_000 * 10**18
        sealed = next(running.events())
        assert sealed["event"] == "sealed" and sealed["block"] == 1
        assert sealed["flashblocks"] > 1


def test_a_transaction_that_is_sent_to_the_fallback_is_built_in() -> None:
    with devnet("--block-time", "1") as running:
        sent = transfer(5)
        tx_hash = rpc(running.url("fallback"), "eth_sendRawTransaction", "0x" + sent.raw.hex())
        for event in running.events():
            receipt = rpc(running.url("fallback"), "eth_getTransactionReceipt", tx_hash)
            if receipt is not None or event["block"] > 60:
                break
        assert receipt["status"] == "0x1"
        block = rpc(running.url("fallback"), "eth_getBlockByNumber", receipt["blockNumber"], False)
        assert tx_hash in block["transactions"] and event["flashblocks"] > 0


def test_stop_leaves_no_orphan() -> None:
    running = Devnet.start()
    pids = list(running.ready["processes"].values())
    assert all(map(alive, pids))
    assert running.stop() == 0
    assert wait_gone(pids) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal of Linux")
def test_a_reader_that_reads_the_first_line_only_stops_no_block() -> None:
    with devnet("--block-time", "1") as net:
        assert net.process.stdout is not None
        # A description of its own: that it does not block is nothing the devnet sees.
        pipe = os.open(f"/proc/{net.process.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"x")
        os.close(pipe)
        start = int(rpc(net.url("rpc_sealed"), "eth_blockNumber"), 16)
        wait_until(lambda: int(rpc(net.url("rpc_sealed"), "eth_blockNumber"), 16) >= start + 4)
        net.process.terminate()
        assert net.process.wait(60) == 0


def test_killed_parent_leaves_no_orphan() -> None:
    running = Devnet.start()
    pids = list(running.ready["processes"].values())
    running.process.send_signal(signal.SIGKILL)
    running.process.wait(timeout=60)
    assert wait_gone(pids) == []


@pytest.mark.parametrize("role", ["builder", "proxy"])
def test_a_child_that_dies_ends_the_run(role: str) -> None:
    running = Devnet.start()
    pids = list(running.ready["processes"].values())
    os.kill(running.ready["processes"][role], signal.SIGKILL)
    assert running.process.wait(timeout=60) == 1
    assert running.process.stderr is not None
    assert f"{role} was killed by SIGKILL" in running.process.stderr.read()
    assert wait_gone(pids) == []


def test_datadir_keeps_the_chain(tmp_path: Path) -> None:
    with devnet("--datadir", str(tmp_path), "--block-time", "1") as first:
        sealed = [event for event, _ in zip(first.events(), range(2), strict=False)]
    with devnet("--datadir", str(tmp_path), "--block-time", "1") as second:
        kept = rpc(second.url("rpc"), "eth_getBlockByNumber", hex(sealed[1]["block"]), False)
        assert kept["hash"] == sealed[1]["hash"]
        assert next(second.events())["block"] >= sealed[1]["block"] + 1


def test_both_nodes_keep_as_many_states_as_asked(tmp_path: Path) -> None:
    commands = role_commands(DevnetConfig(chain=ChainSettings(keep_states=65)), Layout(tmp_path), Ports())
    for name in ("builder", "fallback"):
        arguments = commands[name]
        assert arguments[arguments.index("--keep-states") + 1] == "65"


def test_a_kept_chain_does_not_change_its_genesis(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "genesis.json").write_text("{}")
    other = tmp_path / "other.json"
    other.write_text('{"config": {}}')
    done = subprocess.run(
        [sys.executable, "-m", "flashctl", "devnet", "--datadir", str(tmp_path), "--genesis", str(other)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "holds a chain of another genesis" in done.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--flashblock-time", "5000"], "--flashblock-time 5000 is outside 20..2000 ms"),
        (["--block-time", "0"], "--block-time 0 is outside 1..60 seconds"),
        (["--rpc-port", "7001", "--proxy-port", "7001"], "are both 7001"),
        (["--keep-states", "63"], "--keep-states 63 is below 64"),
        (["--genesis", "absent.json"], "absent.json"),
    ],
)
def test_bad_flags_get_one_line(flags: list[str], complaint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flashctl", "devnet", *flags], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (2, 74)
    first = done.stderr.splitlines()[0]
    assert first.startswith("flashctl: error: ") and complaint in first
    assert "Traceback" not in done.stderr
