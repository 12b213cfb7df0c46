"""What state tests are made of: a small world, code in it, and transactions, as `support.eels_worker` takes
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.assembler import assemble

Json = dict[str, Any]
Named = tuple[str, Json]
"""A case and its name."""

CHAIN_ID = 10
SENDER = 0x5E0001
OTHER = 0x5E0002
CODED = 0x5E0003
"""A sender that has code (EIP-3607)."""
CONTRACT = 0xC0DE00
HELPER = 0xC0DE01
REVERTER = 0xC0DE02
FAILER = 0xC0DE03
SUICIDE = 0xC0DE04
DELEGATED = 0xDE1E
ABSENT = 0xAB5E17
COINBASE = 0xC01BA5E

NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    255,
    256,
    2**64 - 1,
    2**128,
    2**160 - 1,
    2**255 - 1,
    2**255,
    2**256 - 2,
    2**256 - 1,
)
HASHES = [f"{number + 1:064x}" for number in range(100)]
HEX = {number: f"PUSH32 {hex(number)}" for number in NUMBERS}


def cancun(fork: str) -> bool:
    return fork != "shanghai"


def prague(fork: str) -> bool:
    return fork in ("prague", "osaka")


def account(
    balance: int = 0, nonce: int = 0, code: bytes = b"", storage: dict[int, int] | None = None
) -> Json:
    slots = {hex(slot): hex(value) for slot, value in (storage or {}).items()}
    return {"nonce": nonce, "balance": balance, "code": code.hex(), "storage": slots}


def address(number: int) -> str:
    return number.to_bytes(20, "big").hex()


HELPERS = {
    # Returns the caller, the value and the first word of the input, and counts its calls in slot 0.
    HELPER: assemble(
        "CALLER PUSH0 MSTORE CALLVALUE PUSH1 32 MSTORE PUSH0 CALLDATALOAD PUSH1 64 MSTORE PUSH1 96 PUSH0 RETURN"
    ),
    REVERTER: assemble("PUSH1 0x42 PUSH0 MSTORE PUSH1 1 PUSH0 SSTORE PUSH1 32 PUSH0 REVERT"),
    FAILER: assemble("PUSH1 1 PUSH0 SSTORE INVALID"),
    SUICIDE: assemble("PUSH0 CALLDATALOAD SELFDESTRUCT"),
}


def case(
    fork: str,
    code: bytes | str,
    *transactions: Json,
    storage: dict[int, int] | None = None,
    balance: int = 0,
    more: dict[int, Json] | None = None,
) -> Json:
    """A world with `code` at CONTRACT, the helpers around it, and transactions (one plain call by default)."""
    text = assemble(code) if isinstance(code, str) else code
    accounts = {
        SENDER: account(10**24, 5),
        OTHER: account(10**18),
        CONTRACT: account(balance, 1, text, storage),
        **{helper: account(1000, 1, body) for helper, body in HELPERS.items()},
        **(more or {}),
    }
    block = {
        "chain_id": CHAIN_ID,
        "number": 100,
        "timestamp": 1_700_000_000,
        "gas_limit": 2**50,
        "base_fee": 7,
        "coinbase": address(COINBASE),
        "prev_randao": (0xABCDEF << 200).to_bytes(32, "big").hex(),
        "hashes": HASHES,
    }
    named = {address(number): entry for number, entry in accounts.items()}
    return {"fork": fork, "block": block, "accounts": named, "transactions": list(transactions) or [call()]}


def call(**changes: Any) -> Json:
    """A transaction; `to=None` creates."""
    item: Json = {
        "type": 2,
        "chain_id": CHAIN_ID,
        "sender": address(SENDER),
        "nonce": 5,
        "to": address(CONTRACT),
        "value": 0,
        "data": "",
        "gas": 1_000_000,
        "price": 10,
        "access_list": [],
        "authorizations": [],
    }
    return item | changes


def keep(expressions: Sequence[str]) -> str:
    """Code that computes each expression into memory and keeps the hash of all in slot 0."""
    parts = [f"{expression} PUSH2 {32 * place} MSTORE" for place, expression in enumerate(expressions)]
    return " ".join(parts) + f" PUSH2 {32 * len(expressions)} PUSH0 KECCAK256 PUSH0 SSTORE STOP"
