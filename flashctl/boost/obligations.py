"""Conformance of a builder's block to the consensus client's request, in content and in form.

The fallback's newPayload decides whether a block is valid on its parent. It does not have the attributes, and
a valid block can still cost the chain a block or a reorganisation: another fee recipient or gas limit, a
user's deposit left out or one invented (derivation from L1 would disagree), a beacon root that only the
builder used, EIP-1559 parameters that let the base fee fall by half in each block. And newPayload takes a
payload, so it never sees the rest of the envelope, which a typed consensus client must parse. Both are
checked here, for flashblocks before they are published and for whole blocks before the fallback validates
them.

Pure functions. For any input from the builder they return a text or raise `Unusable`.
Sources: https://specs.optimism.io/protocol/exec-engine.html, execution-apis src/engine/{cancun,prague}.md,
Holocene's and Jovian's exec-engine.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from flashctl.core.engine.payloads import payload_from_json
from flashctl.core.flashblocks.wire import Flashblock
from flashctl.errors import DataError
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.extra_data import HOLOCENE_SIZE, JOVIAN_SIZE

__all__ = [
    "CHAIN_DEFAULTS",
    "MAX_TRANSACTIONS",
    "Unusable",
    "block_difference",
    "count_transactions",
    "first_difference",
    "fixed_by_parent_difference",
    "later_difference",
    "parameters_of",
    "read_envelope",
    "read_transactions",
]

ISTHMUS_VERSION: Final = 4
"""getPayload from this version on carries requests and a withdrawals root."""

MAX_TRANSACTIONS: Final = 100_000
"""In one block: 21,000 gas each make 2.1 Ggas, ten times the largest limit of an OP chain."""

_DEPOSIT_TYPE: Final = 0x7E
CHAIN_DEFAULTS: Final = bytes(8)
"""`eip1559Params` that ask for the chain's own constants."""

_QUANTITIES: Final = (
    "blockNumber",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
)
_PAYLOAD_FIELDS: Final = (
    "parentHash",
    "feeRecipient",
    "stateRoot",
    "receiptsRoot",
    "logsBloom",
    "prevRandao",
    "extraData",
    "blockHash",
    "transactions",
    "withdrawals",
    *_QUANTITIES,
)
_BLOBS: Final = ("commitments", "proofs", "blobs")


class Unusable(Exception):
    """The block cannot be used; the text gives the reason, for the log."""


