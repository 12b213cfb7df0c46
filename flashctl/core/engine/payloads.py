"""The Engine API's vocabulary: its objects, their JSON, and which version of a method a fork uses.

    Header/Block  <--payload_from_json / payload_to_json-->   ExecutionPayload (V2 to V4, with OP's fields)
    PayloadAttributes  <--attributes_from_json / _to_json-->  PayloadAttributesV3 with OP's fields

Reading is strict: every field is checked for presence, form and size, and a payload must hash to the
`blockHash` it names. `core.engine_client` makes the calls.

Sources: execution-apis src/engine/{shanghai,cancun,prague,osaka}.md and
https://specs.optimism.io/protocol/exec-engine.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from flashctl.errors import DataError
from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Block,
    Header,
)
from flashctl.eth.hexdata import InvalidHex, parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.ordered_trie import ordered_root
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.forks import OpFork

__all__ = [
    "BlockHashMismatch",
    "ForkchoiceResult",
    "ForkchoiceState",
    "InvalidEngineObject",
    "PayloadStatus",
    "PayloadValidity",
    "attributes_from_json",
    "attributes_to_json",
    "envelope_to_json",
    "forkchoice_version",
    "get_payload_version",
    "new_payload_version",
    "new_payload_version_for",
    "payload_from_json",
    "payload_id_from_json",
    "payload_to_json",
]

PAYLOAD_ID_SIZE = 8

MAX_EXTRA_DATA_SIZE = 32
"""Yellow paper limit; the longest on OP is Jovian's 17."""


class InvalidEngineObject(DataError):
    """An object of an Engine API call lacks a field, or one has the wrong form."""


class BlockHashMismatch(DataError):
    """A payload does not hash to the block hash it names."""

    stated: Final[bytes]
    computed: Final[bytes]

    def __init__(self, stated: bytes, computed: bytes) -> None:
        super().__init__(
            f"blockhash mismatch: payload says {to_hex(stated)}, its header hashes to {to_hex(computed)}"
        )
        self.stated = stated
        self.computed = computed


class PayloadValidity(Enum):
    """What an execution client makes of a payload."""

    VALID = "VALID"
    INVALID = "INVALID"
    SYNCING = "SYNCING"
    """Ancestors are missing, so that it could not be validated yet."""
    ACCEPTED = "ACCEPTED"
    """Kept, but on a side branch and not executed."""
    INVALID_BLOCK_HASH = "INVALID_BLOCK_HASH"
    """V1's word for a payload that does not hash to its name."""


@dataclass(frozen=True, slots=True)
class PayloadStatus:
    """The answer to newPayload, and part of the answer to forkchoiceUpdated."""

    status: PayloadValidity
    latest_valid_hash: bytes | None = None
    """The newest valid ancestor of an invalid payload, or the payload itself if valid."""

    validation_error: str | None = None
    """Why a payload is invalid, for people."""

    def to_json(self) -> dict[str, Any]:
        """PayloadStatusV1."""
        return {
            "status": self.status.value,
            "latestValidHash": None if self.latest_valid_hash is None else to_hex(self.latest_valid_hash),
            "validationError": self.validation_error,
        }

    @classmethod
    def from_json(cls, value: Any) -> PayloadStatus:
        """Read PayloadStatusV1.

        Raises:
            InvalidEngineObject: If it is not one.
        """
        fields = _EngineFields(value, "payload status")
        try:
            status = PayloadValidity(fields.raw("status"))
        except ValueError:
            raise InvalidEngineObject(f"unknown payload status {str(fields.raw('status'))[:40]!r}") from None
        error = fields.source.get("validationError")
        return cls(status, fields.optional_data("latestValidHash", 32), None if error is None else str(error))


