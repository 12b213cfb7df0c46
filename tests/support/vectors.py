"""The pack of vectors (tests/vectors/pack): what it holds, and how a test asks for it.

It is committed, so its tests never skip. `tests/vectors/make.py` makes it again from its oracles.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flashctl.eth.keccak import keccak256
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World

__all__ = [
    "PACK",
    "Json",
    "PeerMetric",
    "block_cases",
    "codec_cases",
    "frames_of",
    "load",
    "made_sequences",
    "manifest",
    "packed_digest",
    "peer_metrics",
    "root_of",
    "state_cases",
    "transaction_cases",
    "unhex",
]

PACK = Path(__file__).resolve().parents[1] / "vectors" / "pack"

Json = dict[str, Any]


def unhex(text: str) -> bytes:
    """Bytes of hex with or without 0x."""
    return bytes.fromhex(text.removeprefix("0x"))


def manifest() -> dict[str, Json]:
    """What every file of the pack is, by kind: cases, bytes, digests and the oracles' versions."""
    found: dict[str, Json] = json.loads((PACK / "manifest.json").read_text())
    return found


def packed_digest(kind: str) -> str:
    """The digest of a file as it is committed."""
    return hashlib.sha256((PACK / f"{kind}.jsonl.xz").read_bytes()).hexdigest()


@cache
def load(kind: str) -> tuple[Json, ...]:
    """The cases of a kind, in the order of the file."""
    with lzma.open(PACK / f"{kind}.jsonl.xz") as lines:
        return tuple(json.loads(line) for line in lines)


def state_cases(fork: str, family: str) -> list[Json]:
    """State tests of one family on one of EELS' forks: what `support.spec_runs` runs, with `outcomes` and
    `root` as EELS has them."""
    return [case for case in load("state") if (case["fork"], case["family"]) == (fork, family)]


def transaction_cases(kind: str) -> list[Json]:
    """Transactions that others wrote: "signed" ones with fields and key, "deposit"s; and "source" hashes."""
    return [case for case in load("transactions") if case["kind"] == kind]


def codec_cases(kind: str) -> list[Json]:
    """What EELS encodes, decodes and hashes: "rlp", "bytes", "receipt" or "trie"."""
    return [case for case in load("codec") if case["kind"] == kind]


@dataclass(frozen=True, slots=True)
class PeerMetric:
    """A metric of a tool that a role of flashctl stands in for."""

    name: str
    """As Prometheus shows it, without the `_total` of OpenMetrics."""
    kind: str
    role: str
    labels: tuple[str, ...]
    here: bool
    """Whether the role has it."""


def peer_metrics() -> list[PeerMetric]:
    """The table of tests/vectors/peer_metrics.toml."""
    tools = tomllib.loads((PACK.parent / "peer_metrics.toml").read_text())
    return [
        PeerMetric(
            tool["prefix"] + name, kind, tool["role"], tuple(entry.get("labels", ())), entry.get("here", True)
        )
        for tool in tools.values()
        for kind in ("counter", "gauge", "histogram")
        for name, entry in tool.get(kind, {}).items()
    ]


def root_of(accounts: dict[str, Json]) -> str:
    """The state root of accounts as `support.spec_runs` dumps them."""
    diff = StateDiff()
    for name, entry in accounts.items():
        code = unhex(entry["code"])
        diff.codes[keccak256(code)] = code
        diff.accounts[int(name, 16)] = Account(entry["nonce"], entry["balance"], keccak256(code))
        slots = {int(slot, 16): int(value, 16) for slot, value in entry["storage"].items()}
        if slots:
            diff.storage[int(name, 16)] = slots
    return World.empty().apply(diff).root.hex()


def block_cases() -> dict[str, Json]:
    """Blocks with their witness by name, `<fork>-<number>` or `<fork>-activation`; `support.op_blocks` reads
    them."""
    return {case["name"]: case for case in load("blocks")}


def frames_of(sequence: Json) -> list[bytes]:
    """The frames of a case of `flashblocks`, as a socket delivers them."""
    if sequence["framing"] == "text":
        return [frame.encode() for frame in sequence["frames"]]
    return [base64.b64decode(frame) for frame in sequence["frames"]]


def made_sequences() -> list[Json]:
    """The blocks of the pack as op-rbuilder streams them, in the form of `derived_blocks`."""
    return [
        {
            "_op_block": f"{case['block']}.json.gz",
            "fork": case["fork"],
            "final_block_hash": case["final_block_hash"],
            "flashblocks": [json.loads(frame) for frame in case["frames"]],
        }
        for case in load("flashblocks")
        if (case["dialect"], case["framing"]) == ("op-rbuilder", "text")
    ]
