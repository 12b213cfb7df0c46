"""What a transaction pays on an OP chain beyond gas: the L1 data fee and the operator fee.

Both follow parameters that the L1 attributes deposit writes into the L1Block predeploy at the start of every
block, so they are read from the state *after* the block's deposits. A fork's slots are only read under that
fork: on a state that holds no more than what the chain itself touched (a witness), one read too many cannot
be answered.

https://specs.optimism.io/protocol/exec-engine.html#l1-cost-fees-l1-fee-vault,
https://specs.optimism.io/protocol/isthmus/exec-engine.html#operator-fee
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol

from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes

__all__ = [
    "BASE_FEE_VAULT",
    "L1_BLOCK",
    "L1_FEE_VAULT",
    "OPERATOR_FEE_VAULT",
    "SEQUENCER_FEE_VAULT",
    "FeeParameterSlots",
    "L1FeeParameters",
    "da_footprint_scalar_or_default",
    "estimated_da_size",
    "l1_fee",
    "l1_gas_used",
    "operator_fee",
    "read_fee_parameters",
]

L1_BLOCK: Final = 0x4200000000000000000000000000000000000015
SEQUENCER_FEE_VAULT: Final = 0x4200000000000000000000000000000000000011
"""Where op-node directs priority fees; the block's fee recipient decides."""
BASE_FEE_VAULT: Final = 0x4200000000000000000000000000000000000019
L1_FEE_VAULT: Final = 0x420000000000000000000000000000000000001A
OPERATOR_FEE_VAULT: Final = 0x420000000000000000000000000000000000001B

DEFAULT_DA_FOOTPRINT_GAS_SCALAR: Final = 400
"""Gas per estimated byte where the L1 attributes hold zero (Jovian)."""

_SLOT_L1_BASE_FEE: Final = 1
_SLOT_SCALARS: Final = 3
_SLOT_OVERHEAD: Final = 5
_SLOT_BEDROCK_SCALAR: Final = 6
_SLOT_BLOB_BASE_FEE: Final = 7
_SLOT_OPERATOR: Final = 8

_FJORD: Final = OpFork.FJORD
_ISTHMUS: Final = OpFork.ISTHMUS
_JOVIAN: Final = OpFork.JOVIAN
"""Names for what every transaction is compared with: reading a member of an enum takes 0.15 us in CPython
3.11, and a transfer would do it ten times."""

_U16: Final = 0xFFFF
_U32: Final = 0xFFFFFFFF
_U64: Final = 0xFFFFFFFFFFFFFFFF

_FJORD_INTERCEPT: Final = -42_585_600
_FJORD_COEFFICIENT: Final = 836_500
_FJORD_MINIMUM: Final = 100_000_000
"""Linear regression of compressed size over FastLZ length, scaled by a million; at least 100 bytes."""

_PRE_REGOLITH_SIGNATURE_BYTES: Final = 68


class FeeParameterSlots(Protocol):
    """The one thing read from a state here."""

    def storage(self, address: int, slot: int, /) -> int:
        """The value of a storage slot."""
        ...


@dataclass(frozen=True, slots=True)
class L1FeeParameters:
    """L1Block's fee parameters as one block sees them; those of later forks stay zero."""

    base_fee: int
    """L1 base fee, wei per gas."""

    blob_base_fee: int = 0
    """L1 blob base fee, wei per blob gas (Ecotone)."""

    base_fee_scalar: int = 0
    """Weight of the base fee, millionths (Ecotone)."""

    blob_base_fee_scalar: int = 0
    """Weight of the blob base fee, millionths (Ecotone)."""

    overhead: int = 0
    """L1 gas added to every transaction (Bedrock)."""

    scalar: int = 0
    """Weight of the fee, millionths (Bedrock)."""

    bedrock_formula: bool = False
    """Whether the first formula applies: before Ecotone, and in the block that activates it."""

    operator_fee_scalar: int = 0
    """Operator fee per gas: millionths of a wei (Isthmus), hundreds of wei (Jovian)."""

    operator_fee_constant: int = 0
    """Operator fee per transaction, wei (Isthmus)."""

    da_footprint_gas_scalar: int = 0
    """Gas per estimated byte of data (Jovian); zero stands for 400."""

    @classmethod
    def from_attributes(cls, layout: OpFork, attributes: L1Attributes) -> L1FeeParameters:
        """What an L1 attributes deposit sets for its block.

        Args:
            layout: Of its calldata, by the fork that brought it (`l1_attributes.decode_l1_attributes`).
        """
        return cls(
            attributes.base_fee,
            attributes.blob_base_fee,
            attributes.base_fee_scalar,
            attributes.blob_base_fee_scalar,
            attributes.overhead,
            attributes.scalar,
            bedrock_formula=not layout.prices_blobs,
            operator_fee_scalar=attributes.operator_fee_scalar,
            operator_fee_constant=attributes.operator_fee_constant,
            da_footprint_gas_scalar=attributes.da_footprint_gas_scalar,
        )