class Fixed(Protocol):
    """The fields fixed before the first transaction, common to a flashblock's base and a header."""

    @property
    def parent_hash(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def gas_limit(self) -> int: ...
    @property
    def prev_randao(self) -> bytes: ...
    @property
    def fee_recipient(self) -> bytes: ...
    @property
    def parent_beacon_block_root(self) -> bytes | None: ...
    @property
    def extra_data(self) -> bytes: ...


# --- content: the attributes ---


def first_difference(
    first: Flashblock, parent_hash: bytes, wanted: PayloadAttributes, defaults: bytes | None
) -> str:
    """How index 0 of a payload departs from the request; empty if it does not.

    Args:
        first: the flashblock.
        parent_hash: of the block asked for.
        wanted: the attributes.
        defaults: the chain's EIP-1559 constants as `eip1559Params`; None while unknown, and then any are
            accepted until the fallback's own block shows them.
    """
    if first.base is None:
        return "no base"
    return (
        _fixed_difference(first.base, parent_hash, wanted, defaults)
        or _transactions_difference(first.diff.transactions, wanted.transactions)
        or _withdrawals_difference(first)
    )


def later_difference(flashblock: Flashblock) -> str:
    """How an index above 0 departs from what any request allows; empty if it does not."""
    return _transactions_difference(flashblock.diff.transactions, ()) or _withdrawals_difference(flashblock)


def block_difference(
    block: Block, parent_hash: bytes, wanted: PayloadAttributes, version: int, defaults: bytes | None
) -> str:
    """How a block departs from the request that getPayload of `version` answers; empty if it does not."""
    header = block.header
    if (header.requests_hash is not None) != (version >= ISTHMUS_VERSION):
        return f"block is of another fork than getPayloadV{version}"
    for name, number in (
        ("block number", header.number),
        ("gas used", header.gas_used),
        ("blob gas used", header.blob_gas_used or 0),
    ):
        if number.bit_length() > 64:
            return f"{name} does not fit 64 bits"
    return _fixed_difference(header, parent_hash, wanted, defaults) or _transactions_difference(
        block.transactions, wanted.transactions
    )


def fixed_by_parent_difference(block: Block, own: Mapping[str, Any]) -> str:
    """How a block departs from the fallback's own on the same parent in the fields that the parent fixes;
    empty if it does not. `own` is the fallback's payload, JSON."""
    header = block.header
    for name, key, given in (
        ("block number", "blockNumber", header.number),
        ("base fee", "baseFeePerGas", header.base_fee_per_gas),
        ("gas limit", "gasLimit", header.gas_limit),
    ):
        if _number(own.get(key)) != given:
            return f"{name} differs from the fallback's"
    if _data(own.get("extraData")) != header.extra_data:
        return "extra data differs from the fallback's"
    return ""


def parameters_of(own: Mapping[str, Any], wanted: PayloadAttributes) -> bytes | None:
    """The chain's EIP-1559 constants as `eip1559Params`, from a block the fallback built with them; None if
    the block does not show them."""
    if wanted.eip1559_params != CHAIN_DEFAULTS:
        return None
    extra = _data(own.get("extraData")) or b""
    return extra[1:9] if len(extra) in (HOLOCENE_SIZE, JOVIAN_SIZE) else None


def _fixed_difference(
    given: Fixed, parent_hash: bytes, wanted: PayloadAttributes, defaults: bytes | None
) -> str:
    pairs: tuple[tuple[str, object, object], ...] = (
        ("parent hash", parent_hash, given.parent_hash),
        ("timestamp", wanted.timestamp, given.timestamp),
        ("prev randao", wanted.prev_randao, given.prev_randao),
        ("fee recipient", wanted.fee_recipient, given.fee_recipient),
        # Where the attributes omit it the chain's configuration decides: compared with the fallback's block.
        ("gas limit", wanted.gas_limit, given.gas_limit if wanted.gas_limit is not None else None),
        ("beacon root", wanted.parent_beacon_block_root, given.parent_beacon_block_root),
    )
    for name, asked, got in pairs:
        if asked != got:
            return f"{name} differs"
    return _extra_data_difference(given.extra_data, wanted, defaults)


def _extra_data_difference(given: bytes, wanted: PayloadAttributes, defaults: bytes | None) -> str:
    parameters = wanted.eip1559_params
    if parameters is None:
        return "extra data before Holocene" if given else ""
    if parameters == CHAIN_DEFAULTS:
        parameters = given[1:9] if defaults is None else defaults
    floor = wanted.min_base_fee
    expected = b"\0" + parameters if floor is None else b"\1" + parameters + floor.to_bytes(8, "big")
    if given != expected:
        return "extra data differs"
    if not (any(given[1:5]) and any(given[5:9])):
        return "extra data holds a zero EIP-1559 parameter"
    return ""


def _transactions_difference(given: Sequence[bytes], forced: Sequence[bytes]) -> str:
    if tuple(given[: len(forced)]) != tuple(forced):
        return "forced transactions differ"
    if len(given) > MAX_TRANSACTIONS:
        return f"more than {MAX_TRANSACTIONS} transactions"
    for raw in given[len(forced) :]:
        if not raw:
            return "empty transaction"
        if raw[0] == _DEPOSIT_TYPE:
            return "an unrequested deposit"
    return ""


def _withdrawals_difference(flashblock: Flashblock) -> str:
    return "withdrawals on an L2" if flashblock.diff.withdrawals else ""


# --- the form ---


def count_transactions(envelope: Mapping[str, Any]) -> int:
    """The number of transactions in an envelope, a measure of the work; 0 if it is malformed."""
    payload = envelope.get("executionPayload")
    transactions = payload.get("transactions") if isinstance(payload, Mapping) else None
    return len(transactions) if isinstance(transactions, list) else 0


def read_transactions(envelope: Mapping[str, Any]) -> tuple[bytes, ...]:
    """The transactions alone of an answer to getPayload, for a rebuild by the fallback; the rebuilt block
    shows whether they begin with the forced ones.

    Raises:
        Unusable: If there is no list of them.
    """
    payload = envelope.get("executionPayload")
    transactions = payload.get("transactions") if isinstance(payload, Mapping) else None
    if not isinstance(transactions, list) or len(transactions) > MAX_TRANSACTIONS:
        raise Unusable(f"transactions is not a list of at most {MAX_TRANSACTIONS}")
    raws = [_data(value) for value in transactions]
    if not all(raws):
        raise Unusable("transactions: one is not hex, or empty")
    return tuple(raw for raw in raws if raw is not None)


def read_envelope(envelope: Mapping[str, Any], beacon_root: bytes | None, version: int) -> Block:
    """The block in an answer to getPayload of `version`.

    The consensus client's answer is serialised anew from this block, so nothing unchecked is forwarded.

    Args:
        envelope: as the builder answered.
        beacon_root: the consensus client's; the block hash is computed with it and not with the builder's.
        version: 3 to 5.

    Raises:
        Unusable: Naming the first field that is missing, of the wrong type or size, or contradicts another.
    """
    payload = envelope.get("executionPayload")
    if not isinstance(payload, Mapping):
        raise Unusable("executionPayload is not an object")
    _check_envelope(envelope, beacon_root, version)
    isthmus = version >= ISTHMUS_VERSION
    fields = (*_PAYLOAD_FIELDS, "withdrawalsRoot") if isthmus else _PAYLOAD_FIELDS
    for name in fields:
        if payload.get(name) is None:
            raise Unusable(f"{name} is missing")
    for name in _QUANTITIES:
        if not _is_quantity(payload[name], 256 if name == "baseFeePerGas" else 64):
            raise Unusable(f"{name} is not a quantity")
    if payload["withdrawals"] != []:
        raise Unusable("withdrawals is not an empty list")
    transactions = payload["transactions"]
    if not isinstance(transactions, list) or len(transactions) > MAX_TRANSACTIONS:
        raise Unusable(f"transactions is not a list of at most {MAX_TRANSACTIONS}")
    try:
        return payload_from_json(payload, beacon_root, requests=[] if isthmus else None)
    except DataError as error:
        raise Unusable(str(error)) from None


def _check_envelope(envelope: Mapping[str, Any], beacon_root: bytes | None, version: int) -> None:
    """Check everything beside the payload: for an L2 block all of it must be empty."""
    if not _is_quantity(envelope.get("blockValue"), 256):
        raise Unusable("blockValue is not a quantity")
    bundle = envelope.get("blobsBundle")
    if not isinstance(bundle, Mapping) or any(bundle.get(name) != [] for name in _BLOBS):
        raise Unusable("blobsBundle is not three empty lists")
    if not isinstance(envelope.get("shouldOverrideBuilder"), bool):
        raise Unusable("shouldOverrideBuilder is not a boolean")
    if version >= ISTHMUS_VERSION and envelope.get("executionRequests") != []:
        raise Unusable("executionRequests is not an empty list")
    if version < ISTHMUS_VERSION and envelope.get("executionRequests"):
        raise Unusable(f"executionRequests in an answer to getPayloadV{version}")
    root = _data(envelope.get("parentBeaconBlockRoot"))
    if root is None or len(root) != 32:
        raise Unusable("parentBeaconBlockRoot is not 32 bytes")
    if root != beacon_root:
        raise Unusable("beacon root differs")


def _is_quantity(value: object, bits: int) -> bool:
    """QUANTITY by the execution-apis specification: consensus clients reject leading zeros."""
    number = _number(value)
    return number is not None and number.bit_length() <= bits and value == hex(number)


def _number(value: object) -> int | None:
    try:
        return parse_quantity(value) if isinstance(value, str) else None
    except DataError:
        return None


def _data(value: object) -> bytes | None:
    try:
        return parse_hex(value) if isinstance(value, str) else None
    except DataError:
        return None
