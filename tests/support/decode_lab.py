"""Transactions of every type, made and signed on the spot, and a way to run the command in this process."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flashctl.eth.rlp import Item, decode_list, encode
from flashctl.eth.signatures import address_of_secret, sign_authorization, sign_transaction
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    encode_transaction,
)
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes, l1_attributes_deposit

__all__ = [
    "FRIEND",
    "SECRET",
    "SENDER",
    "TOKEN",
    "attributes_deposit",
    "blob_with_sidecar",
    "check_golden",
    "every_type",
    "run_command",
    "transfer_call",
]

SECRET = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""The first account of the well-known test mnemonic."""

SENDER = "0x" + address_of_secret(SECRET).hex()
TOKEN = bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913")
FRIEND = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")
CHAIN_ID = 8453


def transfer_call(amount: int = 1_500_000) -> bytes:
    """Calldata of an ERC-20 transfer."""
    return bytes.fromhex("a9059cbb") + FRIEND.rjust(32, b"\0") + amount.to_bytes(32, "big")


def attributes_deposit(layout: OpFork = OpFork.JOVIAN) -> DepositTx:
    """The first transaction of a block, in one of the four layouts."""
    attributes = L1Attributes(
        number=21_000_000,
        timestamp=1_760_000_000,
        base_fee=12_345_678_901,
        block_hash=bytes(range(32)),
        sequence_number=3,
        batcher=bytes.fromhex("5050f69a9786f081509234f1a7f4684b5e5b76c9"),
        overhead=188,
        scalar=684_000,
        base_fee_scalar=2269,
        blob_base_fee_scalar=1_055_762,
        blob_base_fee=7,
        operator_fee_scalar=100,
        operator_fee_constant=1000,
        da_footprint_gas_scalar=400,
    )
    return l1_attributes_deposit(attributes, layout)


def every_type() -> dict[str, bytes]:
    """One raw transaction per type and form that nodes accept."""
    access = (AccessListEntry(TOKEN, (bytes(32), bytes([1]) * 32)),)
    legacy = LegacyTx(7, 2_000_000_000, 21_000, FRIEND, 10**18, b"", 27, 0, 0)
    signed = {
        "legacy": sign_transaction(legacy, SECRET, chain_id=CHAIN_ID),
        "unprotected": sign_transaction(legacy, SECRET),
        "create": sign_transaction(replace(legacy, to=None, data=bytes(20), gas_limit=100_000), SECRET),
        "eip2930": sign_transaction(
            AccessListTx(CHAIN_ID, 8, 10**9, 60_000, TOKEN, 0, transfer_call(), access, 0, 0, 0), SECRET
        ),
        "eip1559": sign_transaction(
            FeeMarketTx(CHAIN_ID, 9, 10**6, 2 * 10**9, 65_000, TOKEN, 0, transfer_call(), (), 0, 0, 0), SECRET
        ),
        "eip7702": sign_transaction(
            SetCodeTx(
                CHAIN_ID, 10, 10**6, 10**9, 100_000, FRIEND, 5, b"\x01\x02", (),
                (sign_authorization(0, TOKEN, 11, SECRET), sign_authorization(CHAIN_ID, FRIEND, 12, SECRET)),
                0, 0, 0,
            ),
            SECRET,
        ),
        "eip4844": sign_transaction(
            BlobTx(
                CHAIN_ID, 12, 1, 10**9, 21_000, FRIEND, 0, b"", (), 10**9, (b"\x01" + bytes(31),), 0, 0, 0
            ),
            SECRET,
        ),
    }  # fmt: skip
    raws = {name: encode_transaction(tx) for name, tx in signed.items()}
    raws["attributes"] = encode_transaction(attributes_deposit())
    deposit = DepositTx(bytes([9]) * 32, FRIEND, TOKEN, 10**17, 10**17, 100_000, False, b"")
    raws["deposit"] = encode_transaction(deposit)
    return raws


def blob_with_sidecar(form: str = "eip4844", blobs: int = 2) -> tuple[bytes, bytes]:
    """A blob transaction in its network form, and in its canonical form."""
    from hashlib import sha256

    commitments: list[Item] = [bytes([0xC0 + number]) * 48 for number in range(blobs)]
    hashes = tuple(b"\x01" + sha256(bytes(c)).digest()[1:] for c in commitments if isinstance(c, bytes))
    tx = BlobTx(CHAIN_ID, 1, 1, 10**9, 21_000, FRIEND, 0, b"", (), 10**9, hashes, 0, 0, 0)
    canonical = encode_transaction(sign_transaction(tx, SECRET))
    payload: Item = decode_list(canonical, 1)
    contents: list[Item] = [bytes([number]) * 131_072 for number in range(blobs)]
    proofs: list[Item] = [bytes(48)] * (blobs * (1 if form == "eip4844" else 128))
    version: list[Item] = [] if form == "eip4844" else [b"\x01"]
    return b"\x03" + encode([payload, *version, contents, commitments, proofs]), canonical


class _Pipe(io.TextIOWrapper):
    """A standard stream that is no terminal."""


def run_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, stdin: bytes = b""
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line, run in this process: start-up is tested elsewhere."""
    from flashctl.cli.app import main

    output, errors = io.BytesIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    monkeypatch.setattr(sys, "stdout", _Pipe(output, write_through=True))
    monkeypatch.setattr(sys, "stderr", errors)
    code = main(arguments)
    return code, output.getvalue().decode(), errors.getvalue()


def check_golden(path: Path, text: str) -> None:
    """Compare with a committed output; FLASHCTL_UPDATE_GOLDEN=1 writes it instead, for a reviewed diff."""
    if os.environ.get("FLASHCTL_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"differs from {path.name}; FLASHCTL_UPDATE_GOLDEN=1 rewrites it"
