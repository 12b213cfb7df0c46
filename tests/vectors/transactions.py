"""Transactions of every type, signed by ethers and viem alike; deposits written by viem's OP Stack part.

ECDSA nonces are those of RFC 6979 in both, so the same key and fields give the same bytes everywhere.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.npm import node_modules, require_node
from vectors.oracles import npm_version
from vectors.packing import Json, Kind

__all__ = ["answered", "kind", "questions"]

SCRIPT = Path(__file__).with_name("sign_transactions.cjs")
SEED = 1559
CHAINS = (1, 10, 8453, 901, 2**31)
NUMBERS = (0, 1, 127, 128, 255, 256, 2**32, 10**18, 2**64 - 1, 2**128, 2**255, 2**256 - 1)
SIZES = (0, 0, 1, 1, 4, 31, 32, 54, 55, 56, 68, 255, 256, 1000, 66_000)


class Maker:
    """Fields of transactions, drawn from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def key(self) -> str:
        return "0x" + self.rng.randbytes(32).hex()

    def address(self) -> str:
        rng = self.rng
        return "0x" + (bytes(19) + rng.randbytes(1) if rng.random() < 0.1 else rng.randbytes(20)).hex()

    def data(self) -> str:
        rng = self.rng
        size = rng.choice(SIZES)
        kind = rng.random()
        if kind < 0.2 or size > 1000:
            return "0x" + bytes(size).hex()
        return "0x" + (rng.randbytes(size) if kind < 0.7 else b"\x7f" * size).hex()

    def amount(self, most: int = 2**256 - 1) -> str:
        value = self.rng.choice(NUMBERS) if self.rng.random() < 0.5 else self.rng.getrandbits(70)
        return str(min(value, most))

    def access_list(self) -> list[list[object]]:
        slots = lambda: ["0x" + self.rng.randbytes(32).hex() for _ in range(self.rng.choice((0, 1, 3)))]  # noqa: E731
        return [[self.address(), slots()] for _ in range(self.rng.choice((0, 0, 1, 3)))]

    def signed(self, kind: int) -> Json:
        rng = self.rng
        # A creation, which blob and set-code transactions cannot be.
        to = None if kind < 3 and rng.random() < 0.15 else self.address()
        nonce = rng.choice((0, 1, 127, 128, 255, 256, 70_000, 2**40))
        tx: Json = {"type": kind, "nonce": nonce, "data": self.data(), "value": self.amount(2**255)}
        tx["gasLimit"] = str(rng.choice((21_000, 53_000, 100_000, 2**24, 2**63)))
        if to is not None:
            tx["to"] = to
        if kind or rng.random() < 0.7:
            tx["chainId"] = str(rng.choice(CHAINS))
        if kind < 2:
            tx["gasPrice"] = self.amount(2**190)
        else:
            fee = int(self.amount(2**190))
            tx |= {"maxFeePerGas": str(fee), "maxPriorityFeePerGas": str(rng.randrange(fee + 1))}
        if kind:
            tx["accessList"] = self.access_list()
        if kind == 3:
            tx["maxFeePerBlobGas"] = self.amount(2**128)
            tx["blobVersionedHashes"] = ["0x01" + rng.randbytes(31).hex() for _ in range(rng.randrange(1, 7))]
        if kind == 4:
            tx["authorizationList"] = [
                {"key": self.key(), "chainId": str(rng.choice((0, *CHAINS))), "address": self.address(),
                 "nonce": str(rng.choice((0, 1, 128, 2**40)))}
                for _ in range(rng.randrange(1, 4))
            ]  # fmt: skip
        return {"kind": "signed", "key": self.key(), "tx": tx}

    def deposit(self) -> Json:
        rng = self.rng
        tx: Json = {
            "sourceHash": "0x" + rng.randbytes(32).hex(),
            "from": self.address(),
            "mint": self.amount(2**128 - 1),
            "value": self.amount(2**255),
            "gas": str(rng.choice((0, 21_000, 1_000_000, 2**63))),
            "isSystemTx": rng.random() < 0.2,
            "data": self.data(),
        }
        if rng.random() < 0.8:
            tx["to"] = self.address()
        return {"kind": "deposit", "tx": tx}

    def source(self) -> Json:
        domain = self.rng.choice(("userDeposit", "l1InfoDeposit"))
        index = self.rng.choice((0, 1, 255, 256, 2**31))
        return {
            "kind": "source",
            "domain": domain,
            "l1BlockHash": "0x" + self.rng.randbytes(32).hex(),
            "index": index,
        }


def questions() -> Iterator[Json]:
    """What is signed."""
    maker = Maker(random.Random(SEED))
    for kind in range(5):
        for _ in range(80):
            yield maker.signed(kind)
    for _ in range(60):
        yield maker.deposit()
    for _ in range(30):
        yield maker.source()


def answered(asked: list[Json]) -> list[Json]:
    """The same with what the libraries make of it: raw bytes, signing bytes, hash and sender."""
    node = require_node("ethers", "viem")
    done = subprocess.run(
        [node, str(SCRIPT)],
        input="\n".join(map(json.dumps, asked)),
        capture_output=True,
        text=True,
        env={**os.environ, "NODE_PATH": str(node_modules())},
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    answers = map(json.loads, done.stdout.splitlines())
    return [question | answer for question, answer in zip(asked, answers, strict=True)]


def kind() -> Kind:
    """The file of the pack."""
    about = "transactions of every type with their raw bytes, hash and sender; deposits and source hashes"
    return Kind("transactions", about, answered(list(questions())), npm_version("ethers", "viem"))
