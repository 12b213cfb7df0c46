"""Several endpoints side by side: which is first, by how much, and which loses what.

Pure: each source reports what it received and when; the pairing is by payload id and index, and equal
content is checked by what a flashblock says (`base` and `diff`; metadata differs between servers on
purpose).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flashctl.core.flashblocks.wire import Flashblock
from flashctl.core.output import counted
from flashctl.lru import Lru
from flashctl.watch.events import WatchEvent
from flashctl.watch.stream_stats import Samples

__all__ = ["Comparison", "render_comparison"]

MAX_OPEN: Final = 4_096
"""Flashblocks that wait for the other sources; the oldest is judged as it is beyond it."""


GRACE_NS: Final = 1_000_000_000
"""How far another source may be behind at the end; what is older and has not arrived is missing."""


class _Entry:
    """One (payload id, index) and the sources that have shown it."""

    __slots__ = ("block", "caught_up", "differs", "digest", "first", "seen")

    def __init__(self, block: int | None, at_ns: int, digest: bytes) -> None:
        self.block = block
        self.first = at_ns
        self.digest = digest
        self.differs = False
        self.seen: dict[int, int] = {}
        self.caught_up: set[int] = set()
        """Sources that sent it as catch-up to a late joiner, at a time that means nothing."""


class Comparison:
    """Counts firsts, lags and losses over sources numbered 0, 1, ..."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._open = Lru[tuple[str, int], _Entry](MAX_OPEN, on_evicted=lambda _, entry: self._settle(entry))
        self._began: dict[int, int] = {}
        """Source to the moment of its first flashblock: what came before is no loss of it."""
        self.firsts = [0] * len(names)
        self.lags = [Samples() for _ in names]
        self.missed = [0] * len(names)
        self.received = [0] * len(names)
        self._newest = 0
        self.differing = 0
        self.compared = 0

    def see(self, source: int, event: WatchEvent) -> None:
        """A flashblock that a source received."""
        if event.row is None or event.payload_id is None or event.index is None or event.arrival is None:
            return
        at_ns = event.arrival.monotonic_ns
        self._newest = max(self._newest, at_ns)
        self.received[source] += 1
        key = (event.payload_id, event.index)
        digest = _digest(event.row.flashblock)
        entry = self._open.peek(key)
        if entry is None:
            entry = _Entry(event.block, at_ns, digest)
            self._open.put(key, entry)
        entry.differs = entry.differs or digest != entry.digest
        if event.row.replayed:
            entry.caught_up.add(source)
        else:
            self._began.setdefault(source, at_ns)
            entry.first = min(entry.first, at_ns) if entry.seen else at_ns
            entry.seen.setdefault(source, at_ns)
        if len(entry.seen.keys() | entry.caught_up) == len(self.names):
            self._open.pop(key)
            self._settle(entry)

    def finish(self) -> None:
        """Judge what is still open, except what may simply not have arrived yet."""
        for entry in self._open.values():
            if len(entry.seen) == len(self.names) or self._newest - entry.first > GRACE_NS:
                self._settle(entry)
        self._open.clear()

    def _settle(self, entry: _Entry) -> None:
        timed = [source for source in range(len(self.names)) if self._took_part(source, entry)]
        if len(entry.caught_up) + len(timed) < 2:
            return
        self.compared += 1
        self.differing += entry.differs
        if len(timed) < 2:
            return
        winner = min(entry.seen, key=lambda source: entry.seen[source])
        self.firsts[winner] += 1
        for source in timed:
            if source in entry.seen:
                self.lags[source].add((entry.seen[source] - entry.first) / 1e6)
            else:
                self.missed[source] += 1

    def _took_part(self, source: int, entry: _Entry) -> bool:
        if source in entry.caught_up or not entry.seen:
            return False
        return source in entry.seen or self._began.get(source, entry.first + 1) <= entry.first

    def report(self) -> dict[str, Any]:
        """The figures as one JSON object."""
        return {
            "compared": self.compared,
            "differing": self.differing,
            "sources": [
                {
                    "url": name,
                    "received": self.received[source],
                    "first": self.firsts[source],
                    "missing": self.missed[source],
                    "lag_ms": self.lags[source].report(),
                }
                for source, name in enumerate(self.names)
            ],
        }


def _digest(flashblock: Flashblock) -> bytes:
    """A hash of what two servers must agree on."""
    content = repr((flashblock.base, flashblock.diff)).encode()
    return hashlib.blake2b(content, digest_size=16).digest()


def render_comparison(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as a table."""
    differing = f", {report['differing']} with other content" if report["differing"] else ", equal content"
    compared = counted(report["compared"], "flashblock")
    yield f"{compared} compared{differing if report['compared'] else ''}"
    width = max((len(source["url"]) for source in report["sources"]), default=3)
    yield f"{'':<{width}} {'received':>9} {'first':>7} {'missing':>8} {'lag p50':>9} {'p99':>9} {'max ms':>9}"
    for source in report["sources"]:
        lag = source["lag_ms"]
        lags = f"{'-':>9} {'-':>9} {'-':>9}"
        if lag["count"]:
            lags = f"{lag['p50']:>9.1f} {lag['p99']:>9.1f} {lag['max']:>9.1f}"
        counts = f"{source['received']:>9} {source['first']:>7} {source['missing']:>8}"
        yield f"{source['url']:<{width}} {counts} {lags}"