@dataclass(frozen=True, slots=True)
class ForkchoiceState:
    """The consensus client's view of the chain; zero hashes where it has none."""

    head: bytes
    safe: bytes
    finalized: bytes

    def to_json(self) -> dict[str, str]:
        """ForkchoiceStateV1."""
        return {
            "headBlockHash": to_hex(self.head),
            "safeBlockHash": to_hex(self.safe),
            "finalizedBlockHash": to_hex(self.finalized),
        }

    @classmethod
    def from_json(cls, value: Any) -> ForkchoiceState:
        """Read ForkchoiceStateV1.

        Raises:
            InvalidEngineObject: If it is not one.
        """
        fields = _EngineFields(value, "forkchoice state")
        return cls(
            fields.data("headBlockHash", 32),
            fields.data("safeBlockHash", 32),
            fields.data("finalizedBlockHash", 32),
        )


@dataclass(frozen=True, slots=True)
class ForkchoiceResult:
    """The answer to forkchoiceUpdated."""

    status: PayloadStatus
    payload_id: bytes | None = None
    """Of the build that was started; None if none was."""

    def to_json(self) -> dict[str, Any]:
        """ForkchoiceUpdatedResponse."""
        return {
            "payloadStatus": self.status.to_json(),
            "payloadId": None if self.payload_id is None else to_hex(self.payload_id),
        }

    @classmethod
    def from_json(cls, value: Any) -> ForkchoiceResult:
        """Read ForkchoiceUpdatedResponse.

        Raises:
            InvalidEngineObject: If it is not one.
        """
        fields = _EngineFields(value, "forkchoice result")
        return cls(
            PayloadStatus.from_json(fields.raw("payloadStatus")),
            fields.optional_data("payloadId", PAYLOAD_ID_SIZE),
        )


def forkchoice_version(fork: OpFork) -> int:
    """Which forkchoiceUpdated starts a build under `fork`."""
    return 3 if fork.has_beacon_root else 2 if fork.has_withdrawals else 1


def get_payload_version(fork: OpFork) -> int:
    """Which getPayload fetches a payload of `fork`."""
    if fork >= OpFork.KARST:
        return 5
    if fork.has_requests:
        return 4
    return forkchoice_version(fork)


def new_payload_version(fork: OpFork) -> int:
    """Which newPayload takes a payload of `fork`."""
    return 4 if fork.has_requests else forkchoice_version(fork)


def new_payload_version_for(get_payload: int) -> int:
    """Which newPayload takes what getPayload of version `get_payload` returned: Osaka brought only the
    former a new version."""
    return min(get_payload, 4)


def payload_id_from_json(value: Any) -> bytes:
    """The eight bytes of a payload id.

    Raises:
        InvalidEngineObject: If it is something else.
    """
    try:
        return parse_hex(value, size=PAYLOAD_ID_SIZE)
    except InvalidHex as error:
        raise InvalidEngineObject(f"invalid payload id: {error}") from None


# --- payload attributes ---


def attributes_to_json(attributes: PayloadAttributes) -> dict[str, Any]:
    """PayloadAttributesV1 to V3 with OP's fields, as many as are set."""
    result: dict[str, Any] = {
        "timestamp": quantity(attributes.timestamp),
        "prevRandao": to_hex(attributes.prev_randao),
        "suggestedFeeRecipient": to_hex(attributes.fee_recipient),
        "transactions": [to_hex(raw) for raw in attributes.transactions],
        "noTxPool": attributes.no_tx_pool,
    }
    if attributes.withdrawals is not None:
        result["withdrawals"] = []
    if attributes.parent_beacon_block_root is not None:
        result["parentBeaconBlockRoot"] = to_hex(attributes.parent_beacon_block_root)
    if attributes.gas_limit is not None:
        result["gasLimit"] = quantity(attributes.gas_limit)
    if attributes.eip1559_params is not None:
        result["eip1559Params"] = to_hex(attributes.eip1559_params)
    if attributes.min_base_fee is not None:
        # The one number of the Engine API that is not hex (op-geth eth/catalyst, op-alloy).
        result["minBaseFee"] = attributes.min_base_fee
    return result


