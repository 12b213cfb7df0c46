"""`flashctl proxy --check`: whether it would start, every upstream sends flashblocks, and Redis answers."""

from __future__ import annotations

from flashctl.core.flashblocks.client import StreamOptions
from flashctl.core.net.urls import hide_secrets, mask_url
from flashctl.core.service.probes import Finding, probe_stream, run_probes
from flashctl.errors import ExitCode
from flashctl.proxy.config import ProxyConfig
from flashctl.proxy.redis_client import connect_redis
from flashctl.proxy.service import Proxy
from flashctl.proxy.upstreams import client_tls

__all__ = ["check"]


def check(config: ProxyConfig) -> ExitCode:
    """Read the files that settings name, try the ports, probe upstreams and Redis, and print the faults.

    Raises:
        FlashctlError: If the proxy could not start.
    """
    Proxy(config)
    ports = (
        config.clients.listen,
        config.metrics.listen,
    )
    options = StreamOptions(
        headers=dict(config.upstream.headers) or None,
        max_size=config.upstream.max_message_bytes,
        tls=client_tls(config.upstream.ca),
    )
    probes = [probe_stream("upstream", "--upstream-ws", url, options) for url in config.upstream.urls]
    places = {"--redis-url": config.bus.limits_url, "--bus": config.bus.url}
    probes += [_probe_redis(flag, url) for flag, url in places.items() if url is not None]
    return run_probes(*probes, ports=ports)


async def _probe_redis(flag: str, url: str) -> list[Finding]:
    from redis.exceptions import AuthenticationError, RedisError
    from redis.exceptions import ConnectionError as RedisConnectionError

    client = connect_redis(url)
    fix, code = f"start it, or correct {flag}", ExitCode.UNAVAILABLE
    try:
        await client.ping()
    except AuthenticationError as error:
        reason, code = str(error), ExitCode.AUTH
        fix = f"give user and password in {flag}, as redis://user:password@HOST"
    except RedisConnectionError:
        reason = "no connection"
    except (RedisError, OSError) as error:
        reason = str(error)
    else:
        return []
    finally:
        await client.aclose()
    return [Finding(f"Redis {mask_url(url)}: {hide_secrets(reason, url)}", fix, code)]
