"""The transaction object and the override objects of `eth_call` and its relatives, from JSON.

Pure: a node with a chain and an overlay without one read the same objects. Refusals are worded as geth does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from flashctl.core.jsonrpc.methods import optional, required
from flashctl.errors import InvalidParams
from flashctl.eth.hexdata import InvalidHex, parse_hex, parse_quantity
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    Authorization,
    BlobTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    SignedTransaction,
)
from flashctl.op.call import CallRequest, Simulation
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.overrides import AccountOverride, BlockOverrides
from flashctl.op.simulation_plan import SimulatedCall

__all__ = [
    "InvalidCall",
    "block_overrides",
    "call_request",
    "simulated_call",
    "simulation_param",
    "state_overrides",
]

MAX_OVERRIDDEN_ACCOUNTS: Final = 1_000
MAX_OVERRIDDEN_SLOTS: Final = 100_000
MAX_LIST_ENTRIES: Final = 10_000
"""Bounds on what one call brings along, far above what tools send."""

_TWO_FEE_STYLES: Final = "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
_UNSIGNED: Final = (0, 0, 0)
"""Where a signature would be."""

_ADDRESS: Final = 20
_WORD: Final = 32

_T = TypeVar("_T")


class InvalidCall(InvalidParams):
    """A call or override object that makes no sense; the text is the message of the JSON-RPC error."""


def simulation_param(
    params: list[Any], config: ChainConfig, context: BlockContext, *, gas_cap: int
) -> Simulation:
    """What the parameters `[transaction, block, state overrides, block overrides]` ask for.

    Args:
        context: Of the block that the second parameter names.

    Raises:
        RpcError: If there is no transaction object.
        InvalidCall: If one of the objects is malformed.
    """
    fields = required(params, 0, "transaction")
    return Simulation(
        config,
        context,
        call_request(fields, base_fee=context.base_fee, chain_id=config.chain_id),
        state_overrides(optional(params, 2)),
        block_overrides(optional(params, 3)),
        gas_cap,
    )


def call_request(fields: object, *, base_fee: int, chain_id: int) -> CallRequest:
    """Read a transaction object.

    Args:
        fields: The parameter as JSON.
        base_fee: Of the block that the call runs in, in wei; fee caps are measured against it.
        chain_id: Of the chain; an object that names another is refused.

    Raises:
        InvalidCall: If a field is malformed or two contradict each other.
    """
    fields = _transaction_object(fields, chain_id)
    to = fields.get("to")
    data = _data(fields)
    if to is None and not data:
        raise InvalidCall("contract creation without any data provided")
    return CallRequest(
        sender=_bytes(fields, "from", _ADDRESS) or bytes(_ADDRESS),
        to=_bytes(fields, "to", _ADDRESS),
        gas=_quantity(fields, "gas"),
        gas_price=_gas_price(fields, base_fee),
        fee_cap=_quantity(fields, "maxFeePerGas") or 0,
        value=_quantity(fields, "value") or 0,
        data=data,
        access_list=_entries(fields, "accessList", _access_entry) or (),
        authorizations=_entries(fields, "authorizationList", _authorization),
        blob_hashes=_entries(fields, "blobVersionedHashes", _blob_hash) or (),
    )


def simulated_call(fields: object, *, chain_id: int) -> SimulatedCall:
    """Read a transaction object of `eth_simulateV1`, which becomes a transaction without a signature.

    Its type follows from its fields. Fees are not checked here: which base fee they have to cover is known
    only when the block before has run.

    Raises:
        InvalidCall: If a field is malformed or two contradict each other.
    """
    fields = _transaction_object(fields, chain_id)
    nonce, gas = _quantity(fields, "nonce"), _quantity(fields, "gas")
    return SimulatedCall(
        _bytes(fields, "from", _ADDRESS) or bytes(_ADDRESS),
        _unsigned(fields, chain_id, nonce or 0, gas or 0),
        has_nonce=nonce is not None,
        has_gas=gas is not None,
    )


def state_overrides(fields: object) -> dict[int, AccountOverride]:
    """Read a state override set: accounts by address.

    Raises:
        InvalidCall: If it is malformed or too large.
    """
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise InvalidCall("state overrides are an object")
    if len(fields) > MAX_OVERRIDDEN_ACCOUNTS:
        raise InvalidCall(f"too many overridden accounts: max {MAX_OVERRIDDEN_ACCOUNTS}, got {len(fields)}")
    return {_address(address): _account_override(account) for address, account in fields.items()}


def block_overrides(fields: object) -> BlockOverrides | None:
    """Read a block override object; None if there is none.

    Raises:
        InvalidCall: If it is malformed.
    """
    if fields is None:
        return None
    if not isinstance(fields, Mapping):
        raise InvalidCall("block overrides are an object")
    if fields.get("withdrawals"):
        raise InvalidCall("withdrawals: blocks of the OP Stack have none")
    return BlockOverrides(
        number=_quantity(fields, "number"),
        timestamp=_quantity(fields, "time"),
        gas_limit=_quantity(fields, "gasLimit"),
        base_fee=_quantity(fields, "baseFeePerGas"),
        fee_recipient=_bytes(fields, "feeRecipient", _ADDRESS),
        prev_randao=_bytes(fields, "prevRandao", _WORD),
        parent_beacon_block_root=_bytes(fields, "beaconRoot", _WORD),
    )


def _transaction_object(fields: object, chain_id: int) -> Mapping[str, Any]:
    """A transaction object for this chain.

    Raises:
        InvalidCall: If it is none, names another chain, or delegates without a callee.
    """
    if not isinstance(fields, Mapping):
        raise InvalidCall("invalid argument 0: a transaction is an object")
    named = _quantity(fields, "chainId")
    if named is not None and named != chain_id:
        raise InvalidCall(f"chainId does not match node's (have={named}, want={chain_id})")
    if fields.get("to") is None and fields.get("authorizationList") is not None:
        raise InvalidCall("a set-code transaction cannot create a contract")
    return fields


def _unsigned(fields: Mapping[str, Any], chain_id: int, nonce: int, gas: int) -> SignedTransaction:
    to, value, data = _bytes(fields, "to", _ADDRESS), _quantity(fields, "value") or 0, _data(fields)
    price = _quantity(fields, "gasPrice")
    cap, tip = _quantity(fields, "maxFeePerGas"), _quantity(fields, "maxPriorityFeePerGas")
    if price is not None and (cap is not None or tip is not None):
        raise InvalidCall(_TWO_FEE_STYLES)
    cap, tip = (cap or 0, tip or 0) if price is None else (price, price)
    access_list = _entries(fields, "accessList", _access_entry)
    authorizations = _entries(fields, "authorizationList", _authorization)
    blobs = _entries(fields, "blobVersionedHashes", _blob_hash)
    fee_market = (chain_id, nonce, tip, cap, gas)
    if to is not None and authorizations is not None:
        return SetCodeTx(*fee_market, to, value, data, access_list or (), authorizations, *_UNSIGNED)
    if blobs is not None:
        if to is None or not blobs:
            raise InvalidCall("a blob transaction has a callee and at least one blob")
        blob_cap = _quantity(fields, "maxFeePerBlobGas") or 0
        return BlobTx(*fee_market, to, value, data, access_list or (), blob_cap, blobs, *_UNSIGNED)
    if price is None:
        return FeeMarketTx(*fee_market, to, value, data, access_list or (), *_UNSIGNED)
    if access_list is not None:
        return AccessListTx(chain_id, nonce, price, gas, to, value, data, access_list, *_UNSIGNED)
    return LegacyTx(nonce, price, gas, to, value, data, *_UNSIGNED)


def _account_override(fields: object) -> AccountOverride:
    if not isinstance(fields, Mapping):
        raise InvalidCall("an account override is an object")
    moved = _bytes(fields, "movePrecompileToAddress", _ADDRESS)
    return AccountOverride(
        balance=_quantity(fields, "balance"),
        nonce=_quantity(fields, "nonce"),
        code=_bytes(fields, "code"),
        state=_slots(fields, "state"),
        state_diff=_slots(fields, "stateDiff"),
        move_precompile_to=None if moved is None else int.from_bytes(moved, "big"),
    )


def _slots(fields: Mapping[str, Any], key: str) -> dict[int, int] | None:
    slots = fields.get(key)
    if slots is None:
        return None
    if not isinstance(slots, Mapping) or len(slots) > MAX_OVERRIDDEN_SLOTS:
        raise InvalidCall(f"{key} is not an object of at most {MAX_OVERRIDDEN_SLOTS} slots")
    try:
        return {parse_quantity(slot): parse_quantity(value) for slot, value in slots.items()}
    except InvalidHex as error:
        raise InvalidCall(f"{key}: {error}") from None


def _gas_price(fields: Mapping[str, Any], base_fee: int) -> int:
    """What the call pays per gas in wei; zero where it names no fee."""
    price = _quantity(fields, "gasPrice")
    cap, tip = _quantity(fields, "maxFeePerGas"), _quantity(fields, "maxPriorityFeePerGas")
    if price is not None:
        if cap is not None or tip is not None:
            raise InvalidCall(_TWO_FEE_STYLES)
        if 0 < price < base_fee:
            raise InvalidCall(
                f"max fee per gas less than block base fee: maxFeePerGas: {price}, baseFee: {base_fee}"
            )
        return price
    if not cap and not tip:
        return 0
    if cap is None:
        cap = base_fee * 2 + (tip or 0)
    if cap < (tip or 0):
        raise InvalidCall(f"maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")
    if cap < base_fee:
        raise InvalidCall(
            f"max fee per gas less than block base fee: maxFeePerGas: {cap}, baseFee: {base_fee}"
        )
    return min(cap, base_fee + (tip or 0))


def _data(fields: Mapping[str, Any]) -> bytes:
    data, given = _bytes(fields, "data"), _bytes(fields, "input")
    if data is not None and given is not None and data != given:
        raise InvalidCall(
            'both "data" and "input" are set and not equal. Please use "input" to pass transaction call data'
        )
    return given if given is not None else data or b""


def _entries(fields: Mapping[str, Any], key: str, read: Callable[[Any], _T]) -> tuple[_T, ...] | None:
    entries = fields.get(key)
    if entries is None:
        return None
    if not isinstance(entries, list) or len(entries) > MAX_LIST_ENTRIES:
        raise InvalidCall(f"{key} is not a list of at most {MAX_LIST_ENTRIES} entries")
    return tuple(read(entry) for entry in entries)


def _access_entry(entry: Any) -> AccessListEntry:
    if not isinstance(entry, Mapping):
        raise InvalidCall("an access list entry is an object")
    keys = entry.get("storageKeys") or []
    if not isinstance(keys, list) or len(keys) > MAX_LIST_ENTRIES:
        raise InvalidCall(f"storageKeys is not a list of at most {MAX_LIST_ENTRIES} keys")
    address = _bytes(entry, "address", _ADDRESS)
    if address is None:
        raise InvalidCall("an access list entry without address")
    return AccessListEntry(address, tuple(_word(key) for key in keys))


def _authorization(entry: Any) -> Authorization:
    if not isinstance(entry, Mapping):
        raise InvalidCall("an authorization is an object")
    address = _bytes(entry, "address", _ADDRESS)
    numbers = {key: _quantity(entry, key) for key in ("chainId", "nonce", "yParity", "r", "s")}
    missing = [key for key, number in numbers.items() if number is None]
    if address is None or missing:
        raise InvalidCall(f"an authorization without {missing[0] if missing else 'address'}")
    return Authorization(
        numbers["chainId"] or 0,
        address,
        numbers["nonce"] or 0,
        numbers["yParity"] or 0,
        numbers["r"] or 0,
        numbers["s"] or 0,
    )


def _blob_hash(value: Any) -> bytes:
    return _word(value)


def _word(value: Any) -> bytes:
    try:
        return parse_hex(value, size=_WORD)
    except InvalidHex as error:
        raise InvalidCall(str(error)) from None


def _address(value: Any) -> int:
    try:
        return int.from_bytes(parse_hex(value, size=_ADDRESS), "big")
    except InvalidHex as error:
        raise InvalidCall(str(error)) from None


def _bytes(fields: Mapping[str, Any], key: str, size: int | None = None) -> bytes | None:
    value = fields.get(key)
    if value is None:
        return None
    try:
        return parse_hex(value, size=size)
    except InvalidHex as error:
        raise InvalidCall(f"{key}: {error}") from None


def _quantity(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is None:
        return None
    try:
        return parse_quantity(value)
    except InvalidHex as error:
        raise InvalidCall(f"{key}: {error}") from None
