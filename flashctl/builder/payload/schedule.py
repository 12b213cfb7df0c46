"""The schedule of a block's flashblocks.

Times are milliseconds from the publication of the base flashblock (index 0). A block has N regular slots
(block time / interval), laid out backwards from the block's timestamp, so that a build that starts late keeps
the spacing and has fewer flashblocks instead of squeezed ones:

    block time 2000, interval 200, requested 1940 ms before the timestamp, end buffer 75

        140   340   540   740   940  1140  1340  1540  1740  1865
        first = what the remainder leaves                    end of slot less the buffer

The end buffer pulls the last one before getPayload: with none, the last flashblock is usually lost to it
(op-rbuilder#467 measured 34,686 transactions landed without a buffer, 40,936 with 100 ms).
"""

from __future__ import annotations

from dataclasses import dataclass

from flashctl.errors import UsageError

__all__ = ["FlashblockSchedule", "flashblock_times"]


@dataclass(frozen=True, slots=True)
class FlashblockSchedule:
    """The operator's timing settings, in milliseconds."""

    block_time_ms: int
    interval_ms: int
    send_offset_ms: int = 0
    """Moves every flashblock; negative is earlier."""

    end_buffer_ms: int = 0
    """How long before the slot's end the last flashblock is built."""

    def __post_init__(self) -> None:
        if self.interval_ms < 1:
            raise UsageError(f"a flashblock interval of {self.interval_ms} ms is not positive")
        if self.interval_ms > self.block_time_ms:
            raise UsageError(
                f"the flashblock interval of {self.interval_ms} ms exceeds the block time of"
                f" {self.block_time_ms} ms",
                hint="check --flashblocks.block-time against --rollup.chain-block-time",
            )
        if not 0 <= self.end_buffer_ms < self.block_time_ms:
            raise UsageError(f"an end buffer of {self.end_buffer_ms} ms does not fit the block time")

    @property
    def regular_count(self) -> int:
        """Flashblocks of a block requested in time, index 0 not counted."""
        return self.block_time_ms // self.interval_ms

    def times(self, remaining_ms: int) -> tuple[int, ...]:
        """When to build the flashblocks of a block whose timestamp is `remaining_ms` away."""
        return flashblock_times(self, remaining_ms)


def flashblock_times(schedule: FlashblockSchedule, remaining_ms: int) -> tuple[int, ...]:
    """Milliseconds from now at which flashblocks 1, 2, … are built; at least one, at most the regular count.

    A block whose timestamp has passed gets a single flashblock at once.
    """
    remaining = min(remaining_ms, schedule.block_time_ms)
    if remaining <= 0:
        return (0,)
    first = max(0, (remaining - 1) % schedule.interval_ms + 1 + schedule.send_offset_ms)
    deadline = max(0, remaining - schedule.end_buffer_ms + schedule.send_offset_ms)
    regular = range(first, deadline, schedule.interval_ms)
    return (*regular, deadline)[: schedule.regular_count]
