"""Whatever `--verify` accepts is edited in one place, and it says so: every byte or field that is not in
`UNCOMMITTED`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.decode_lab import TOKEN, every_type
from support.flashblocks import derived_blocks
from support.sample_block import HEADER, TRANSACTIONS

from flashctl.core.engine.payloads import envelope_to_json
from flashctl.decode.documents import Kind
from flashctl.decode.uncommitted import UNCOMMITTED
from flashctl.eth.blocks import Block, encode_block
from flashctl.eth.bloom import merge
from flashctl.eth.hexdata import to_hex
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Log, Receipt, encode_receipt
from flashctl.eth.rlp import Item, decode_list, encode
from flashctl.ethrpc.rpc_json import block_json, block_receipts_json, transaction_json
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.forks import OpFork
from tests.decode.test_verify import problems, reports, said_of

Step = tuple[str | int, ...]
REPOSITORY = Path(__file__).resolve().parents[2]

HEADER_FIELDS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom",
    "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce",
    "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot",
    "requestsHash",
)  # fmt: skip
"""In the order of the RLP."""


def silent(*kinds: str) -> set[str]:
    """The names of fields whose edit stays without a word."""
    return {name for kind in kinds for entry in UNCOMMITTED[kind] for name in entry.fields}


# -- what is edited --------------------------------------------------------------------------------


def _log(address: int, data: bytes = b"\x01") -> Log:
    return Log(bytes([address]) * 20, (bytes([address + 1]) * 32, b"\x77" * 32), data)


RECEIPTS = (
    Receipt(0x7E, True, 46_000, (), 9, 1),
    Receipt(2, True, 67_000, (_log(1), Log(TOKEN, (), b""))),
    Receipt(0, False, 88_000, (_log(5, b""),)),
)


@cache
def whole_block() -> Block:
    """The sample block with a header that commits to `RECEIPTS`."""
    from dataclasses import replace

    header = replace(
        HEADER,
        gas_used=88_000,
        receipts_root=ordered_root(map(encode_receipt, RECEIPTS)),
        logs_bloom=merge(receipt.bloom for receipt in RECEIPTS),
    )
    return Block(header, TRANSACTIONS)


@cache
def block_object() -> dict[str, Any]:
    return block_json(whole_block().header, recover_all(TRANSACTIONS), full=True)


@cache
def receipt_objects() -> list[dict[str, Any]]:
    return block_receipts_json(OpFork.JOVIAN, whole_block().header, recover_all(TRANSACTIONS), RECEIPTS)


# -- how it is edited ------------------------------------------------------------------------------


def paths(value: Any, prefix: Step = ()) -> Iterator[Step]:
    """Every leaf of a JSON value, and every key and list."""
    if isinstance(value, Mapping):
        for key in value:
            yield from paths(value[key], (*prefix, key))
    elif isinstance(value, list) and value:
        yield prefix
        for position, member in enumerate(value):
            yield from paths(member, (*prefix, position))
    elif value is not None and value != []:
        yield prefix


def edited(value: Any, path: Step, digit: int) -> Any:
    """A copy with another value at the end of a path: a digit, a boolean, or a list without its last."""
    whole = copy.deepcopy(value)
    holder = whole
    for step in path[:-1]:
        holder = holder[step]
    match holder[path[-1]]:
        case bool(old):
            new: Any = not old
        case int(old):
            new = old + 1
        case list(old):
            new = old[:-1]
        case str(old):
            position = 2 + digit % (len(old) - 2) if len(old) > 2 else len(old)
            last = position == len(old) - 1 or len(old) < 20
            position = len(old) - 1 if last else position
            other = "1" if old[position] != "1" else "2"
            new = old[:position] + other + old[position + 1 :]
        case _:
            raise AssertionError(path)
    holder[path[-1]] = new
    return whole


def flipped(raw: bytes, offset: int, bit: int) -> bytes:
    return raw[:offset] + bytes([raw[offset] ^ 1 << bit]) + raw[offset + 1 :]


DIGIT = st.integers(0, 600)


def named(path: Step) -> str:
    return ".".join(step for step in path if isinstance(step, str))


# -- transactions ----------------------------------------------------------------------------------

POSITIONED = silent("transaction (JSON)") - {"gasPrice"}
RAWS = {name: raw for name, raw in every_type().items() if "unsigned" not in name}


@st.composite
def transaction_edits(draw: st.DrawFn) -> tuple[dict[str, Any], Path, int]:
    raw = draw(st.sampled_from([*RAWS.values()]))
    envelope = TxEnvelope.decode(raw)
    shown = transaction_json(envelope)
    excluded = POSITIONED | (silent("deposit (JSON)") if envelope.is_deposit else set())
    excluded |= {"gasPrice"} if "maxFeePerGas" in shown else set()
    path = draw(st.sampled_from([path for path in paths(shown) if path[0] not in excluded]))
    return shown, path, draw(DIGIT)


@given(transaction_edits())
def test_any_edit_of_a_transaction_object(edit: tuple[dict[str, Any], Path, int]) -> None:
    shown, path, digit = edit
    assert said_of(shown) == ""
    assert said_of(edited(shown, path, digit)) != "", path


@given(st.sampled_from(sorted(RAWS)), st.data())
def test_any_edit_of_raw_bytes_is_another_transaction(name: str, data: st.DataObject) -> None:
    """Nothing in them commits to them: see "transaction (bytes)"."""
    raw = RAWS[name]
    other = flipped(raw, data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7)))
    (report,) = reports(to_hex(other))
    (before,) = reports(to_hex(raw))
    assert [*problems(report)] or report.get("hash") != before["hash"]


# -- blocks ----------------------------------------------------------------------------------------


def header_spans(raw: bytes) -> list[tuple[int, int, str]]:
    """Where each field of the header lies in the RLP of a block, the header's own prefix left out."""
    header = decode_list(raw)[0]
    assert isinstance(header, list)
    at = raw.index(encode(header)) + len(encode(header)) - sum(len(encode(member)) for member in header)
    spans = []
    for name, member in zip(HEADER_FIELDS, header, strict=True):
        spans.append((at, at + len(encode(member)), name))
        at += len(encode(member))
    return spans


