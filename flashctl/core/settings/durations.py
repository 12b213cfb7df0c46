"""Lengths of time as people write them."""

from __future__ import annotations

import re
from typing import Final

from flashctl.errors import UsageError

__all__ = ["parse_duration"]

_NUMBER: Final = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_WHOLE: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}(?:ms|s|m|h|d)){{1,5}}")
_PART: Final = re.compile(rf"({_NUMBER})(ms|s|m|h|d)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "": 1.0}


def parse_duration(text: str, flag: str = "") -> float:
    """Seconds of `30s`, `500ms`, `10m`, `1h`, `1d`, several of them as Go writes it (`1h30m0s`), or a plain
    number of seconds.

    Raises:
        UsageError: For anything else; it names `flag`, if given.
    """
    text = text.strip()
    if _WHOLE.fullmatch(text) is None:
        where = f"{flag}: " if flag else ""
        raise UsageError(f"{where}{text!r} is not a duration", hint="write 500ms, 30s, 10m, 1h or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
