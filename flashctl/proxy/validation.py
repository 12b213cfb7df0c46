"""`--validate`: the sequence rules of the stream, enforced by the proxy for consumers that do not.

`warn` counts every breach and logs each cause once a minute; `strict` also drops what no consumer could use.
A gap is never a reason to drop: the messages after it are still the newest.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from flashctl.core.flashblocks import sequence
from flashctl.core.flashblocks.wire import Flashblock, InvalidFlashblock, from_object
from flashctl.proxy.config import Validation

__all__ = ["Validator"]

_LOG = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0

_HARMLESS = (sequence.Opened, sequence.Accepted, sequence.Closed)
_UNUSABLE = frozenset({"Inconsistent", "Invalid"})
"""Dropped by `strict`. Duplicates and equivocations do not occur here: deduplication comes first."""


class Validator:
    """Applies the sequence rules to the merged stream."""

    def __init__(self, mode: Validation, clock: Callable[[], float]) -> None:
        self.mode = mode
        self.breaches: Counter[str] = Counter()
        """By cause, with the names of the events of core.flashblocks.sequence."""
        self._clock = clock
        self._assembler = sequence.Assembler()
        self._logged: dict[str, float] = {}

    def passes(self, message: dict[str, object] | None, problem: str = "") -> bool:
        """Whether to forward a parsed message; None is one that could not be parsed because of `problem`."""
        if self.mode is Validation.OFF:
            return True
        if message is None:
            return self._breach("Invalid", problem)
        try:
            flashblock = from_object(message)
        except InvalidFlashblock as error:
            return self._breach("Invalid", str(error))
        return self._follow(flashblock)

    def _follow(self, flashblock: Flashblock) -> bool:
        forward = True
        for event in self._assembler.feed(flashblock, int(self._clock() * 1e9)):
            if not isinstance(event, _HARMLESS):
                where = f"{flashblock.payload_id}/{flashblock.index} of block {flashblock.block_number}"
                forward &= self._breach(type(event).__name__, where)
        return forward

    def _breach(self, cause: str, detail: str) -> bool:
        self.breaches[cause] += 1
        now = self._clock()
        if now - self._logged.get(cause, -LOG_INTERVAL_S) >= LOG_INTERVAL_S:
            self._logged[cause] = now
            _LOG.warning("stream: %s", cause, extra={"detail": detail})
        return self.mode is not Validation.STRICT or cause not in _UNUSABLE
