"""Receipts and logs as nodes return them in JSON, with their events named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashctl.decode.block_receipts import BlockMemory
from flashctl.decode.calls import describe_call, describe_log
from flashctl.decode.commitments import receipt_problems
from flashctl.decode.signatures import SignatureBook
from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.rlp import RlpError, decode_list
from flashctl.ethrpc.transaction_objects import InvalidObject

__all__ = ["report_call", "report_log", "report_log_bytes", "report_receipt_object", "unwrap_receipt"]


def unwrap_receipt(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A receipt out of the four shapes on the wire: flat, or under the name of its type (`{"Eip1559":
    {...}}`)."""
    if len(value) == 1:
        (inner,) = value.values()
        if isinstance(inner, dict):
            return inner
    return value


def report_receipt_object(
    value: Mapping[str, Any], book: SignatureBook | None, memory: BlockMemory
) -> dict[str, Any]:
    """A receipt object as it came, its logs named under `flashctl`; held against its block in `memory`."""
    receipt = dict(unwrap_receipt(value))
    logs = receipt.get("logs")
    decoded = (
        [report_log(log, book).get("flashctl", {}).get("event") for log in logs]
        if isinstance(logs, list)
        else []
    )
    receipt["flashctl"] = {"kind": "receipt", "events": decoded}
    problems = receipt_problems(receipt)
    if isinstance(logs, list):
        problems += memory.receipt_object(receipt)
    if problems:
        receipt["flashctl"]["problems"] = problems
    return receipt


def report_log(value: Any, book: SignatureBook | None) -> dict[str, Any]:
    """A log object as it came, with the event it stands for under `flashctl`."""
    if not isinstance(value, dict):
        raise InvalidObject("a log is not an object")
    topics = value.get("topics") or []
    if not isinstance(topics, list):
        raise InvalidObject("topics is not a list")
    data = value.get("data")
    event = describe_log(
        [parse_hex(topic, size=32) for topic in topics], parse_hex(data) if data else b"", book
    )
    return {**value, "flashctl": {"kind": "log", "event": event}}


def report_call(raw: bytes, kind: str, book: SignatureBook | None) -> dict[str, Any]:
    """Call data, or the data of an error, without a transaction around it; its words where the selector is
    unknown."""
    if len(raw) < 4:
        raise InvalidObject(f"a {kind} begins with a selector of 4 bytes, these are {len(raw)}")
    call = describe_call(raw, book)
    if call is None:
        words = [to_hex(raw[at : at + 32]) for at in range(4, len(raw), 32)]
        call = {"selector": to_hex(raw[:4]), "words": words}
    extras: dict[str, Any] = {"kind": kind, "call": call}
    if "mismatch" in call:
        extras["problems"] = [f"does not follow {call['signature']}: {call['mismatch']}"]
    return {"input": to_hex(raw), "flashctl": extras}


def report_log_bytes(raw: bytes, book: SignatureBook | None) -> dict[str, Any]:
    """A log from its RLP: address, topics, data."""
    try:
        items = decode_list(raw)
    except RlpError as error:
        raise InvalidObject(f"not a log: {error}") from None
    match items:
        case [bytes(address), list(topics), bytes(data)] if len(address) == 20:
            words = [to_hex(topic) for topic in topics if isinstance(topic, bytes)]
            return report_log({"address": to_hex(address), "topics": words, "data": to_hex(data)}, book)
    raise InvalidObject("not a log: expected address, topics and data")
