"""JSON whose numbers keep their text where a machine number would change them.

`orjson` makes a float of an integer beyond 64 bits, and JSON-RPC hands numbers on: a request's id, an
engine's answer. `loads_exact` gives such a number, and every fraction, as an `orjson.Fragment` of what was
received.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

__all__ = ["exact", "loads_exact"]

_MACHINE_DIGITS: Final = 18
"""Integers of so many digits fit 64 bits, with a sign."""

_SUSPECT: Final = re.compile(rb"[0-9]{19}|[0-9][.eE]")
"""In what lies outside strings: a number that orjson may change."""

MAX_STRINGS: Final = 100_000
MAX_SLOW_BYTES: Final = 256 * 1024
"""Beyond either, numbers are what orjson makes of them: the slow parser takes 10 ms for a megabyte."""


def loads_exact(body: bytes) -> Any:
    """What `orjson.loads` gives, but for numbers that it would change.

    Raises:
        orjson.JSONDecodeError: As `orjson.loads`.
    """
    return exact(body, orjson.loads(body))


def exact(body: bytes, message: Any) -> Any:
    """`message`, which `orjson.loads` made of `body`, with the numbers that it changed as they are there."""
    if not _may_change(body):
        return message
    try:
        return json.loads(body, parse_int=_integer, parse_float=_kept)
    except (ValueError, RecursionError):
        return message


def _may_change(body: bytes) -> bool:
    if len(body) > MAX_SLOW_BYTES and body.count(b'"') > MAX_STRINGS:
        return False
    # Every other piece between quotation marks lies outside strings; an escaped mark shifts them, which can
    # only cost a parse too many or leave a number that stands behind it as it was.
    outside = body if b"\\" in body else b",".join(body.split(b'"')[::2])
    return len(outside) <= MAX_SLOW_BYTES and _SUSPECT.search(outside) is not None


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _MACHINE_DIGITS else orjson.Fragment(text)


def _kept(text: str) -> orjson.Fragment:
    return orjson.Fragment(text)
