"""A running devnet for tests: the real command, real processes, any free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from support.waiting import wait_until

from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

__all__ = ["Devnet", "devnet", "rpc"]


def rpc(url: str, method: str, *params: Any) -> Any:
    """One JSON-RPC call; an error object is raised as it stands."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer = json.load(reply)
    if "error" in answer:
        raise AssertionError(f"{method}: {answer['error']}")
    return answer["result"]


@dataclass
class Devnet:
    """What the ready line of `flashctl devnet --json` says, and the lines that follow."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    _fresh: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def start(cls, *flags: str) -> Self:
        process = subprocess.Popen(
            [sys.executable, "-m", "flashctl", "devnet", "--json", "--any-ports", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"devnet did not start: {process.stderr.read()}")
        ready = json.loads(line)
        assert ready["event"] == "ready"
        return cls(process, ready)

    def url(self, name: str) -> str:
        url: str = self.ready["endpoints"][name]
        return url

    def account(self, index: int) -> tuple[str, str]:
        """Address and private key of a funded account."""
        entry = self.ready["accounts"][index]
        return entry["address"], entry["private_key"]

    def fund_fresh_accounts(self, count: int) -> None:
        """Give `count` new accounts 100 ether each, for `fresh_account`; returns when that is sealed."""
        url, (funder, key) = self.url("rpc"), self.account(9)
        first = int(rpc(url, "eth_getTransactionCount", funder, "pending"), 16)
        for number in range(count):
            secret = keccak256(b"fresh account %d" % number)
            tx = FeeMarketTx(
                self.ready["chain_id"], first + number, 10**9, 10**11, 21_000, address_of_secret(secret),
                100 * 10**18, b"", (), 0, 0, 0,
            )  # fmt: skip
            last = rpc(
                url, "eth_sendRawTransaction",
                to_hex(encode_transaction(sign_transaction(tx, parse_hex(key)))),
            )  # fmt: skip
            self._fresh.append((to_hex(address_of_secret(secret)), to_hex(secret)))
        wait_until(lambda: rpc(self.url("rpc_sealed"), "eth_getTransactionReceipt", last))

    def fresh_account(self) -> tuple[str, str]:
        """Address and private key of a funded account that no other test uses."""
        return self._fresh.pop()

    def events(self) -> Iterator[dict[str, Any]]:
        """The lines after the first, as they come, until the devnet ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@contextmanager
def devnet(*flags: str) -> Iterator[Devnet]:
    """A devnet for the length of a `with` block."""
    running = Devnet.start(*flags)
    try:
        yield running
    finally:
        running.stop()