@given(st.data())
def test_any_edit_of_a_block_in_rlp(data: st.DataObject) -> None:
    raw = encode_block(whole_block())
    offset, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    name = next((name for start, end, name in header_spans(raw) if start <= offset < end), "")
    if name not in silent("header or block (RLP)"):
        assert said_of(to_hex(flipped(raw, offset, bit)), forced=Kind.BLOCK) != "", (name, offset)


@given(
    st.sampled_from([path for path in paths(block_object()) if path[-1] not in silent("block (JSON)")]), DIGIT
)
def test_any_edit_of_a_block_object(path: Step, digit: int) -> None:
    if path[:1] == ("transactions",) and len(path) > 2:
        deposit = path[1] == 0 and path[2] in silent("deposit (JSON)")
        if deposit or (path[2] == "gasPrice" and path[1] == 1):
            return
    assert said_of(edited(block_object(), path, digit)) != "", path


@given(
    st.sampled_from(
        [path for path in paths(block_object()) if path[0] != "transactions" and path[0] != "size"]
    ),
    DIGIT,
)
def test_any_edit_of_a_header_object(path: Step, digit: int) -> None:
    header = {
        name: value
        for name, value in block_object().items()
        if name not in ("transactions", "size", "uncles")
    }
    if path[0] in header:
        assert said_of(header) == ""
        assert said_of(edited(header, path, digit)) != "", path


PAYLOAD_PATHS = [
    path for path in paths(envelope_to_json(whole_block())) if path[0] not in silent("execution payload")
]


@given(st.sampled_from(PAYLOAD_PATHS), DIGIT)
def test_any_edit_of_an_execution_payload(path: Step, digit: int) -> None:
    envelope = json.loads(json.dumps(envelope_to_json(whole_block())))
    assert said_of(envelope) == ""
    assert said_of(edited(envelope, path, digit)) != "", path


# -- receipts --------------------------------------------------------------------------------------


def raw_receipts() -> list[str]:
    return [to_hex(encode_receipt(receipt)) for receipt in RECEIPTS]


def test_a_block_and_its_receipts_agree_in_either_order() -> None:
    block = to_hex(encode_block(whole_block()))
    assert said_of(block, *raw_receipts()) == ""
    for first in (block, block_object(), envelope_to_json(whole_block())):
        assert said_of(first, *receipt_objects()) == ""
        assert said_of({"result": receipt_objects()}, first) == ""
    hashes = {**block_object(), "transactions": [tx["hash"] for tx in block_object()["transactions"]]}
    assert said_of(hashes, *receipt_objects()) == ""
    assert said_of(block_object(), receipt_objects()[2]) == "", "one alone"


