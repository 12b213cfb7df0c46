"""Flashblock messages for tests: the recordings, and small ones made on the spot."""

from __future__ import annotations

import gzip
import json
from typing import Any

from support.reference import optional_reference_path, reference_path
from support.vectors import made_sequences

from flashctl.core.flashblocks.wire import Base, Diff, Flashblock, Metadata

__all__ = [
    "base_sepolia_block",
    "derived_blocks",
    "make_flashblock",
    "rollup_boost_message",
    "streamed_block",
]


def base_sepolia_block() -> list[dict[str, Any]]:
    """Base Sepolia block 33439826 as 11 messages, recorded; state roots are zero."""
    messages: list[dict[str, Any]] = json.loads(
        reference_path("flashblocks/seq_block_33439826.json").read_bytes()
    )
    return messages


def streamed_block() -> list[dict[str, Any]]:
    """A block as a builder streamed it, for tests that any will do for: the recording, or one of the pack."""
    if optional_reference_path("flashblocks/seq_block_33439826.json") is not None:
        return base_sepolia_block()
    messages: list[dict[str, Any]] = made_sequences()[-2]["flashblocks"]
    return messages


def rollup_boost_message() -> dict[str, Any]:
    """Index 0 of block 78, as rollup-boost logged it."""
    name = "flashblocks/recorded_rollup_boost_block78_index0.json"
    message: dict[str, Any] = json.loads(reference_path(name).read_bytes())
    return message


def derived_blocks() -> list[dict[str, Any]]:
    """Blocks cut into flashblocks with the roots after each: real ones from the reference data, where it is,
    then those of the pack."""
    folder = optional_reference_path("flashblocks/derived/dev")
    paths = [] if folder is None else sorted(folder.glob("*.json.gz"))
    return [*(json.loads(gzip.decompress(path.read_bytes())) for path in paths), *made_sequences()]


def make_flashblock(
    block: int = 1,
    index: int = 0,
    payload: int | str = 1,
    *,
    transactions: tuple[bytes, ...] = (),
    gas_used: int = 0,
    base: bool | None = None,
    prev: str | None = None,
) -> Flashblock:
    """A small well-formed flashblock; `payload` numbers its payload id."""
    has_base = index == 0 if base is None else base
    return Flashblock(
        payload_id=payload if isinstance(payload, str) else f"0x{payload:016x}",
        index=index,
        base=_base(block) if has_base else None,
        diff=Diff(transactions=transactions, gas_used=gas_used),
        metadata=Metadata(block_number=block, prev_flashblock_id=prev),
    )


def _base(block: int) -> Base:
    return Base(
        parent_beacon_block_root=bytes(32),
        parent_hash=bytes(32),
        fee_recipient=bytes(20),
        prev_randao=bytes(32),
        block_number=block,
        gas_limit=30_000_000,
        timestamp=1_700_000_000 + 2 * block,
        extra_data=bytes(9),
        base_fee_per_gas=7,
    )
