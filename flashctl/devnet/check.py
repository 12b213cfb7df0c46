"""`flashctl devnet --check`: whether it would start, with this genesis and these ports."""

from __future__ import annotations

from dataclasses import astuple

from flashctl.chain.genesis import load_genesis, require_executable
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.probes import run_probes
from flashctl.devnet.config import DevnetConfig
from flashctl.errors import ExitCode

__all__ = ["check"]


def check(config: DevnetConfig) -> ExitCode:
    """Read the genesis, try the ports, and print the faults.

    Raises:
        FlashctlError: The genesis is unusable.
    """
    if config.chain.genesis is not None:
        require_executable(load_genesis(config.chain.genesis))
    return run_probes(ports=[ListenAddress(config.host, port) for port in astuple(config.ports)])
