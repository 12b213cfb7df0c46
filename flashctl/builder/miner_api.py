"""Limits changed at run time: `miner_setMaxDASize` and `miner_setGasLimit`.

op-batcher lowers the data of a block when L1 is congested, through every engine that may build the next one.
Zero removes a limit. A change applies from the next payload on: flashblocks of the block being built are
already preconfirmed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from flashctl.builder.config import BuildConfig
from flashctl.builder.payload.job import JobLimits
from flashctl.core.jsonrpc.errors import invalid_params, reading_params
from flashctl.core.jsonrpc.methods import Methods, required
from flashctl.eth.hexdata import parse_quantity

__all__ = ["MinerApi"]

_LOG = logging.getLogger(__name__)


class MinerApi:
    """The limits of payload jobs, and the methods that change them."""

    def __init__(self, config: BuildConfig) -> None:
        self._limits = JobLimits(block_bytes=config.max_block_bytes, tx_time_s=config.max_tx_time_s)

    def limits(self) -> JobLimits:
        """The limits for a payload that starts now."""
        return self._limits

    def register(self, methods: Methods) -> None:
        """Add the methods to a table."""
        methods.register("miner_setMaxDASize", self._set_max_da_size)
        methods.register("miner_setGasLimit", self._set_gas_limit)

    async def _set_max_da_size(self, params: list[Any]) -> bool:
        tx_bytes = _number(required(params, 0, "maxTxSize"))
        block_bytes = _number(required(params, 1, "maxBlockSize"))
        limits = replace(self._limits, tx_da_bytes=tx_bytes or None, block_da_bytes=block_bytes or None)
        if limits != self._limits:  # op-batcher repeats the call every few seconds
            self._limits = limits
            _LOG.info("data limits changed", extra={"per_tx": tx_bytes, "per_block": block_bytes})
        return True

    async def _set_gas_limit(self, params: list[Any]) -> bool:
        gas = _number(required(params, 0, "gasLimit"))
        if (gas or None) != self._limits.gas:
            self._limits = replace(self._limits, gas=gas or None)
            _LOG.info("gas limit of payloads changed", extra={"gas": gas})
        return True


def _number(value: Any) -> int:
    """A quantity; a JSON number is accepted too, as in op-reth, whose tests send one."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise invalid_params(f"{value} is negative")
        return value
    with reading_params():
        return parse_quantity(value)
