"""The fork rules for a stream: a known chain's, or inferred from its flashblocks."""

from __future__ import annotations

import logging
from typing import Final

from flashctl.core.flashblocks.sequence import Payload
from flashctl.eth.transactions import InvalidTransaction, decode_transaction
from flashctl.op.config import ChainConfig, schedule_up_to
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import InvalidL1Attributes, decode_l1_attributes
from flashctl.op.registry import chain_by_id

__all__ = ["ChainRules", "inferred_fork"]

_LOG = logging.getLogger(__name__)

_HOLOCENE_EXTRA_DATA: Final = 9
_JOVIAN_EXTRA_DATA: Final = 17


class ChainRules:
    """Provides the chain configuration of a payload to the overlay."""

    def __init__(self, configured: ChainConfig | None = None) -> None:
        self._config = configured
        self.chain_id: int | None = None if configured is None else configured.chain_id
        self.problem = ""
        """Why the execution will differ from the node's; one line."""

    def connected(self, chain_id: int) -> None:
        """Record the node's chain id."""
        if self.chain_id not in (None, chain_id):
            self.problem = f"the node follows chain {chain_id}, the rules are those of chain {self.chain_id}"
            _LOG.warning("%s", self.problem)
            return
        self.chain_id = chain_id
        if self._config is None:
            self._config = chain_by_id(chain_id)

    def __call__(self, payload: Payload) -> ChainConfig:
        """The configuration to execute `payload` with."""
        if self._config is not None:
            return self._config
        fork = inferred_fork(payload)
        return ChainConfig(self.chain_id or 0, schedule_up_to(fork))


def inferred_fork(payload: Payload) -> OpFork:
    """The fork of a block, inferred from the layout of its L1 attributes and the length of its extraData.

    For chains without --chain, --genesis or an entry in the registry. The block that activates a fork still
    has the old layout, so the previous fork is inferred for it; not for its successor.
    """
    extra = len(payload.base.extra_data)
    if extra == _JOVIAN_EXTRA_DATA:
        return OpFork.JOVIAN
    layout = OpFork.ISTHMUS
    for raw in payload.flashblocks[0].diff.transactions[:1]:
        try:
            layout, _ = decode_l1_attributes(decode_transaction(raw).data)
        except (InvalidTransaction, InvalidL1Attributes):
            continue
    if extra == _HOLOCENE_EXTRA_DATA:
        return max(layout, OpFork.HOLOCENE)
    return min(max(layout, OpFork.ECOTONE), OpFork.GRANITE)
