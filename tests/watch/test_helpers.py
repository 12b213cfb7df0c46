"""What works beside the stream: following, confirming, comparing, serving, hooks and `--check`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.decode_lab import every_type
from support.flashblocks import make_flashblock
from support.watch_lab import (
    HOLD,
    TX,
    TX_HASH,
    NodeServer,
    StreamServer,
    block,
    story,
    text_frames,
    watch,
)

from flashctl.core.flashblocks.wire import encode
from flashctl.eth.keccak import keccak256

RAWS = every_type()


def sealed_block(number: int, hashes: list[str]) -> dict[str, Any]:
    return {"number": hex(number), "hash": "0x" + "ab" * 32, "transactions": hashes}


def test_a_transaction_is_followed_to_its_flashblock(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([0.3, *text_frames(story()[:2]), HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--tx", TX_HASH, "--timeout", "20s", "--json")
        (event,) = [json.loads(line) for line in output.splitlines()]
        assert code == 0 and event["event"] == "tx" and event["stage"] == "preconfirmed"
        assert (event["block"], event["index"], event["position"]) == (10, 1, 1) and event["ms"] >= 0
        absent = "0x" + "11" * 32
        assert watch(monkeypatch, server.url, "--tx", absent, "--timeout", "400ms")[0] == 124


@pytest.mark.parametrize(
    ("hashes", "code", "words"),
    [
        (["0x" + "00" * 32, TX_HASH], 0, "sealed in #10 position 1 after"),
        ([TX_HASH], 0, "position 0, moved from 1"),
        (["0x" + "00" * 32], 1, "dropped: block #10 was sealed without it"),
    ],
)
def test_and_to_the_sealed_block(
    monkeypatch: pytest.MonkeyPatch, hashes: list[str], code: int, words: str
) -> None:
    answers = {
        "eth_getBlockByNumber": lambda params: sealed_block(10, hashes) if params[0] == "0xa" else None,
        "eth_getTransactionReceipt": lambda params: None,
    }
    with StreamServer([0.3, *text_frames(story()[:2]), HOLD]) as server, NodeServer(**answers) as node:
        result, output, _ = watch(
            monkeypatch, server.url, "--tx", TX_HASH, "--rpc", node.url, "--timeout", "20s", "-o", "line"
        )
    assert result == code and "preconfirmed in #10 flashblock 1 position 1" in output and words in output


def test_a_transaction_that_is_sealed_already(monkeypatch: pytest.MonkeyPatch) -> None:
    block_of = sealed_block(7, [TX_HASH])
    answers = {
        "eth_getBlockByNumber": lambda params: block_of if params[0] == "0x7" else None,
        "eth_getTransactionReceipt": lambda params: {"blockNumber": "0x7", "blockHash": block_of["hash"]},
    }
    with StreamServer([HOLD]) as server, NodeServer(**answers) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--tx", TX_HASH, "--rpc", node.url, "--timeout", "20s", "-o", "line"
        )
    assert code == 0 and "sealed in #7 position 0" in output and "preconfirmed" not in output


def test_a_provisional_receipt_is_not_taken_for_a_sealed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "eth_getBlockByNumber": lambda params: sealed_block(7, [TX_HASH]),
        "eth_getTransactionReceipt": lambda params: {"blockNumber": "0x7", "blockHash": "0x" + "00" * 32},
    }
    with StreamServer([HOLD]) as server, NodeServer(**answers) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--tx", TX_HASH, "--rpc", node.url, "--timeout", "1s", "-o", "line"
        )
    assert code == 124 and output == ""


def test_send_and_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "eth_sendRawTransaction": lambda params: TX_HASH,
        "eth_getBlockByNumber": lambda params: None,
        "eth_getTransactionReceipt": lambda params: None,
    }
    with StreamServer([0.5, *text_frames(story()[:2]), HOLD]) as server, NodeServer(**answers) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--send", "0x" + TX.hex(), "--rpc", node.url, "--stage", "preconfirmed",
            "--timeout", "20s", "-o", "line",
        )  # fmt: skip
    assert code == 0 and "sent" in output and "preconfirmed" in output
    assert ("eth_sendRawTransaction", ["0x" + TX.hex()]) in node.calls


def test_a_transaction_that_the_node_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(params: list[Any]) -> Any:
        raise ValueError("nonce too low")

    with StreamServer([HOLD]) as server, NodeServer(
        eth_sendRawTransaction=refuse, eth_getTransactionReceipt=lambda params: None
    ) as node:  # fmt: skip
        code, _, errors = watch(
            monkeypatch, server.url, "--send", "0x" + TX.hex(), "--rpc", node.url, "--timeout", "20s",
            "--source", "raw",
        )  # fmt: skip
    assert code == 1 and "nonce too low" in errors


def test_confirm_compares_with_sealed_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(params: list[Any]) -> Any:
        number = int(params[0], 16)
        hashes = ["0x" + keccak256(RAWS["attributes"]).hex(), TX_HASH]
        return sealed_block(number, hashes[:1] if number == 2 else hashes)

    frames = []
    for number in (1, 2, 3):
        frames += [
            encode(make_flashblock(number, 0, number, transactions=(RAWS["attributes"],), gas_used=1)),
            encode(make_flashblock(number, 1, number, transactions=(TX,), gas_used=2)),
        ]
    with StreamServer([*text_frames(frames), HOLD]) as server, NodeServer(eth_getBlockByNumber=chain) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--confirm", node.url, "--json", "--duration", "1500ms"
        )
    events = {event["event"]: event for event in map(json.loads, output.splitlines())}
    assert code == 0
    assert events["sealed"]["block"] in (1, 3) and events["sealed"]["held"] is True
    assert events["dropped"]["block"] == 2 and events["dropped"]["dropped"] == [TX_HASH]
    assert events["confirm"]["payloads_judged"] == 3
    assert events["confirm"]["reorg_rate"] == pytest.approx(1 / 3, abs=1e-5)


def test_compare_two_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text_frames([*block(1, 5), *block(2, 5)])
    lossy = [frame for number, frame in enumerate(whole) if number != 2]
    spaced = lambda frames: [step for frame in frames for step in (frame, 0.15)]  # noqa: E731
    with (
        StreamServer([0.4, *spaced(whole), HOLD]) as first,
        StreamServer([0.4, *spaced(lossy), HOLD]) as second,
    ):
        code, output, _ = watch(
            monkeypatch, first.url, "--compare", second.url, "--duration", "2500ms", "--json"
        )
    report = next(e for e in map(json.loads, output.splitlines()) if e["event"] == "compare")
    assert code == 0 and report["compared"] >= 9 and report["differing"] == 0
    assert [source["missing"] for source in report["sources"]] == [0, 1]


def test_hooks_run_without_a_shell_and_never_hold_the_stream(
    monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
) -> None:
    script = tmp_path / "hook.sh"
    script.write_text(
        f'#!/bin/sh\necho "$FB_EVENT $FB_BLOCK $FB_INDEX" >> {tmp_path}/log\ncat >> {tmp_path}/json\n'
    )
    script.chmod(0o755)
    code, _, _ = watch(monkeypatch, "--replay", str(recording), "--exec", str(script), "--on", "gap", "-q")
    assert code == 0
    assert (tmp_path / "log").read_text() == "gap 10 2\n"
    assert json.loads((tmp_path / "json").read_text())["missing"] == [2, 3]


def test_a_slow_hook_has_a_bounded_queue_and_what_is_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command holds the first event until all have come; no more than the queue run after it."""
    monkeypatch.setattr("flashctl.watch.event_hooks.MAX_QUEUED", 3)
    script = tmp_path / "hook.sh"
    script.write_text(
        f'#!/bin/sh\n[ "$FB_INDEX" = 0 ] && sleep 0.5\necho "$FB_INDEX" >> {tmp_path}/log\ncat > /dev/null\n'
    )
    script.chmod(0o755)
    path = tmp_path / "cap.ndjson"
    path.write_bytes(b"\n".join(block(1, 10)) + b"\n")
    code, _, errors = watch(monkeypatch, "--replay", str(path), "--exec", str(script))
    ran = (tmp_path / "log").read_text().split()
    assert code == 0 and ran[0] == "0" and ran == sorted(ran) and 2 <= len(ran) <= 4
    assert "some are dropped" in errors and f"{len(ran)} runs, {10 - len(ran)} dropped, 0 failed" in errors


