"""`flashctl rpc --check`: whether it would start, its node answers, and flashblocks arrive."""

from __future__ import annotations

from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.probes import Chains, probe_node, probe_peer, probe_stream, run_probes
from flashctl.errors import ExitCode
from flashctl.rpc.config import RpcConfig

__all__ = ["check"]


def check(config: RpcConfig) -> ExitCode:
    """Try the ports, probe node, sequencer and streams, and print the faults."""
    sealed = (
        None
        if config.server.sealed_port is None
        else ListenAddress(config.server.host, config.server.sealed_port)
    )
    ports = (ListenAddress(config.server.host, config.server.port), sealed, config.server.metrics)
    chains = Chains() if config.chain is None else Chains({"--chain or --genesis": config.chain.chain_id})
    probes = [probe_node("node", "--upstream-rpc", config.upstream.url, chains)]
    probes += [probe_stream("stream", "--flashblocks-url", url) for url in config.stream.urls]
    if config.upstream.ws_url is not None:
        url = config.upstream.ws_url
        probes.append(probe_stream("node's WebSocket", "--upstream-ws", url, is_driven=False))
    if config.upstream.sequencer_url is not None:
        probes.append(probe_peer("sequencer", "--sequencer", config.upstream.sequencer_url, chains))
    return run_probes(*probes, chains=chains, ports=ports)
