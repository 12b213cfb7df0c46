"""The protocol of the builder's execution backend, and its implementation on the embedded chain.

    Backend.build(parent, attributes)    one block that grows
    BlockBuild.execute(envelope)         a transaction at its end, or a refusal that changes nothing
    BlockBuild.seal()                    everything so far as a complete, valid block

Sealing does not end a build: each flashblock is a seal, and the next one continues from there. Job, schedule,
mempool and publisher depend on this protocol only, so that another engine can take the chain's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flashctl.builder.payload.budget import Usage
from flashctl.chain.chain import Chain
from flashctl.eth.blocks import Header
from flashctl.evm.message import Deadline
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockContext, BlockExecution, SealedBlock, TransactionResult
from flashctl.op.fees import da_footprint_scalar_or_default

__all__ = ["BlockBuild", "EmbeddedBackend", "ExecutionBackend"]


class BlockBuild(Protocol):
    """One block under construction."""

    @property
    def number(self) -> int:
        """Of the block."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether every exception so far left the block unchanged; if not, the build is lost."""
        ...

    @property
    def gas_limit(self) -> int:
        """Of the header."""
        ...

    @property
    def base_fee(self) -> int:
        """Wei per gas."""
        ...

    @property
    def envelopes(self) -> Sequence[TxEnvelope]:
        """Everything executed so far, in order."""
        ...

    @property
    def usage(self) -> Usage:
        """What the block holds so far."""
        ...

    def nonce_of(self, sender: bytes) -> int:
        """A sender's nonce in the state so far."""
        ...

    def da_footprint_gas_scalar(self) -> int | None:
        """Gas per estimated byte of data; None before Jovian. Valid once the L1 attributes are executed."""
        ...

    def execute(self, envelope: TxEnvelope, deadline: Deadline | None = None) -> TransactionResult:
        """Append a transaction.

        Raises:
            TransactionRejected: It cannot be part of the block here; nothing has changed.
            ExecutionTimeout: The deadline passed; nothing has changed.
        """
        ...

    def seal(self) -> SealedBlock:
        """A complete block of everything so far."""
        ...


class ExecutionBackend(Protocol):
    """An engine that executes blocks."""

    @property
    def config(self) -> ChainConfig:
        """Fork times and chain id."""
        ...

    def build(self, parent: Header, attributes: PayloadAttributes) -> BlockBuild:
        """Start a block on a known parent.

        Raises:
            InvalidAttributes, InvalidFeeParameters: The fork of the block does not allow these attributes.
        """
        ...


class EmbeddedBackend:
    """Builds on this process's own chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @property
    def config(self) -> ChainConfig:
        return self._chain.config

    def build(self, parent: Header, attributes: PayloadAttributes) -> BlockBuild:
        chain = self._chain
        context = BlockContext.from_attributes(chain.config, parent, attributes)
        execution = BlockExecution(
            chain.config, parent, context, chain.world(parent.hash), chain.ancestor_hash(parent.hash)
        )
        return _EmbeddedBuild(execution)


class _EmbeddedBuild:
    def __init__(self, execution: BlockExecution) -> None:
        self._execution = execution
        self._da_bytes = 0
        self._encoded_bytes = 0

    @property
    def number(self) -> int:
        return self._execution.context.number

    @property
    def is_whole(self) -> bool:
        return self._execution.is_whole

    @property
    def gas_limit(self) -> int:
        return self._execution.context.gas_limit

    @property
    def base_fee(self) -> int:
        return self._execution.context.base_fee

    @property
    def envelopes(self) -> Sequence[TxEnvelope]:
        return self._execution.envelopes

    @property
    def usage(self) -> Usage:
        return Usage(self._execution.gas_used, self._da_bytes, self._encoded_bytes)

    def nonce_of(self, sender: bytes) -> int:
        account = self._execution.state.account(int.from_bytes(sender, "big"))
        return account.nonce if account is not None else 0

    def da_footprint_gas_scalar(self) -> int | None:
        if not self._execution.fork.has_da_footprint:
            return None
        return da_footprint_scalar_or_default(self._execution.fee_parameters.da_footprint_gas_scalar)

    def execute(self, envelope: TxEnvelope, deadline: Deadline | None = None) -> TransactionResult:
        # Before the block changes: nothing may fail between there and here.
        da_bytes = 0 if envelope.is_deposit else envelope.da_size
        result = self._execution.execute(envelope, deadline=deadline)
        self._encoded_bytes += len(envelope.raw)
        self._da_bytes += da_bytes
        return result

    def seal(self) -> SealedBlock:
        return self._execution.seal()
