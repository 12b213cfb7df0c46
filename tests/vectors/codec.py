"""RLP, receipts and tries by EELS: what is encoded, what is refused, and roots of maps that change."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.eels import oracle_python
from vectors.oracles import eels_version
from vectors.packing import Json, Kind

__all__ = ["answered", "kind", "questions"]

SCRIPT = Path(__file__).with_name("eels_codec.py")
SEED = 2718
LENGTHS = (0, 1, 2, 31, 32, 54, 55, 56, 57, 255, 256, 1000)


def items(rng: random.Random) -> Iterator[Any]:
    """Strings of every length class, then nested lists."""
    yield from (f"{byte:02x}" for byte in (0, 1, 0x7F, 0x80, 0xFF))
    yield from ((b"\x7f" * length).hex() for length in (*LENGTHS, 65_535, 65_536))
    yield from ([] if not count else ["01"] * count for count in (*LENGTHS, 65_536))

    def nested(depth: int) -> Any:
        if depth and rng.random() < 0.6:
            return [nested(depth - 1) for _ in range(rng.randrange(5))]
        return rng.randbytes(rng.choice(LENGTHS[:8])).hex()

    yield from ([nested(4) for _ in range(3)] for _ in range(60))


def wrong_bytes(rng: random.Random) -> Iterator[str]:
    """What is no canonical RLP, written out, and damaged items."""
    yield from (
        "", "8100", "817f", "b800", "b837" + "00" * 55, "b80100", "b90038" + "00" * 56, "f800",
        "f837" + "00" * 55, "c1", "c281", "8180ff", "c0c0", "bf" + "ff" * 8, "ff" + "ff" * 8, "b8", "f9",
        "83aabb", "c3010203ff", "81", "b900", "ba000100" + "00" * 256, "c28180", "c2817f",
    )  # fmt: skip
    for _ in range(80):
        data = bytearray(b"\xc8\x83cat\x83dog" + b"\x84moon"[: rng.randrange(6)])
        data[0] = rng.randrange(256) if rng.random() < 0.3 else data[0]
        for _ in range(rng.randrange(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data).hex()


def receipt(rng: random.Random) -> Json:
    logs = [
        [
            rng.randbytes(20).hex(),
            [rng.randbytes(32).hex() for _ in range(rng.randrange(5))],
            rng.randbytes(rng.choice((0, 1, 32, 64, 200))).hex(),
        ]
        for _ in range(rng.choice((0, 0, 1, 2, 5)))
    ]
    gas = rng.choice((21_000, 127, 128, 2**24, 2**40))
    return {
        "kind": "receipt",
        "type": rng.randrange(5),
        "succeeded": rng.random() < 0.7,
        "gas": gas,
        "logs": logs,
    }


def maps(rng: random.Random) -> Iterator[Json]:
    """Maps whose keys share prefixes; a key written twice changes, one written empty goes."""
    for number in range(60):
        stems = [rng.randbytes(rng.choice((1, 2, 31))) for _ in range(3)]
        entries: list[list[str]] = []
        for _ in range(rng.choice((0, 1, 2, 5, 20, 60))):
            key = rng.choice(stems) + rng.randbytes(1) if rng.random() < 0.6 else rng.randbytes(32)
            if entries and rng.random() < 0.2:
                key = bytes.fromhex(rng.choice(entries)[0])
            value = b"" if rng.random() < 0.15 else rng.randbytes(rng.choice((1, 2, 31, 32, 33, 60, 200)))
            entries.append([key.hex(), value.hex()])
        yield {"kind": "trie", "secured": number % 2 == 1, "entries": entries}


def questions() -> Iterator[Json]:
    """What is encoded, decoded and hashed."""
    rng = random.Random(SEED)
    yield from ({"kind": "rlp", "item": item} for item in items(rng))
    yield from ({"kind": "bytes", "data": data} for data in wrong_bytes(rng))
    yield from (receipt(rng) for _ in range(120))
    yield from maps(rng)


def answered(asked: list[Json]) -> list[Json]:
    """The same with EELS' answers."""
    done = subprocess.run(
        [oracle_python(), str(SCRIPT)],
        input="\n".join(map(json.dumps, asked)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    answers = map(json.loads, done.stdout.splitlines())
    return [question | answer for question, answer in zip(asked, answers, strict=True)]


def kind() -> Kind:
    """The file of the pack."""
    about = "RLP items and refused bytes, receipts with their bloom, roots of tries"
    return Kind("codec", about, answered(list(questions())), eels_version())