@given(st.integers(0, 2), st.data())
def test_any_edit_of_raw_receipts_beside_their_block(which: int, data: st.DataObject) -> None:
    raw = encode_receipt(RECEIPTS[which])
    other = flipped(raw, data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7)))
    lines = raw_receipts()
    lines[which] = to_hex(other)
    shown = reports(to_hex(encode_block(whole_block())), *lines)
    problem = [problem for report in shown for problem in problems(report)]
    kind = shown[1 + which].get("flashctl", {}).get("kind")
    assert problem or kind != "receipt", "found wrong, or no receipt at all any more"


RECEIPT_PATHS = [
    path for path in paths(receipt_objects()) if len(path) > 1 and path[1] not in silent("receipt (JSON)")
]


@example(path=(1, "effectiveGasPrice"), digit=0, early=True)
@given(path=st.sampled_from(RECEIPT_PATHS), digit=DIGIT, early=st.booleans())
def test_any_edit_of_receipt_objects_beside_their_block(path: Step, digit: int, early: bool) -> None:
    receipts: Sequence[Any] = edited(receipt_objects(), path, digit)
    documents = [receipts, block_object()] if early else [block_object(), receipts]
    assert said_of(*documents) != "", path


@given(st.sampled_from(["receiptsRoot", "logsBloom", "gasUsed"]), st.integers(0, 7))
def test_receipts_commit_to_what_rlp_does_not(name: str, bit: int) -> None:
    raw = encode_block(whole_block())
    end = next(end for _, end, field in header_spans(raw) if field == name)
    assert said_of(to_hex(flipped(raw, end - 1, bit)), *raw_receipts()) != ""


RECEIPT_ALONE = silent("receipt (bytes)")


@given(st.sampled_from(["logsBloom", "address", "topics"]), DIGIT)
def test_any_edit_that_a_bloom_commits_to(name: str, digit: int) -> None:
    receipt = receipt_objects()[1]
    path: Step = {"logsBloom": ("logsBloom",), "address": ("logs", 1, "address")}.get(
        name, ("logs", 0, "topics", 0)
    )
    assert said_of(receipt) == ""
    assert said_of(edited(receipt, path, digit)) != ""


# -- flashblocks -----------------------------------------------------------------------------------


@cache
def sequence() -> list[dict[str, Any]]:
    """A payload with receipts in its metadata and a state root at every index."""
    return next(
        block["flashblocks"]
        for block in derived_blocks()
        if any(message["metadata"].get("receipts") for message in block["flashblocks"])
    )


def committed_in_sequence(path: Step) -> bool:
    if len(path) < 2:
        return False  # a list without its last message is a shorter recording
    if path[1] != "metadata":
        return True
    return path[2] in ("block_number", "receipts")


@given(st.data())
def test_any_edit_of_a_flashblock_sequence(data: st.DataObject) -> None:
    messages = sequence()
    assert said_of(*messages) == ""
    path = data.draw(st.sampled_from([path for path in paths(messages) if committed_in_sequence(path)]))
    assert said_of(*edited(messages, path, data.draw(DIGIT))) != "", path


def test_a_receipt_under_the_hash_of_another_transaction() -> None:
    messages = json.loads(json.dumps(sequence()))
    receipts = next(
        message["metadata"]["receipts"] for message in messages if message["metadata"].get("receipts")
    )
    key, value = next(iter(receipts.items()))
    del receipts[key]
    receipts["0x" + "12" * 32] = value
    assert "no transaction of the payload" in said_of(*messages)


def test_a_hole_in_a_sequence() -> None:
    first, second, _, *rest = sequence()
    assert "index 3 without index 2" in said_of(first, second, *rest)


# -- the list --------------------------------------------------------------------------------------


def test_docs_show_what_is_not_found() -> None:
    page = (REPOSITORY / "docs" / "decode.md").read_text()
    for kind, entries in UNCOMMITTED.items():
        for entry in entries:
            names = ", ".join(name if " " in name else f"`{name}`" for name in entry.fields)
            row = f"| {kind} | {names} | {entry.reason} |"
            assert row in page, f"docs/decode.md lacks: {row}"


def test_names_in_the_list_are_those_of_the_reports() -> None:
    header = silent("header or block (RLP)")
    assert header < set(HEADER_FIELDS)
    item: Item = decode_list(encode_block(whole_block()))[0]
    assert isinstance(item, list) and len(item) == len(HEADER_FIELDS)
    assert {"status", "cumulativeGasUsed"} <= RECEIPT_ALONE
