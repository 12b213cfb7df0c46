"""The tree of calls that a transaction made: go-ethereum's callTracer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from flashctl.evm.state import LogEntry
from flashctl.evm.tracers.tracer import Allowance, Call, CallEnd, Tracer

__all__ = ["CallNode", "CallTracer", "CallTracerOptions", "TracedLog"]

NODE_BYTES: Final = 1_000
"""Of a call without its data and output, in memory and as JSON."""

LOG_BYTES: Final = 500


@dataclass(frozen=True, slots=True)
class CallTracerOptions:
    """How much of the tree."""

    only_top_call: bool = False
    with_log: bool = False


@dataclass(frozen=True, slots=True)
class TracedLog:
    """An event and where it was emitted."""

    entry: LogEntry
    index: int
    """In the block."""
    position: int
    """How many calls its frame had made before."""


@dataclass(slots=True)
class CallNode:
    """A call with the calls that it made."""

    call: Call
    end: CallEnd | None = None
    """None while it runs."""
    calls: list[CallNode] = field(default_factory=list)
    logs: list[TracedLog] = field(default_factory=list)


class CallTracer(Tracer):
    """Grows the tree; `finish` gives it."""

    def __init__(
        self, top: Call, options: CallTracerOptions, allowance: Allowance, first_log_index: int = 0
    ) -> None:
        """A tracer of a transaction.

        Args:
            top: The transaction itself, its whole gas limit included.
            options: How much of the tree.
            allowance: What the tree may take.
            first_log_index: Of the transaction's first event in its block.
        """
        self._top = CallNode(top)
        self._open = [self._top]
        self._options = options
        self._allowance = allowance
        self._first_log_index = first_log_index
        self._depth = 0
        self._take(top.data)

    def enter(self, call: Call) -> None:
        self._depth += 1
        if self._options.only_top_call:
            return
        self._take(call.data)
        node = CallNode(call)
        self._open[-1].calls.append(node)
        self._open.append(node)

    def leave(self, end: CallEnd) -> None:
        self._depth -= 1
        if self._options.only_top_call:
            return
        self._take(end.output)
        self._open.pop().end = end

    def log(self, entry: LogEntry, index: int) -> None:
        options = self._options
        if not options.with_log or (options.only_top_call and self._depth):
            return
        self._allowance.take(LOG_BYTES + 2 * len(entry.data))
        node = self._open[-1]
        node.logs.append(TracedLog(entry, self._first_log_index + index, len(node.calls)))

    def finish(self, end: CallEnd) -> CallNode:
        """The tree, the transaction at its top having ended like this; no logs where calls failed."""
        self._top.end = end
        failed = [self._top] if end.error is not None else []
        waiting = [self._top]
        while waiting:
            node = waiting.pop()
            for callee in node.calls:
                if callee.end is not None and callee.end.error is not None:
                    failed.append(callee)
                waiting.append(callee)
        while failed:
            node = failed.pop()
            node.logs.clear()
            failed += node.calls
        return self._top

    def _take(self, data: bytes) -> None:
        self._allowance.take(NODE_BYTES + 2 * len(data))
