"""When a tail ends by itself: counts, durations, and conditions such as `block:>=100`.

Pure: events in, and whether the run is over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flashctl.core.settings.durations import parse_duration
from flashctl.errors import UsageError
from flashctl.eth.hexdata import MAX_HEIGHT, parse_number
from flashctl.eth.keccak import keccak256
from flashctl.watch.events import EVENT_NAMES, WatchEvent

__all__ = ["Condition", "StopRule", "parse_condition", "parse_duration", "parse_speed"]

_BLOCK: Final = re.compile(r"(>=|<=|>|<|=)?\s*(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,15})\Z")


def parse_speed(text: str) -> float:
    """`max` is 0, a number is that many times real time.

    Raises:
        UsageError: For anything else.
    """
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.001 <= speed <= 1_000_000:
        raise UsageError(f"--speed {text!r}: not a speed", hint="write max, 1, 10 or 0.5")
    return speed


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--until`."""

    kind: str
    """`tx`, `block`, `payload` or `event`."""
    value: str
    operator: str = "="

    def met_by(self, event: WatchEvent) -> bool:
        """Whether this event fulfils the condition."""
        match self.kind:
            case "event":
                return event.name == self.value
            case "payload":
                return event.payload_id == self.value
            case "tx":
                wanted = bytes.fromhex(self.value[2:])
                raws = event.row.flashblock.diff.transactions if event.row is not None else ()
                return any(keccak256(raw) == wanted for raw in raws)
        return event.block is not None and self._holds(event.block)

    def _holds(self, block: int) -> bool:
        number = parse_number(self.value, most=MAX_HEIGHT)
        match self.operator:
            case ">=":
                return block >= number
            case "<=":
                return block <= number
            case ">":
                return block > number
            case "<":
                return block < number
        return block == number


def parse_condition(text: str) -> Condition:
    """Parse `tx:0x..`, `block:>=N`, `payload:0x..` or `event:gap`.

    Raises:
        UsageError: For anything else.
    """
    kind, colon, value = text.partition(":")
    hint = "conditions: tx:HASH, block:>=N, payload:ID, event:NAME"
    if not colon or kind not in ("tx", "block", "payload", "event"):
        raise UsageError(f"--until {text!r}: not a condition", hint=hint)
    if kind == "event" and value not in EVENT_NAMES:
        raise UsageError(f"--until {text!r}: no such event", hint=f"events: {', '.join(EVENT_NAMES)}")
    if kind == "block":
        match = _BLOCK.match(value)
        if match is None:
            raise UsageError(f"--until {text!r}: not a block condition", hint=hint)
        return Condition(kind, match.group(2), match.group(1) or "=")
    digits = {"tx": 64, "payload": 16}.get(kind)
    if digits is not None and not re.fullmatch(rf"0x[0-9a-fA-F]{{{digits}}}", value):
        raise UsageError(f"--until {text!r}: expected 0x and {digits} hex digits", hint=hint)
    return Condition(kind, value.lower() if digits else value)


class StopRule:
    """Counts what is shown and knows when that is enough."""

    def __init__(
        self, count: int | None = None, blocks: int | None = None, until: Sequence[Condition] = ()
    ) -> None:
        self._count = count
        self._blocks = blocks
        self._until = until
        self._payloads: set[str] = set()
        self.flashblocks = 0
        self.met = False
        """Whether an `--until` was fulfilled."""

    @property
    def waits(self) -> bool:
        """Whether there is a condition whose failure is a result of its own (exit 124 on time-out)."""
        return bool(self._until) or self._count is not None or self._blocks is not None

    def before(self, event: WatchEvent) -> bool:
        """Whether to stop before showing this event: the payload after the last one wanted has begun."""
        if self._blocks is None or event.name != "flashblock" or event.payload_id is None:
            return False
        if event.payload_id not in self._payloads and len(self._payloads) >= self._blocks:
            return True
        self._payloads.add(event.payload_id)
        return False

    def after(self, event: WatchEvent) -> bool:
        """Whether to stop now that this event has been shown."""
        if event.name == "flashblock":
            self.flashblocks += 1
        if any(condition.met_by(event) for condition in self._until):
            self.met = True
            return True
        return self._count is not None and self.flashblocks >= self._count
