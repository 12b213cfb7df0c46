"""Background health probes: whether fallback and builder are at the head of the chain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from flashctl.boost.health import BoostHealth, HealthStatus
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.service import defects
from flashctl.errors import AuthError, FlashctlError
from flashctl.eth.hexdata import parse_quantity

__all__ = ["probe_forever"]

_LOG = logging.getLogger(__name__)

UNHEALTHY_INTERVAL_S = 2.0
"""Between probes while unhealthy: op-conductor should not wait a minute to see that a sequencer recovered."""


async def probe_forever(
    fallback: JsonRpcClient,
    builder: JsonRpcClient,
    health: BoostHealth,
    switch: ModeSwitch,
    interval_s: float,
    doubt: asyncio.Event,
) -> None:
    """Probe both sides now and every `interval_s`, more often while something is wrong; the builder only
    while it takes part.

    Args:
        fallback: the fallback.
        builder: the builder.
        health: receives the results.
        switch: the mode in force.
        interval_s: seconds between probes while healthy.
        doubt: set when an engine did not answer a call: the next probe is then due at once.

    Raises:
        AuthError: If the fallback rejects our secret at the first probe, a configuration error. A later
            rejection counts as unhealthy like any other failure, which a restart, a rotated secret or a
            corrected clock ends; and a builder that rejects the secret is merely not used.
    """
    fallback_side, builder_side = _ProbedEngine("fallback", fallback), _ProbedEngine("builder", builder)
    is_first = True
    while True:
        doubt.clear()
        with defects.contained("boost.probe"):
            if switch.mode is ExecutionMode.DISABLED:
                health.fallback_probed(await fallback_side.head_age())
            else:
                fallback_age, builder_age = await asyncio.gather(
                    fallback_side.head_age(), builder_side.head_age()
                )
                health.fallback_probed(fallback_age)
                health.builder_probed(builder_age)
        if is_first and fallback_side.refused is not None:
            raise fallback_side.refused
        is_first = False
        await asyncio.sleep(min(interval_s, UNHEALTHY_INTERVAL_S))
        if health.status(switch.mode) is HealthStatus.HEALTHY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, interval_s - UNHEALTHY_INTERVAL_S)):
                    await doubt.wait()


class _ProbedEngine:
    """One engine being probed; a fault is logged once, not at every probe."""

    def __init__(self, name: str, client: JsonRpcClient) -> None:
        self._name = name
        self._client = client
        self._complaint = ""
        self.refused: AuthError | None = None

    async def head_age(self) -> float | None:
        """Seconds since the latest block's timestamp; None if the engine gives none."""
        try:
            block = await self._client.call("eth_getBlockByNumber", ["latest", False])
            timestamp = parse_quantity(block["timestamp"])
            age = time.time() - timestamp if timestamp.bit_length() <= 64 else None
        except (FlashctlError, TypeError, KeyError) as error:
            self.refused = error if isinstance(error, AuthError) else None
            self._complain(str(error) if isinstance(error, FlashctlError) else "no latest block")
            return None
        self._complain("" if age is not None else "no latest block")
        return age

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            _LOG.warning("%s: %s", self._name, complaint)
        self._complaint = complaint