def attributes_from_json(value: Any) -> PayloadAttributes:
    """Read payload attributes; whether the fork has those fields is checked by
    `op.attributes.check_attributes`.

    Raises:
        InvalidEngineObject: If a field is missing or malformed.
    """
    fields = _EngineFields(value, "payload attributes")
    no_tx_pool = fields.source.get("noTxPool", False)
    if no_tx_pool is not None and not isinstance(no_tx_pool, bool):
        raise InvalidEngineObject("payload attributes: noTxPool is not a boolean")
    withdrawals = fields.source.get("withdrawals")
    if withdrawals:
        raise InvalidEngineObject("payload attributes: an L2 block has no withdrawals")
    return PayloadAttributes(
        timestamp=fields.number("timestamp", 64),
        prev_randao=fields.data("prevRandao", 32),
        fee_recipient=fields.data("suggestedFeeRecipient", 20),
        transactions=fields.transactions("transactions") if fields.source.get("transactions") else (),
        no_tx_pool=bool(no_tx_pool),
        gas_limit=fields.optional_number("gasLimit", 64),
        parent_beacon_block_root=fields.optional_data("parentBeaconBlockRoot", 32),
        eip1559_params=fields.optional_data("eip1559Params", 8),
        min_base_fee=fields.optional_number("minBaseFee", 64),
        withdrawals=None if withdrawals is None else (),
    )


# --- payloads ---


def payload_to_json(block: Block) -> dict[str, Any]:
    """ExecutionPayload V1 to V4 of a block: the fields its fork has."""
    header = block.header
    result: dict[str, Any] = {
        "parentHash": to_hex(header.parent_hash),
        "feeRecipient": to_hex(header.fee_recipient),
        "stateRoot": to_hex(header.state_root),
        "receiptsRoot": to_hex(header.receipts_root),
        "logsBloom": to_hex(header.logs_bloom),
        "prevRandao": to_hex(header.prev_randao),
        "blockNumber": quantity(header.number),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": to_hex(header.extra_data),
        "baseFeePerGas": quantity(header.base_fee_per_gas or 0),
        "blockHash": to_hex(header.hash),
        "transactions": [to_hex(raw) for raw in block.transactions],
    }
    if header.withdrawals_root is not None:
        result["withdrawals"] = []
    if header.blob_gas_used is not None and header.excess_blob_gas is not None:
        result["blobGasUsed"] = quantity(header.blob_gas_used)
        result["excessBlobGas"] = quantity(header.excess_blob_gas)
    if header.requests_hash is not None and header.withdrawals_root is not None:
        # Isthmus: the root is the message passer's storage root and no longer follows from the list.
        result["withdrawalsRoot"] = to_hex(header.withdrawals_root)
    return result


def envelope_to_json(block: Block, *, block_value: int = 0) -> dict[str, Any]:
    """The answer to getPayload V2 to V5 for a block, with OP's `parentBeaconBlockRoot`."""
    result: dict[str, Any] = {"executionPayload": payload_to_json(block), "blockValue": quantity(block_value)}
    header = block.header
    if header.parent_beacon_block_root is not None:
        result["blobsBundle"] = {"commitments": [], "proofs": [], "blobs": []}
        result["shouldOverrideBuilder"] = False
        result["parentBeaconBlockRoot"] = to_hex(header.parent_beacon_block_root)
    if header.requests_hash is not None:
        result["executionRequests"] = []
    return result


