"""Background health checks: is each side at the head of the chain?"""

from __future__ import annotations

import asyncio
import logging
import time

from flashctl.boost.health import Health, HealthStatus
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.errors import AuthError, FlashctlError
from flashctl.eth.hexdata import parse_quantity

__all__ = ["head_age", "probe_forever"]

_LOG = logging.getLogger(__name__)

UNHEALTHY_INTERVAL_S = 2.0
"""Between probes while something is wrong: a leader election should not wait a minute to learn that it is
over."""


async def probe_forever(
    l2: JsonRpcClient,
    builder: JsonRpcClient,
    health: Health,
    switch: ModeSwitch,
    metrics: BoostMetrics,
    interval_s: float,
) -> None:
    """Probe both sides now and every `interval_s`, more often while something is wrong; the builder only
    while it takes part.

    Raises:
        AuthError: If the fallback refuses our secret, which no waiting mends. A builder that does is merely
            not used.
    """
    while True:
        before = health.status(switch.mode)
        if switch.mode is ExecutionMode.DISABLED:
            health.l2_probed(await head_age(l2))
        else:
            l2_age, builder_age = await asyncio.gather(head_age(l2), _builder_age(builder))
            health.l2_probed(l2_age)
            health.builder_probed(builder_age)
        status = health.status(switch.mode)
        metrics.health.set(status)
        if status is not before:
            _LOG.warning("health %d -> %d", before, status, extra={"facts": str(health)})
        healthy = status is HealthStatus.HEALTHY
        await asyncio.sleep(interval_s if healthy else min(interval_s, UNHEALTHY_INTERVAL_S))


async def _builder_age(client: JsonRpcClient) -> float | None:
    try:
        return await head_age(client)
    except AuthError as error:
        _LOG.error("builder: %s", error)
        return None


async def head_age(client: JsonRpcClient) -> float | None:
    """Seconds since the latest block's timestamp; None if the side does not say.

    Raises:
        AuthError: If it refuses our secret.
    """
    try:
        block = await client.call("eth_getBlockByNumber", ["latest", False])
        return time.time() - parse_quantity(block["timestamp"])
    except AuthError:
        raise
    except (FlashctlError, TypeError, KeyError) as error:
        _LOG.debug("%s: no latest block: %s", client.url, error)
        return None