def read_fee_parameters(state: FeeParameterSlots, fork: OpFork) -> L1FeeParameters:
    """Read what the block's L1 attributes deposit stored, as far as the fork uses it."""
    base_fee = state.storage(L1_BLOCK, _SLOT_L1_BASE_FEE)
    if not fork.prices_blobs:
        return _bedrock_parameters(state, base_fee)
    packed = state.storage(L1_BLOCK, _SLOT_SCALARS)
    base_fee_scalar, blob_scalar = packed >> 96 & _U32, packed >> 64 & _U32
    blob_base_fee = state.storage(L1_BLOCK, _SLOT_BLOB_BASE_FEE)
    if base_fee_scalar or blob_scalar or blob_base_fee:
        data_fee = L1FeeParameters(base_fee, blob_base_fee, base_fee_scalar, blob_scalar)
    else:
        # The block that activates Ecotone still carries Bedrock's attributes, so Ecotone's are unset. Only
        # the data fee goes back to them: what later forks write has a slot of its own.
        data_fee = _bedrock_parameters(state, base_fee)
    if not fork.has_operator_fee:
        return data_fee
    operator = state.storage(L1_BLOCK, _SLOT_OPERATOR)
    return replace(
        data_fee,
        operator_fee_scalar=operator >> 64 & _U32,
        operator_fee_constant=operator & _U64,
        da_footprint_gas_scalar=operator >> 96 & _U16 if fork.has_da_footprint else 0,
    )


def _bedrock_parameters(state: FeeParameterSlots, base_fee: int) -> L1FeeParameters:
    overhead = state.storage(L1_BLOCK, _SLOT_OVERHEAD)
    scalar = state.storage(L1_BLOCK, _SLOT_BEDROCK_SCALAR)
    return L1FeeParameters(base_fee, overhead=overhead, scalar=scalar, bedrock_formula=True)


def estimated_da_size(fastlz_size: int) -> int:
    """Millionths of a byte that a transaction is estimated to take on L1 (Fjord's regression)."""
    size = _FJORD_INTERCEPT + _FJORD_COEFFICIENT * fastlz_size
    return size if size > _FJORD_MINIMUM else _FJORD_MINIMUM


def da_footprint_scalar_or_default(scalar: int) -> int:
    """Gas per estimated byte, with Jovian's default for an unset parameter."""
    return scalar or DEFAULT_DA_FOOTPRINT_GAS_SCALAR


def _calldata_gas(raw: bytes, fork: OpFork) -> int:
    zeros = raw.count(0)
    gas = 4 * zeros + 16 * (len(raw) - zeros)
    return gas if fork >= OpFork.REGOLITH else gas + 16 * _PRE_REGOLITH_SIGNATURE_BYTES


def l1_fee(parameters: L1FeeParameters, fork: OpFork, raw: bytes, fastlz_size: int) -> int:
    """The L1 data fee of a signed transaction in wei; deposits pay none.

    Args:
        parameters: As the block's L1 attributes left them.
        fork: Of the block.
        raw: EIP-2718 encoding with signature; counted byte by byte before Fjord.
        fastlz_size: Its FastLZ length, used from Fjord.
    """
    if parameters.bedrock_formula:
        gas = _calldata_gas(raw, fork) + parameters.overhead
        return gas * parameters.base_fee * parameters.scalar // 1_000_000
    price = 16 * parameters.base_fee * parameters.base_fee_scalar
    price += parameters.blob_base_fee * parameters.blob_base_fee_scalar
    if fork < _FJORD:
        return _calldata_gas(raw, fork) * price // 16_000_000
    return estimated_da_size(fastlz_size) * price // 10**12


def l1_gas_used(parameters: L1FeeParameters, fork: OpFork, raw: bytes, fastlz_size: int) -> int:
    """The `l1GasUsed` of a receipt: the estimate in L1 calldata gas, for display only."""
    if parameters.bedrock_formula:
        return _calldata_gas(raw, fork) + parameters.overhead
    if not fork.prices_compressed_size:
        return _calldata_gas(raw, fork)
    return estimated_da_size(fastlz_size) * 16 // 1_000_000


def operator_fee(parameters: L1FeeParameters, fork: OpFork, gas: int) -> int:
    """The operator fee in wei for `gas` units; zero before Isthmus."""
    if fork < _ISTHMUS:
        return 0
    if fork < _JOVIAN:
        return gas * parameters.operator_fee_scalar // 1_000_000 + parameters.operator_fee_constant
    return gas * parameters.operator_fee_scalar * 100 + parameters.operator_fee_constant
