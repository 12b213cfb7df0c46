"""EIP-1559 parameters in payload attributes and in the header's extra data.

From Holocene the sequencer chooses them: eight bytes of payload attributes become nine bytes of extra data
(version 0), from Jovian seventeen (version 1, with the minimum base fee), and the *child* block reads them
back when it computes its base fee. Both zero in the attributes asks for the chain's constants, which are then
written out. https://specs.optimism.io/protocol/holocene/exec-engine.html,
https://specs.optimism.io/protocol/jovian/exec-engine.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flashctl.errors import DataError
from flashctl.op.config import ChainConfig
from flashctl.op.forks import OpFork

__all__ = [
    "FeeParameters",
    "InvalidFeeParameters",
    "changes_form",
    "decode_extra_data",
    "decode_parameters",
    "encode_extra_data",
]

PARAMETERS_SIZE: Final = 8
HOLOCENE_SIZE: Final = 9
JOVIAN_SIZE: Final = 17
_HOLOCENE_VERSION: Final = 0
_JOVIAN_VERSION: Final = 1


class InvalidFeeParameters(DataError):
    """EIP-1559 parameters that the fork does not allow; the message is worded as op-node words it."""


@dataclass(frozen=True, slots=True)
class FeeParameters:
    """The base fee parameters of a block's child, from the block's header."""

    denominator: int
    """Bound on the change per block: at most 1/denominator (unsigned 32 bits)."""

    elasticity: int
    """Gas limit divided by gas target (unsigned 32 bits)."""

    min_base_fee: int = 0
    """Floor in wei, from Jovian (unsigned 64 bits)."""


def decode_parameters(parameters: bytes) -> FeeParameters | None:
    """Decode the `eip1559Params` of payload attributes; None stands for "the chain's constants".

    Raises:
        InvalidFeeParameters: If the length is wrong or exactly one of the two is zero.
    """
    if len(parameters) != PARAMETERS_SIZE:
        raise InvalidFeeParameters(f"holocene eip-1559 params should be 8 bytes, got {len(parameters)}")
    denominator, elasticity = _pair(parameters)
    if denominator == 0 and elasticity == 0:
        return None
    if denominator == 0:
        raise InvalidFeeParameters("holocene params cannot have a 0 denominator unless elasticity is also 0")
    if elasticity == 0:
        raise InvalidFeeParameters("holocene params cannot have a 0 elasticity unless denominator is also 0")
    return FeeParameters(denominator, elasticity)


def changes_form(before: OpFork, fork: OpFork) -> bool:
    """Whether extra data has another form under `fork` than under `before`, the fork of the parent."""
    return (before.has_fee_parameters, before.has_min_base_fee) != (
        fork.has_fee_parameters,
        fork.has_min_base_fee,
    )


def encode_extra_data(
    config: ChainConfig, timestamp: int, parameters: bytes | None, min_base_fee: int | None
) -> bytes:
    """The extra data of a block built from payload attributes.

    Args:
        config: Source of the constants that zero parameters ask for.
        timestamp: The block's own, in seconds.
        parameters: `eip1559Params` of the attributes.
        min_base_fee: `minBaseFee` of the attributes, in wei.

    Raises:
        InvalidFeeParameters: If a value is missing where the fork requires it, present where it does not, or
            malformed.
    """
    fork = config.fork_at(timestamp)
    if not fork.has_fee_parameters and parameters is not None:
        raise InvalidFeeParameters("got eip1559 params, expected none")
    if not fork.has_min_base_fee and min_base_fee is not None:
        raise InvalidFeeParameters("got minBaseFee, expected none before jovian")
    if not fork.has_fee_parameters:
        return b""
    if parameters is None:
        raise InvalidFeeParameters("missing eip1559 params")
    if fork.has_min_base_fee and min_base_fee is None:
        raise InvalidFeeParameters("missing minBaseFee")
    decoded = decode_parameters(parameters)
    if decoded is None:
        decoded = FeeParameters(config.default_denominator(timestamp), config.eip1559_elasticity)
    pair = decoded.denominator.to_bytes(4, "big") + decoded.elasticity.to_bytes(4, "big")
    if min_base_fee is None:
        return bytes((_HOLOCENE_VERSION,)) + pair
    return bytes((_JOVIAN_VERSION,)) + pair + min_base_fee.to_bytes(8, "big")


def decode_extra_data(fork: OpFork, extra_data: bytes) -> FeeParameters | None:
    """Decode the extra data of a header of this fork; None before Holocene, where it is empty.

    Raises:
        InvalidFeeParameters: If length, version or values are not what the fork prescribes.
    """
    if not fork.has_fee_parameters:
        if extra_data:
            raise InvalidFeeParameters(
                f"extraData should be empty before holocene, got {len(extra_data)} bytes"
            )
        return None
    name, size, version = (
        ("jovian", JOVIAN_SIZE, _JOVIAN_VERSION)
        if fork.has_min_base_fee
        else ("holocene", HOLOCENE_SIZE, _HOLOCENE_VERSION)
    )
    if len(extra_data) != size:
        raise InvalidFeeParameters(f"{name} extraData should be {size} bytes, got {len(extra_data)}")
    if extra_data[0] != version:
        raise InvalidFeeParameters(f"{name} extraData version byte should be {version}, got {extra_data[0]}")
    denominator, elasticity = _pair(extra_data[1:9])
    if denominator == 0:
        raise InvalidFeeParameters(f"{name} extraData must encode a non-zero denominator")
    if elasticity == 0:
        raise InvalidFeeParameters(f"{name} extraData must encode a non-zero elasticity")
    return FeeParameters(denominator, elasticity, int.from_bytes(extra_data[9:], "big"))


def _pair(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