def test_a_replay_served_again_is_the_same_stream(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(recording), "--serve", "127.0.0.1:0",
         "--speed", "max", "--raw"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        url = process.stderr.readline().decode().split()[-1]
        code, output, _ = watch(monkeypatch, url, "--raw", "--no-reconnect", "--timeout", "20s")
        assert process.wait(60) == 0
    frames = [frame for number, frame in enumerate(story()) if number not in (2, 4)]
    assert output.encode().splitlines() == frames and code in (0, 124)


def test_check_finds_what_is_wrong_and_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.watch.endpoint_check._LISTEN_S", 0.5)
    monkeypatch.setattr("flashctl.watch.sources.PROBE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("flashctl.watch.endpoint_check._FIRST_FRAME_S", 1.0)
    frames = [
        step for number in range(1, 9) for frame in text_frames(block(number, 3)) for step in (frame, 0.05)
    ]
    with StreamServer([*frames, HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check", "--json")
        steps = {step["step"]: step for step in map(json.loads, output.splitlines())}
        assert code == 0 and {
            name: steps[name]["status"] for name in ("tcp", "upgrade", "frame", "order")
        } == dict.fromkeys(("tcp", "upgrade", "frame", "order"), "ok")
        assert steps["clock"]["status"] == "warn" and "clock" in steps["clock"]["fix"]
    code, output, _ = watch(monkeypatch, "ws://127.0.0.1:1", "--check")
    assert code == 1 and "fix:" in output
    with StreamServer([HOLD], refuse=(405, "POST only")) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check")
        assert code == 1 and "405" in output
    with StreamServer([HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check")
        assert code == 1 and "is the builder running?" in output
    with NodeServer(eth_getBlockByNumber=lambda params: sealed_block(5, [])) as node:
        code, output, _ = watch(monkeypatch, "ws://127.0.0.1:1", "--check", "--rpc", node.url)
        assert "rpc" in output and "block 5" in output


def test_plot_needs_matplotlib_or_draws(
    monkeypatch: pytest.MonkeyPatch, sepolia: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.svg"
    code, _, errors = watch(monkeypatch, "--replay", str(sepolia), "--plot", str(path), "-o", "line")
    if code == 2:
        assert "pip install 'flashctl[plot]'" in errors
    else:
        assert path.read_bytes().startswith(b"<?xml") and code == 0
