"""One transaction as a report: JSON-RPC's field names, and everything else that can be known without a node.

A report is a plain dictionary, because that is what `--json` prints and what a listing is laid out from;
there is no second model to keep in step. The names outside `flashctl` are those of
`eth_getTransactionByHash`, so that `jq .maxFeePerGas` works here as on a node's answer; whatever a node
does not say is grouped under `flashctl`.

    type hash from chainId nonce gas gasPrice | maxFeePerGas maxPriorityFeePerGas ... r s
    flashctl: typeName signature signingHash canonical intrinsicGas floorGas creates call deposit l1Fee
    problems ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flashctl.decode.names import TYPE_NAMES
from flashctl.decode.reading import read_transaction, signing_hash_of
from flashctl.decode.tx_reading import LAST_NONCE, Reading
from flashctl.errors import DataError
from flashctl.eth.intrinsic_gas import calldata_tokens, floor_gas, intrinsic_gas
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode, int_to_bytes
from flashctl.eth.signatures import HALF_ORDER, InvalidSignature, recover_authority, recover_public_address
from flashctl.eth.transactions import (
    AccessListTx,
    BlobTx,
    DepositTx,
    InvalidTransaction,
    LegacyTx,
    SetCodeTx,
    SignedTransaction,
    Transaction,
    check_transaction,
    effective_gas_price,
    priority_fee,
    signing_hash,
)

if TYPE_CHECKING:
    from flashctl.decode.l1 import L1Pricing
    from flashctl.decode.signatures import SignatureBook
    from flashctl.decode.tx_reading import Sidecar

__all__ = ["Options", "Report", "describe_transaction", "error_report", "report_transaction"]

Report = dict[str, Any]


class Options(NamedTuple):
    """What a decode may know beyond the bytes, and how much work it may do."""

    book: SignatureBook | None = None
    """Signatures of the user; None is the built-in table alone."""
    senders: bool = True
    """Recover senders and authorities: 48 us each, ten times the rest."""
    base_fee: int | None = None
    """Wei; turns fees into the tip that the block would pay."""
    chain_id: int | None = None
    """Report a transaction for another chain as a problem."""
    l1: L1Pricing | None = None
    """Price of data on L1; without it no L1 fee is reported."""


def report_transaction(
    raw: bytes, options: Options, context: Mapping[str, Any] | None = None, base_fee: int | None = None
) -> Report:
    """Everything known about one raw transaction.

    Args:
        context: Where it was found (payload id, index, position, ...); repeated under `flashctl`.
        base_fee: Of the block it was found in; `options.base_fee` wins.

    Raises:
        Unreadable: The bytes are no transaction.
    """
    return describe_transaction(read_transaction(raw), options, context, base_fee)


def describe_transaction(
    reading: Reading, options: Options, context: Mapping[str, Any] | None = None, base_fee: int | None = None
) -> Report:
    """The report of a transaction that has been read."""
    tx = reading.tx
    signed_hash = _signed_hash(reading)
    sender, signature = _sender(reading, signed_hash, options)
    report: Report = {
        "type": hex(tx.type_byte),
        "hash": "0x" + keccak256(reading.raw).hex(),
        "from": None if sender is None else "0x" + sender.hex(),
        **_fields(tx),
    }
    extras: Report = {"typeName": TYPE_NAMES[tx.type_byte], "signature": signature}
    if not isinstance(tx, DepositTx):
        extras["signingHash"] = "0x" + signed_hash.hex()
        if reading.signed:
            extras["lowS"] = tx.s <= HALF_ORDER
        if isinstance(tx, LegacyTx):
            extras["protected"] = tx.chain_id is not None
    extras["canonical"] = not reading.faults
    if reading.faults:
        extras["faults"] = [{"offset": fault.offset, "message": fault.message} for fault in reading.faults]
    needed, floor = intrinsic_gas(tx), floor_gas(calldata_tokens(tx.data))
    extras |= {"intrinsicGas": hex(needed), "floorGas": hex(floor)}
    extras |= _data_facts(tx, options)
    if tx.to is None and sender is not None and not isinstance(tx, DepositTx):
        extras["creates"] = "0x" + keccak256(encode([sender, int_to_bytes(tx.nonce)]))[12:].hex()
    extras |= _kind_facts(tx, reading.sidecar, options)
    if "l1Attributes" in extras.get("deposit", {}):  # packed behind the selector, and shown there
        extras.get("call", {}).pop("trailing", None)
    price_at = options.base_fee if options.base_fee is not None else base_fee
    if price_at is not None and not isinstance(tx, DepositTx):
        extras["effectiveGasPrice"] = hex(effective_gas_price(tx, price_at))
        extras["effectiveTip"] = hex(priority_fee(tx, price_at))
    if options.l1 is not None and not isinstance(tx, DepositTx):
        extras |= options.l1.report(reading.raw, tx.gas_limit)
    if problems := _problems(reading, signature, options, needed, floor):
        extras["problems"] = problems
    if context:
        extras |= context
    report["flashctl"] = extras
    return report


def error_report(error: DataError, **where: Any) -> Report:
    """What stands in for something that could not be decoded; with its bytes when those are known."""
    details: Report = {**where, "message": str(error)}
    raw = getattr(error, "raw", None)
    if isinstance(raw, bytes):
        details |= {
            "offset": getattr(error, "offset", 0),
            "hash": "0x" + keccak256(raw).hex(),
            "raw": "0x" + raw.hex(),
        }
    return {"error": details}


# -- fields ----------------------------------------------------------------------------------------


def _fields(tx: Transaction) -> Report:
    """The transaction's own fields under their JSON-RPC names."""
    call: Report = {
        "gas": hex(tx.gas_limit),
        "to": None if tx.to is None else "0x" + tx.to.hex(),
        "value": hex(tx.value),
        "input": "0x" + tx.data.hex(),
    }
    if isinstance(tx, DepositTx):
        return {
            **call,
            "sourceHash": "0x" + tx.source_hash.hex(),
            "mint": hex(tx.mint),
            "isSystemTx": tx.is_system,
        }
    report: Report = {} if tx.chain_id is None else {"chainId": hex(tx.chain_id)}
    report["nonce"] = hex(tx.nonce)
    if isinstance(tx, (LegacyTx, AccessListTx)):
        report["gasPrice"] = hex(tx.gas_price)
    else:
        report["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
        report["maxFeePerGas"] = hex(tx.max_fee_per_gas)
    report |= call
    if not isinstance(tx, LegacyTx):
        report["accessList"] = [
            {
                "address": "0x" + entry.address.hex(),
                "storageKeys": ["0x" + key.hex() for key in entry.storage_keys],
            }
            for entry in tx.access_list
        ]
    if isinstance(tx, BlobTx):
        report["maxFeePerBlobGas"] = hex(tx.max_fee_per_blob_gas)
        report["blobVersionedHashes"] = ["0x" + blob_hash.hex() for blob_hash in tx.blob_hashes]
    if isinstance(tx, SetCodeTx):
        report["authorizationList"] = [
            {
                "chainId": hex(auth.chain_id),
                "address": "0x" + auth.address.hex(),
                "nonce": hex(auth.nonce),
                "yParity": hex(auth.y_parity),
                "r": hex(auth.r),
                "s": hex(auth.s),
            }
            for auth in tx.authorizations
        ]
    return report | _signature_fields(tx)


def _signature_fields(tx: SignedTransaction) -> Report:
    fields: Report = {"r": hex(tx.r), "s": hex(tx.s)}
    if isinstance(tx, LegacyTx):
        return {"v": hex(tx.v), **fields}
    return {"yParity": hex(tx.y_parity), "v": hex(tx.y_parity), **fields}


# -- what the fields imply -------------------------------------------------------------------------


def _signed_hash(reading: Reading) -> bytes:
    """What the sender signs; empty for a deposit."""
    tx = reading.tx
    if isinstance(tx, DepositTx):
        return b""
    return signing_hash_of(reading.raw, tx) if reading.signed else signing_hash(tx)


def _sender(reading: Reading, signed_hash: bytes, options: Options) -> tuple[bytes | None, str]:
    """The sender, and a verdict on the signature in words."""
    tx = reading.tx
    if isinstance(tx, DepositTx):
        return tx.sender, "none (deposit)"
    if not reading.signed:
        return None, "unsigned"
    if not options.senders:
        return None, "not checked"
    try:
        return recover_public_address(signed_hash, tx.y_parity, tx.r, tx.s), "valid"
    except InvalidSignature as error:
        return None, f"invalid ({error.reason})"


def _data_facts(tx: Transaction, options: Options) -> Report:
    facts: Report = {}
    if tx.data:
        zeros = tx.data.count(0)
        facts["inputBytes"] = {"length": len(tx.data), "zero": zeros, "nonZero": len(tx.data) - zeros}
    if tx.to is not None and len(tx.data) >= 4:
        from flashctl.decode.calls import describe_call

        if call := describe_call(tx.data, options.book):
            facts["call"] = call
    return facts


def _kind_facts(tx: Transaction, sidecar: Sidecar | None, options: Options) -> Report:
    """What only transactions of one type have."""
    match tx:
        case DepositTx():
            from flashctl.decode.deposits import describe_deposit

            return {"deposit": describe_deposit(tx)}
        case SetCodeTx() if options.senders:
            return {"authorities": [_authority(recover_authority(auth)) for auth in tx.authorizations]}
        case BlobTx() if sidecar is not None:
            return {"sidecar": _sidecar_facts(tx, sidecar)}
    return {}


def _authority(address: bytes | None) -> str | None:
    return None if address is None else "0x" + address.hex()


def _sidecar_facts(tx: BlobTx, sidecar: Sidecar) -> Report:
    return {
        "form": sidecar.form,
        "blobs": [len(blob) for blob in sidecar.blobs],
        "commitments": ["0x" + commitment.hex() for commitment in sidecar.commitments],
        "proofs": len(sidecar.proofs),
        "hashesMatch": sidecar.versioned_hashes() == tx.blob_hashes,
    }


def _problems(reading: Reading, signature: str, options: Options, needed: int, floor: int) -> list[str]:
    """Why a node would refuse the transaction, as far as that needs no state."""
    tx = reading.tx
    problems = [f"not canonical: {fault}" for fault in reading.faults]
    if isinstance(tx, DepositTx):
        return problems
    if not reading.signed:
        problems.append("no signature")
    elif signature.startswith("invalid"):
        problems.append(f"signature {signature}")
    try:
        check_transaction(tx, options.chain_id)
    except InvalidTransaction as error:
        problems.append(error.reason)
    if tx.nonce == LAST_NONCE:
        problems.append("nonce is 2^64 - 1, which no account can reach (EIP-2681)")
    if tx.gas_limit < needed:
        problems.append(f"gas limit {tx.gas_limit} is below the intrinsic gas {needed}")
    elif tx.gas_limit < floor:
        problems.append(
            f"gas limit {tx.gas_limit} is below the calldata floor {floor} (EIP-7623, from Prague)"
        )
    sidecar = reading.sidecar
    if sidecar is not None and isinstance(tx, BlobTx) and sidecar.versioned_hashes() != tx.blob_hashes:
        problems.append("the sidecar's commitments do not match the blob hashes")
    return problems
