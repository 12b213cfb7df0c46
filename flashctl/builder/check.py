"""`flashctl builder --check`: whether it would start, and whether the nodes it names are of its chain."""

from __future__ import annotations

from flashctl.builder.config import BuilderConfig
from flashctl.chain.genesis import DEVNET_CHAIN_ID, load_genesis, require_executable
from flashctl.core.engine.jwt import load_secret
from flashctl.core.service.probes import Chains, probe_peer, probe_stream, run_probes
from flashctl.errors import ExitCode

__all__ = ["check"]


def check(config: BuilderConfig) -> ExitCode:
    """Read the files that settings name, try the ports, probe the peers, and print the faults; creates
    nothing.

    Raises:
        FlashctlError: If the builder could not start.
    """
    genesis = config.chain.genesis
    if (
        genesis is None
        and config.chain.datadir is not None
        and (config.chain.datadir / "genesis.json").exists()
    ):
        genesis = config.chain.datadir / "genesis.json"
    chain_id = DEVNET_CHAIN_ID
    if genesis is not None:
        chain_id = require_executable(load_genesis(genesis)).config.chain_id
    chains = Chains({"this builder": chain_id})
    if config.server.jwt_secret is not None and config.server.jwt_secret.exists():
        load_secret(config.server.jwt_secret)
    ports = (
        config.server.http,
        config.server.engine,
        config.server.metrics,
        config.stream.endpoint if config.stream else None,
    )
    peers = config.peers
    probes = [
        probe_peer(name, flag, url, chains)
        for name, flag, url in (
            ("node", "--sync-rpc", peers.sync_rpc),
            ("sequencer", "--rollup.sequencer", peers.sequencer),
        )
        if url is not None
    ]
    if peers.flashblocks_url is not None:
        probes.append(probe_stream("stream", "--flashblocks-url", peers.flashblocks_url, is_driven=False))
    return run_probes(*probes, chains=chains, ports=ports)
