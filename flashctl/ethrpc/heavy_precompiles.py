"""Expensive precompile calls run in a side process in services that execute beside an event loop."""

from __future__ import annotations

import asyncio

from flashctl.core.service.lifecycle import Lifecycle
from flashctl.core.service.side_process import SideProcesses
from flashctl.evm.precompiles import apart

__all__ = ["compute_dear_calls_apart"]


async def compute_dear_calls_apart(life: Lifecycle) -> None:
    """Until the service ends, keep those calls out of its interpreter; see `evm.precompiles.apart`."""
    side = SideProcesses()
    # Starting one takes 0.1 s of another processor, which the first call should not wait for.
    await asyncio.to_thread(side.start)
    apart.install(side.run)

    async def stop() -> None:
        apart.install(None)
        side.close()

    life.on_stop(stop, "side processes")