def payload_from_json(
    value: Any,
    parent_beacon_block_root: bytes | None = None,
    *,
    requests: Sequence[Any] | None = None,
) -> Block:
    """The block in an ExecutionPayload, checked to hash to its `blockHash`.

    Args:
        value: the payload.
        parent_beacon_block_root: newPayload's third parameter, from V3.
        requests: newPayload's fourth, from V4; empty on an L2, None before.

    Raises:
        InvalidEngineObject: If a field is missing or malformed.
        BlockHashMismatch: If the header made of it has another hash.
    """
    fields = _EngineFields(value, "payload")
    if requests:
        raise InvalidEngineObject("an L2 block has no execution requests")
    if fields.source.get("withdrawals"):
        raise InvalidEngineObject("payload: an L2 block has no withdrawals")
    shanghai = fields.source.get("withdrawals") is not None
    transactions = fields.transactions("transactions")
    header = Header(
        parent_hash=fields.data("parentHash", 32),
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=fields.data("feeRecipient", 20),
        state_root=fields.data("stateRoot", 32),
        transactions_root=ordered_root(transactions),
        receipts_root=fields.data("receiptsRoot", 32),
        logs_bloom=fields.data("logsBloom", 256),
        difficulty=0,
        number=fields.number("blockNumber", 64),
        gas_limit=fields.number("gasLimit", 64),
        gas_used=fields.number("gasUsed", 64),
        timestamp=fields.number("timestamp", 64),
        extra_data=fields.data("extraData", None),
        prev_randao=fields.data("prevRandao", 32),
        nonce=bytes(8),
        base_fee_per_gas=fields.number("baseFeePerGas", 256),
        withdrawals_root=EMPTY_TRIE_ROOT if shanghai else None,
    )
    if len(header.extra_data) > MAX_EXTRA_DATA_SIZE:
        raise InvalidEngineObject(f"payload: extraData is longer than {MAX_EXTRA_DATA_SIZE} bytes")
    if parent_beacon_block_root is not None:
        header = replace(
            header,
            blob_gas_used=fields.number("blobGasUsed", 64),
            excess_blob_gas=fields.number("excessBlobGas", 64),
            parent_beacon_block_root=parent_beacon_block_root,
        )
    if requests is not None:
        header = replace(
            header,
            withdrawals_root=fields.data("withdrawalsRoot", 32),
            requests_hash=EMPTY_REQUESTS_HASH,
        )
    stated = fields.data("blockHash", 32)
    if header.hash != stated:
        raise BlockHashMismatch(stated, header.hash)
    return Block(header, transactions, () if shanghai else None)


class _EngineFields:
    """A JSON object being read; every failure names the object and the field."""

    __slots__ = ("source", "what")

    def __init__(self, source: Any, what: str) -> None:
        if not isinstance(source, Mapping):
            raise InvalidEngineObject(f"{what} is not an object")
        self.source = source
        self.what = what

    def raw(self, key: str) -> Any:
        value = self.source.get(key)
        if value is None:
            raise InvalidEngineObject(f"{self.what}: missing {key}")
        return value

    def data(self, key: str, size: int | None) -> bytes:
        try:
            return parse_hex(self.raw(key), size=size)
        except InvalidHex as error:
            raise InvalidEngineObject(f"{self.what}: {key}: {error}") from None

    def optional_data(self, key: str, size: int | None) -> bytes | None:
        return None if self.source.get(key) is None else self.data(key, size)

    def number(self, key: str, bits: int) -> int:
        raw = self.raw(key)
        if isinstance(raw, int) and not isinstance(raw, bool):
            number = raw
        else:
            try:
                number = parse_quantity(raw)
            except InvalidHex as error:
                raise InvalidEngineObject(f"{self.what}: {key}: {error}") from None
        if number < 0 or number.bit_length() > bits:
            raise InvalidEngineObject(f"{self.what}: {key} does not fit {bits} bits")
        return number

    def optional_number(self, key: str, bits: int) -> int | None:
        return None if self.source.get(key) is None else self.number(key, bits)

    def transactions(self, key: str) -> tuple[bytes, ...]:
        values = self.raw(key)
        if not isinstance(values, list):
            raise InvalidEngineObject(f"{self.what}: {key} is not a list")
        try:
            raws = tuple([parse_hex(value) for value in values])
        except InvalidHex as error:
            raise InvalidEngineObject(f"{self.what}: {key}: {error}") from None
        if not all(raws):
            raise InvalidEngineObject(f"{self.what}: {key}: empty transaction")
        return raws
