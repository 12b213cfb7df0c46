"""`flashctl rpc --check`: would it start, does its node answer what it asks, do flashblocks come."""

from __future__ import annotations

from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.probes import Chains, probe_node, probe_peer, probe_stream, run_probes
from flashctl.errors import ExitCode
from flashctl.rpc.config import RpcConfig

__all__ = ["check"]


def check(config: RpcConfig) -> ExitCode:
    """Try the ports, ask node, sequencer and streams, and print what is wrong."""
    sealed = None if config.sealed_port is None else ListenAddress(config.host, config.sealed_port)
    ports = (ListenAddress(config.host, config.port), sealed, config.metrics)
    chains = Chains() if config.chain is None else Chains({"--chain or --genesis": config.chain.chain_id})
    probes = [probe_node("node", "--upstream-rpc", config.upstream_url, chains)]
    probes += [probe_stream("stream", "--flashblocks-url", url) for url in config.flashblocks_urls]
    if config.upstream_ws_url is not None:
        url = config.upstream_ws_url
        probes.append(probe_stream("node's WebSocket", "--upstream-ws", url, is_driven=False))
    if config.sequencer_url is not None:
        probes.append(probe_peer("sequencer", "--sequencer", config.sequencer_url, chains))
    return run_probes(*probes, chains=chains, ports=ports)
