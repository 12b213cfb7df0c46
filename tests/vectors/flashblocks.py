"""The blocks of the pack as builders would have streamed them: sequences in every dialect and framing.

Golden: the block hash at the end is that of the block, which an execution from its witness confirms.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import zstandard
from vectors.block_scenario import BlockStep, steps
from vectors.packing import Json, Kind

from flashctl.builder.payload.publisher import receipt_object
from flashctl.core.flashblocks.dialects import BASE, FULL, OP_RBUILDER, SUBBLOCKS
from flashctl.core.flashblocks.frame import compress
from flashctl.core.flashblocks.wire import Base, Diff, Flashblock, Metadata, to_object
from flashctl.eth.blocks import EMPTY_TRIE_ROOT
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import payload_id
from flashctl.op.execution import SealedBlock
from flashctl.op.forks import OpFork

__all__ = ["kind"]

TAGS = {0: "Legacy", 1: "Eip2930", 2: "Eip1559", 4: "Eip7702", 126: "Deposit"}
"""How op-rbuilder's first versions named a receipt's type."""


def flashblocks(step: BlockStep) -> Iterator[Flashblock]:
    """A block in as many parts as it was sealed in."""
    before: SealedBlock | None = None
    built = to_hex(payload_id(step.parent.hash, step.attributes))
    for index, part in enumerate(step.parts):
        header, done = part.header, 0 if before is None else len(before.results)
        base = None
        if index == 0:
            base = Base(
                header.parent_beacon_block_root or bytes(32),
                header.parent_hash,
                header.fee_recipient,
                header.prev_randao,
                header.number,
                header.gas_limit,
                header.timestamp,
                header.extra_data,
                header.base_fee_per_gas or 0,
            )
        fork = step.config.fork_at(header.timestamp)
        diff = Diff(
            part.block.transactions[done:],
            header.gas_used,
            header.receipts_root,
            header.logs_bloom,
            header.state_root,
            header.hash,
            header.withdrawals_root or EMPTY_TRIE_ROOT,
            blob_gas_used=header.blob_gas_used if fork >= OpFork.JOVIAN else None,
        )
        balances = {
            f"0x{address:040x}": hex(account.balance)
            for address, account in sorted(part.diff.accounts.items())
            if account is not None
        }
        receipts = {
            to_hex(envelope.hash): receipt_object(result.receipt)
            for envelope, result in zip(part.envelopes[done:], part.results[done:], strict=True)
        }
        number = header.number
        previous = f"{number}-{index - 1}" if index else f"{number - 1}-{len(step.parts) - 1}"
        metadata = Metadata(number, balances, receipts, previous)
        yield Flashblock(built, index, base, diff, metadata)
        before = part


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def in_notification(message: Json) -> Json:
    """As feeds send it that speak JSON-RPC: camel case, the index as text."""
    result = {
        camel(key): {camel(name): inner for name, inner in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in message.items()
    }
    result["index"] = str(message["index"])
    return {"jsonrpc": "2.0", "method": "subscribe", "params": {"subscription": "1", "result": result}}


def with_tagged_receipts(message: Json) -> Json:
    """Receipts inside the name of their type."""
    receipts = {
        name: {
            TAGS[int(receipt["type"], 16)]: {key: value for key, value in receipt.items() if key != "type"}
        }
        for name, receipt in message["metadata"]["receipts"].items()
    }
    return message | {"metadata": message["metadata"] | {"receipts": receipts}}


def with_static(message: Json) -> Json:
    """`base` under its early name."""
    return {("static" if key == "base" else key): value for key, value in message.items()}


def with_the_unknown(message: Json) -> Json:
    """Fields of the future at every level."""
    return message | {
        "later": [1, {"a": None}],
        "diff": message["diff"] | {"access_list_hash": "0x00"},
        "metadata": message["metadata"] | {"access_list": None, "took_us": 12},
    }


Text = Callable[[Flashblock], Any]
DIALECTS: dict[str, Text] = {
    "op-rbuilder": lambda part: to_object(part, OP_RBUILDER),
    "base": lambda part: to_object(part, BASE),
    "subblocks": lambda part: to_object(part, SUBBLOCKS),
    "full": lambda part: to_object(part, FULL),
    "notification": lambda part: in_notification(to_object(part, OP_RBUILDER)),
    "tagged receipts": lambda part: with_tagged_receipts(to_object(part, OP_RBUILDER)),
    "static": lambda part: with_static(to_object(part, OP_RBUILDER)),
    "unknown fields": lambda part: with_the_unknown(to_object(part, FULL)),
    "without roots": lambda part: to_object(
        replace(part, diff=replace(part.diff, state_root=bytes(32), block_hash=bytes(32))), OP_RBUILDER
    ),
}
FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "text": bytes,
    "brotli": compress,
    "zstd": zstandard.compress,
}


def cases() -> Iterator[Json]:
    for step in steps():
        fork = step.config.fork_at(step.sealed.header.timestamp)
        if fork < OpFork.ECOTONE or not step.name.endswith(("-2", "-3")):
            continue
        every = step.name in ("holocene-3", "jovian-2")
        for dialect, write in DIALECTS.items():
            for framing, pack in FRAMINGS.items():
                usual = (dialect, framing) == ("op-rbuilder", "text")
                if usual or (every and (framing == "text" or dialect in ("op-rbuilder", "base"))):
                    texts = [json.dumps(write(part), separators=(",", ":")) for part in flashblocks(step)]
                    frames = texts if framing == "text" else [
                        base64.b64encode(pack(text.encode())).decode() for text in texts
                    ]  # fmt: skip
                    yield {
                        "block": step.name,
                        "fork": fork.label,
                        "dialect": dialect,
                        "framing": framing,
                        "final_block_hash": to_hex(step.sealed.hash),
                        "frames": frames,
                    }


def kind() -> Kind:
    """The file of the pack."""
    about = "blocks of the pack streamed as flashblocks, in every dialect and framing"
    return Kind("flashblocks", about, cases(), {})
