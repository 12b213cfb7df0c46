"""The health of a builder, for /healthz and /readyz.

Not ready: blocks beyond the head wait for missing ancestors, so it would build on an old parent.
Degraded: the previous payload failed.
"""

from __future__ import annotations

from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.builder.payload.publish import PublishingObserver
from flashctl.core.service.status import Health

__all__ = ["BuilderHealth"]


class BuilderHealth:
    """Evaluated at each request of a status page."""

    def __init__(self, node: ExecutionEngine, observer: PublishingObserver) -> None:
        self._node = node
        self._observer = observer

    def __call__(self) -> Health:
        ahead = self._node.blocks_ahead
        if ahead:
            return Health(False, f"syncing: {ahead} blocks beyond the head wait for their ancestors")
        failed = self._observer.failed_in_a_row
        if failed:
            which = "payload" if failed == 1 else f"{failed} payloads"
            return Health(True, f"the last {which} failed", degraded=True)
        return Health(True)
