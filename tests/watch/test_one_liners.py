"""The one-liners of the README, as a shell runs them, and how a tail ends in a pipe."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from support.decode_lab import SENDER
from support.waiting import wait_until
from support.watch_lab import (
    HOLD,
    SHELL,
    TX,
    TX_HASH,
    NodeServer,
    StreamServer,
    arrive,
    block,
    story,
    text_frames,
)

from flashctl.eth.blocks import Block, Header, encode_block
from flashctl.watch.recording import line_of_arrival


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**SHELL, **variables}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=90, env=environment
    )


def test_one_liner_gaps_with_a_filter(profile: dict[str, str]) -> None:
    program = 'import sys,json; [print(l,end="") for l in sys.stdin if json.loads(l)["event"]=="gap"]'
    select = f"python3 -c '{program}'"
    result = shell(f"flashctl watch base --json -n 20 | {select}", **profile)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["missing"] == [2, 3]


def test_one_liner_summary_like_pings(profile: dict[str, str]) -> None:
    result = shell("flashctl watch base -n 50 --stats -q", **profile)
    assert result.returncode == 0 and result.stdout.startswith("50 flashblocks of") and result.stderr == ""


def test_one_liner_wait_for_a_preconfirmation(profile: dict[str, str]) -> None:
    result = shell('flashctl watch base --tx "$H" --timeout 10s && echo preconfirmed', H=TX_HASH, **profile)
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "preconfirmed"


def test_one_liners_record_replay_and_decode(profile: dict[str, str]) -> None:
    result = shell(
        "cd $HERE && flashctl watch base --record cap.ndjson.zst --duration 1s -q > /dev/null && "
        "flashctl watch --replay cap.ndjson.zst --json | flashctl decode - --fields from | sort | uniq -c",
        **profile,
    )
    assert result.returncode == 0, result.stderr
    counts = {line.split()[1]: int(line.split()[0]) for line in result.stdout.splitlines()}
    assert counts[SENDER] == 4


def test_one_liner_compare_for_a_while(profile: dict[str, str]) -> None:
    with StreamServer([*text_frames(story()), HOLD]) as other:
        result = shell(f"flashctl watch base --compare {other.url} --duration 1s -o stats", **profile)
    assert result.returncode == 0 and "flashblocks compared" in result.stdout
    assert other.url in result.stdout and "losses:" in result.stdout


def test_one_liner_a_raw_block_from_a_node(profile: dict[str, str]) -> None:
    from support.npm import npm_binary

    cast = npm_binary("cast")
    raw = "0x" + encode_block(Block(_header(), (TX,))).hex()
    with NodeServer(debug_getRawBlock=lambda params: raw) as node:
        result = shell(
            f"{cast} rpc debug_getRawBlock latest --rpc-url {node.url} | flashctl decode --as block --json",
            **profile,
        )
    assert result.returncode == 0, result.stderr
    block_report = json.loads(result.stdout)
    assert block_report["number"] == "0x5" and block_report["transactions"][0]["hash"] == TX_HASH


def _header() -> Header:
    word = bytes(32)
    return Header(
        word, word, bytes(20), word, word, word, bytes(256), 0, 5, 1, 1, 1, b"", word, bytes(8), 7, word,
        0, 0, word, word,
    )  # fmt: skip


def test_one_liner_a_replay_behind_a_proxy(profile: dict[str, str], recording: Path) -> None:
    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flashctl", *arguments], stderr=subprocess.PIPE, text=True, env=SHELL
        )

    replay = start(
        "watch", "--replay", str(recording), "--serve", "127.0.0.1:0", "--speed", "1", "-o", "stats"
    )
    assert replay.stderr is not None
    source = replay.stderr.readline().split()[-1]
    proxy = start("proxy", "--upstream-ws", source, "--listen-addr", "127.0.0.1:0", "--no-metrics")
    try:
        assert proxy.stderr is not None
        port = None
        while port is None and (line := proxy.stderr.readline()):
            port = re.search(r"listening.*:(\d+)", line)
        assert port is not None
        result = shell(
            f"flashctl watch ws://127.0.0.1:{port[1]}/ws --until block:15 --timeout 20s --fields block,index",
            **profile,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == "15\t0"
    finally:
        for process in (proxy, replay):
            process.terminate()
            process.wait(60)


def test_head_ends_it_silently(profile: dict[str, str]) -> None:
    result = shell("flashctl watch base --json | head -3", **profile)
    assert result.returncode == 141 and result.stderr == "" and result.stdout.count("\n") == 3


def test_ctrl_c_is_success_with_a_summary(profile: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "base", "--stats"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**SHELL, **profile},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert b"losses:" in process.stderr.read()


def unread(pipe: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_loses_nothing(tmp_path: Path, unbuffered: str) -> None:
    """A pipe that is full makes the writer wait; it must never make a line, or the end of one, vanish."""
    path = tmp_path / "long.ndjson"
    frames = [
        frame for number in range(1, 61) for frame in block(number, 5, transactions=(bytes(2_000),) * 8)
    ]
    path.write_bytes(b"".join(line_of_arrival(arrive(frame, n)) for n, frame in enumerate(frames)))
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(path), "--raw"],
        stdout=subprocess.PIPE, env={**SHELL, "PYTHONUNBUFFERED": unbuffered},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        wait_until(lambda: unread(pipe) > 60_000)
        received = process.stdout.read().splitlines()
        assert process.wait(60) == 0
    assert received == frames
