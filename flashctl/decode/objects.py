"""Receipts and logs as nodes return them in JSON, with their events named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashctl.core.transaction_objects import InvalidObject
from flashctl.decode.calls import describe_log
from flashctl.decode.commitments import receipt_problems
from flashctl.decode.signatures import SignatureBook
from flashctl.eth.hexdata import parse_hex

__all__ = ["report_log", "report_receipt_object", "unwrap_receipt"]


def unwrap_receipt(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A receipt out of the four shapes on the wire: flat, or under the name of its type (`{"Eip1559":
    {...}}`)."""
    if len(value) == 1:
        (inner,) = value.values()
        if isinstance(inner, dict):
            return inner
    return value


def report_receipt_object(value: Mapping[str, Any], book: SignatureBook | None) -> dict[str, Any]:
    """A receipt object as it came, with its logs named under `flashctl`."""
    receipt = dict(unwrap_receipt(value))
    logs = receipt.get("logs")
    decoded = (
        [report_log(log, book).get("flashctl", {}).get("event") for log in logs]
        if isinstance(logs, list)
        else []
    )
    receipt["flashctl"] = {"kind": "receipt", "events": decoded}
    if problems := receipt_problems(receipt):
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
