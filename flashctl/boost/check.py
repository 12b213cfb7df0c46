"""`flashctl boost --check`: whether it would start, and whether engines and builder's stream accept it."""

from __future__ import annotations

from flashctl.boost.config import BoostConfig
from flashctl.boost.modes import ExecutionMode
from flashctl.core.service.probes import Chains, probe_engine, probe_stream, run_probes
from flashctl.errors import ExitCode

__all__ = ["check"]


def check(config: BoostConfig) -> ExitCode:
    """Try the ports, probe the peers, and print the faults.

    The builder's stream need only accept a subscriber: nothing builds before boost has started.
    """
    stream = config.flashblocks
    ports = (
        config.server.rpc,
        config.server.debug,
        config.server.metrics,
        stream.listen if stream else None,
    )
    chains = Chains()
    probes = [probe_engine("fallback", "--l2-url", config.fallback.url, config.fallback.jwt_secret, chains)]
    if config.selection.execution_mode is not ExecutionMode.DISABLED:
        builder = config.builder
        probes.append(probe_engine("builder", "--builder-url", builder.url, builder.jwt_secret, chains))
        if stream:
            url, flag = stream.builder_url, "--flashblocks-builder-url"
            probes.append(probe_stream("builder's stream", flag, url, is_driven=False))
    return run_probes(*probes, chains=chains, ports=ports)
