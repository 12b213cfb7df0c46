"""Transactions that the fallback would include and the builder does not.

A builder that lost a transaction (a restart, a queue that overflowed, a stricter mempool admission) never
includes it, and as long as its blocks win, the chain does not either: every later one of the sender waits as
well. The fallback builds a block of its own for each payload; boost has it at getPayload. A transaction that
stays in it, block after block, while the block returned lacks it, is stuck. It is sent to the builder again
and, with `--max-exclusion-blocks`, the fallback builds one block alone, which is decided before any of it is
published.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["MAX_TRACKED", "RESEND_AFTER", "Exclusions"]

RESEND_AFTER: Final = 3
"""Blocks without a transaction before it is sent to the builder again, and again after as many more. One or
two are normal: a transaction that arrives late in a block is in the fallback's alone."""

MAX_TRACKED: Final = 10_000
"""Transactions tracked; a block of 21,000 gas each has 2,900 at 60 Mgas."""

DEPOSIT_PREFIX: Final = "0x7e"


class Exclusions:
    """Consecutive blocks without a transaction, by its raw hex as in the payload."""

    def __init__(self, max_blocks: int | None = None) -> None:
        """`max_blocks`: for how many blocks a transaction may be left out before one payload is built without
        the builder; None: no limit."""
        self._max_blocks = max_blocks
        self._blocks: dict[str, int] = {}
        self._left_out = b""
        """The payload that the fallback builds alone, by the payload id computed per the specification."""
        self.times_left_out = 0

    @property
    def stuck(self) -> list[str]:
        """Transactions left out of RESEND_AFTER blocks and more, raw hex."""
        return [raw for raw, blocks in self._blocks.items() if blocks >= RESEND_AFTER]

    def returned(self, own: Sequence[str], chosen: Iterable[str]) -> list[str]:
        """Count a block returned to the consensus client; the transactions to send to the builder again.

        Args:
            own: transactions of the fallback's block, raw hex.
            chosen: of the block that was returned, on the same parent.
        """
        there = set(chosen)
        left_out = [raw for raw in own if raw not in there and not raw.startswith(DEPOSIT_PREFIX)]
        self._blocks = {raw: self._blocks.get(raw, 0) + 1 for raw in left_out[:MAX_TRACKED]}
        return [raw for raw, blocks in self._blocks.items() if blocks % RESEND_AFTER == 0]

    def leaves_out(self, expected_id: bytes) -> bool:
        """Whether this payload is built without the builder; the same answer for a repeated request."""
        if expected_id == self._left_out:
            return True
        if self._max_blocks is None or max(self._blocks.values(), default=0) < self._max_blocks:
            return False
        self._left_out = expected_id
        self.times_left_out += 1
        # Counting starts afresh: a transaction that the fallback does not include either must not keep the
        # builder out for ever.
        self._blocks.clear()
        return True
