"""Reports of what holds transactions: flashblocks, blocks, engine payloads; and of headers and receipts.

A container's report has the fields of its kind under their JSON-RPC names and its transactions as reports in
`transactions`. A transaction that cannot be read becomes `{"error": {...}}` at its place: one bad
transaction never hides the others. The base fee and the L1 attributes found in a container price its
transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flashctl.decode.block_receipts import BlockMemory, tx_hash
from flashctl.decode.calls import describe_log
from flashctl.decode.commitments import (
    bloom_problems,
    header_problems,
    object_problems,
    payload_header,
    payload_problems,
    root_problems,
    transaction_problems,
)
from flashctl.decode.deposits import l1_attributes_of
from flashctl.decode.l1 import L1Pricing
from flashctl.decode.objects import report_log, unwrap_receipt
from flashctl.decode.tx_formats import Unreadable
from flashctl.decode.tx_report import Options, Report, error_report, report_transaction
from flashctl.errors import DataError
from flashctl.eth.blocks import Header, decode_header
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.receipts import decode_receipt
from flashctl.eth.rlp import Item, RlpError, decode_list, encode
from flashctl.eth.transactions import DepositTx, InvalidTransaction, decode_transaction
from flashctl.ethrpc.block_objects import header_from_object
from flashctl.ethrpc.rpc_json import header_json
from flashctl.ethrpc.transaction_objects import raw_from_object
from flashctl.lru import Lru

__all__ = [
    "PriceMemory",
    "checked",
    "report_block",
    "report_block_object",
    "report_flashblock",
    "report_header",
    "report_header_object",
    "report_payload",
    "report_receipt",
]


# -- transactions in a row ------------------------------------------------------------------------


def _reports(
    raws: Iterable[bytes], options: Options, context: Mapping[str, Any], base_fee: int | None, first: int = 0
) -> list[Report]:
    """One report per transaction, each knowing its position."""
    reports = []
    for position, raw in enumerate(raws, first):
        try:
            reports.append(report_transaction(raw, options, {**context, "position": position}, base_fee))
        except Unreadable as error:
            reports.append(error_report(error, **context, position=position))
    return reports


def _priced(options: Options, raws: Sequence[bytes]) -> Options:
    """`options` with the L1 prices that the first transaction sets, unless the user gave prices."""
    if options.l1 is not None or not raws or raws[0][:1] != b"\x7e":
        return options
    try:
        tx = decode_transaction(raws[0])
    except InvalidTransaction:
        return options
    found = l1_attributes_of(tx) if isinstance(tx, DepositTx) else None
    return options if found is None else options._replace(l1=L1Pricing.of_attributes(*found))


def _hex_transactions(values: Any) -> list[bytes]:
    if not isinstance(values, list):
        raise DataError("transactions is not a list")
    return [parse_hex(value) for value in values]


# -- flashblocks ----------------------------------------------------------------------------------


_REMEMBERED_PAYLOADS = 16


class PriceMemory:
    """Base fee and L1 prices of the payloads seen last: only index 0 carries them, the rest is priced
    alike."""

    def __init__(self) -> None:
        from flashctl.decode.sequences import SequenceMemory

        self.sequences = SequenceMemory()
        self._prices = Lru[str, tuple[int, L1Pricing | None]](_REMEMBERED_PAYLOADS)

    def get(self, payload_id: str) -> tuple[int | None, L1Pricing | None]:
        """What is known of a payload."""
        return self._prices.peek(payload_id) or (None, None)

    def put(self, payload_id: str, base_fee: int, l1: L1Pricing | None) -> None:
        """Remember a payload, and forget the oldest beyond the limit."""
        self._prices.put(payload_id, (base_fee, l1))


def report_flashblock(message: Mapping[str, Any], options: Options, memory: PriceMemory) -> Report:
    """A flashblock message; `memory` prices the later ones of a payload like its first.

    Raises:
        DataError: The object is no flashblock.
    """
    from flashctl.core.flashblocks.wire import from_object

    flashblock = from_object(_snake(message))
    base, diff = flashblock.base, flashblock.diff
    base_fee, l1 = memory.get(flashblock.payload_id)
    priced = _priced(options, diff.transactions)
    if priced.l1 is None and l1 is not None:
        priced = options._replace(l1=l1)
    context = {
        "payloadId": flashblock.payload_id,
        "index": flashblock.index,
        "blockNumber": hex(flashblock.block_number),
    }
    report: Report = dict(context)
    if base is not None:
        base_fee = base.base_fee_per_gas
        memory.put(flashblock.payload_id, base_fee, priced.l1)
        report |= {
            "parentHash": "0x" + base.parent_hash.hex(),
            "parentBeaconBlockRoot": "0x" + base.parent_beacon_block_root.hex(),
            "prevRandao": "0x" + base.prev_randao.hex(),
            "feeRecipient": "0x" + base.fee_recipient.hex(),
            "timestamp": hex(base.timestamp),
            "gasLimit": hex(base.gas_limit),
            "baseFeePerGas": hex(base.base_fee_per_gas),
            "extraData": "0x" + base.extra_data.hex(),
        }
    report |= {
        "gasUsed": hex(diff.gas_used),
        "receiptsRoot": "0x" + diff.receipts_root.hex(),
        "stateRoot": _unless_zero(diff.state_root),
        "blockHash": _unless_zero(diff.block_hash),
        "withdrawalsRoot": _unless_zero(diff.withdrawals_root),
    }
    if diff.blob_gas_used is not None:
        report["blobGasUsed"] = hex(diff.blob_gas_used)
    reports = _reports(diff.transactions, priced, context, base_fee)
    _attach_receipts(reports, flashblock.metadata.receipts, options)
    extras: Report = {"kind": "flashblock"}
    if flashblock.metadata.prev_flashblock_id is not None:
        extras["prevFlashblockId"] = flashblock.metadata.prev_flashblock_id
    if problems := memory.sequences.problems(flashblock):
        extras["problems"] = problems
    return report | {"transactions": reports, "flashctl": extras}


def _snake(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message in the names of the wire, out of a camelCase feed where it comes from one."""
    if "payload_id" in message:
        return message
    import orjson

    from flashctl.core.flashblocks.wire import parse_object

    return parse_object(orjson.dumps(message))


def _unless_zero(value: bytes) -> str | None:
    """Builders fill what they do not compute with zeros; that is no value (subblocks.md)."""
    return "0x" + value.hex() if value.strip(b"\x00") else None


def _attach_receipts(reports: list[Report], receipts: Mapping[str, Any] | None, options: Options) -> None:
    """Put what `metadata.receipts` says next to each transaction it speaks of.

    Only of these: depending on the version, the map covers this flashblock, the whole block, or nothing.
    """
    for report in reports:
        value = (receipts or {}).get(report.get("hash", ""))
        if not isinstance(value, dict):
            continue
        receipt = unwrap_receipt(value)
        extras = report["flashctl"]
        if "status" in receipt:
            extras["succeeded"] = receipt["status"] in (True, 1, "0x1", "0x01")
        if "cumulativeGasUsed" in receipt:
            extras["cumulativeGasUsed"] = receipt["cumulativeGasUsed"]
        logs = receipt.get("logs")
        if isinstance(logs, list):
            extras["logs"] = [_log_or_error(log, options) for log in logs]


def _log_or_error(log: Any, options: Options) -> Report:
    try:
        return report_log(log, options.book)
    except DataError as error:
        return error_report(error)


# -- blocks ---------------------------------------------------------------------------------------


def report_header(header: Header, raws: Sequence[bytes] = ()) -> Report:
    """A header in the names of `eth_getBlockByNumber`; the transactions, where known, tell what chain it is
    of."""
    report: Report = {"number": hex(header.number), **header_json(header)}
    extras: Report = {"kind": "header"}
    if parameters := eip1559_parameters(header.extra_data):
        extras["eip1559"] = parameters
    if problems := header_problems(header, raws):
        extras["problems"] = problems
    return report | {"flashctl": extras}


def eip1559_parameters(extra_data: bytes) -> Report | None:
    """Denominator, elasticity and minimum base fee in `extraData` (Holocene: 9 bytes, Jovian: 17)."""
    versions = {(9, 0): "holocene", (17, 1): "jovian"}
    layout = versions.get((len(extra_data), extra_data[0])) if extra_data else None
    if layout is None:
        return None
    report: Report = {
        "layout": layout,
        "denominator": int.from_bytes(extra_data[1:5], "big"),
        "elasticity": int.from_bytes(extra_data[5:9], "big"),
    }
    if layout == "jovian":
        report["minBaseFee"] = hex(int.from_bytes(extra_data[9:17], "big"))
    return report


def report_block(raw: bytes, options: Options, memory: BlockMemory) -> Report:
    """A block from its RLP, as `debug_getRawBlock` returns it.

    Raises:
        DataError: The bytes are no block.
    """
    header, transactions, ommers, withdrawals = _block_parts(raw)
    report = report_header(header, transactions)
    context = {"blockNumber": report["number"], "blockHash": report["hash"]}
    priced = _priced(options, transactions)
    report["transactions"] = _reports(transactions, priced, context, header.base_fee_per_gas)
    report["size"] = hex(len(raw))
    extras = report["flashctl"]
    extras |= {"kind": "block"}
    if ommers:
        extras["ommers"] = len(ommers)
    problems = root_problems(header, transactions, encode(ommers), withdrawals)
    problems += memory.add_block(header, [*map(tx_hash, transactions)], transactions)
    if problems:
        extras.setdefault("problems", []).extend(problems)
    return report


def _block_parts(raw: bytes) -> tuple[Header, list[bytes], list[Item], list[bytes] | None]:
    """Header, raw transactions, ommers and withdrawals; blocks of Ethereum's past are read too."""
    try:
        items = decode_list(raw)
    except RlpError as error:
        raise DataError(f"not a block: {error}") from None
    if len(items) not in (3, 4) or not all(isinstance(part, list) for part in items):
        raise DataError("not a block: expected header, transactions, ommers and, from Shanghai, withdrawals")
    header, members, ommers, *rest = items
    assert isinstance(members, list) and isinstance(ommers, list)
    transactions = [member if isinstance(member, bytes) else encode(member) for member in members]
    entries = rest[0] if rest else None
    withdrawals = [encode(member) for member in entries] if isinstance(entries, list) else None
    return decode_header(encode(header)), transactions, ommers, withdrawals


def report_block_object(value: Mapping[str, Any], options: Options, memory: BlockMemory) -> Report:
    """A block as a node returns it; full transactions are re-encoded and checked, hashes stay as they are."""
    base_fee = parse_quantity(value["baseFeePerGas"]) if value.get("baseFeePerGas") else None
    context = {"blockNumber": value.get("number"), "blockHash": value.get("hash")}
    members = value.get("transactions") or []
    raws = [_raw_or_none(member) for member in members]
    priced = _priced(options, [raw for raw in raws[:1] if raw is not None])
    reports: list[Report] = []
    for position, (member, raw) in enumerate(zip(members, raws, strict=True)):
        if raw is not None:
            reports += [
                checked(entry, member, _place(value, position))
                for entry in _reports([raw], priced, context, base_fee, position)
            ]
        elif isinstance(member, dict):
            reports.append(error_report(_object_error(member), **context, position=position))
    extras: Report = {"kind": "block"}
    extra_data = value.get("extraData")
    if isinstance(extra_data, str) and (parameters := eip1559_parameters(parse_hex(extra_data))):
        extras["eip1559"] = parameters
    whole = [raw for raw in raws if raw is not None]
    hashes = [member for member in members if isinstance(member, str)]
    problems = object_problems(value, whole if len(whole) == len(raws) else None)
    problems += _remember(value, hashes, whole, memory)
    if problems:
        extras["problems"] = problems
    return {**value, "transactions": reports or hashes, "flashctl": extras}


def _remember(
    value: Mapping[str, Any], hashes: Sequence[str], raws: Sequence[bytes], memory: BlockMemory
) -> list[str]:
    """Keep a node's block for its receipts; what is wrong with those that came before."""
    try:
        header = header_from_object(value)
    except DataError:
        return []  # reported already
    stated = value.get("hash")
    if not isinstance(stated, str):
        return []  # pending: its receipts name no block
    members = value.get("transactions") or ()
    if len(raws) == len(members):
        return memory.add_block(header, [*map(tx_hash, raws)], raws, stated.lower())
    return memory.add_block(header, hashes, None, stated.lower()) if len(hashes) == len(members) else []


def report_header_object(value: Mapping[str, Any]) -> Report:
    """A header as a node returns it."""
    problems = object_problems(value, None)
    return {**value, "flashctl": {"kind": "header", **({"problems": problems} if problems else {})}}


def _raw_or_none(member: Any) -> bytes | None:
    try:
        return raw_from_object(member) if isinstance(member, dict) else None
    except DataError:
        return None


def _object_error(member: Mapping[str, Any]) -> DataError:
    try:
        raw_from_object(member)
    except DataError as error:
        return error
    return DataError("not a transaction object")


def _place(block: Mapping[str, Any], position: int) -> Report:
    """What each transaction of a block says of where it is."""
    return {
        "blockHash": block.get("hash"),
        "blockNumber": block.get("number"),
        "blockTimestamp": block.get("timestamp"),
        "transactionIndex": hex(position),
    }


def checked(report: Report, source: Mapping[str, Any], place: Mapping[str, Any] | None = None) -> Report:
    """A transaction's report with what its source says otherwise under problems."""
    if "error" not in report and (problems := transaction_problems(report, source, place or {})):
        report.setdefault("flashctl", {}).setdefault("problems", []).extend(problems)
    return report


def report_payload(value: Mapping[str, Any], options: Options, memory: BlockMemory) -> Report:
    """An execution payload of the Engine API (`engine_newPayload`, `engine_getPayload`)."""
    raws = _hex_transactions(value.get("transactions"))
    base_fee = parse_quantity(value["baseFeePerGas"]) if value.get("baseFeePerGas") else None
    context = {"blockNumber": value.get("blockNumber"), "blockHash": value.get("blockHash")}
    reports = _reports(raws, _priced(options, raws), context, base_fee)
    extras: Report = {"kind": "payload"}
    problems = payload_problems(value, raws)
    if (header := payload_header(value, raws)) is not None and isinstance(value.get("blockHash"), str):
        problems += memory.add_block(header, [*map(tx_hash, raws)], raws, value["blockHash"].lower())
    if problems:
        extras["problems"] = problems
    return {**value, "transactions": reports, "flashctl": extras}


# -- receipts -------------------------------------------------------------------------------------


def report_receipt(raw: bytes, options: Options, memory: BlockMemory) -> Report:
    """A receipt from its encoding, as `debug_getRawReceipts` returns it.

    Raises:
        DataError: The bytes are no receipt.
    """
    receipt = decode_receipt(raw)
    report: Report = {
        "type": hex(receipt.tx_type),
        "status": hex(int(receipt.succeeded)),
        "cumulativeGasUsed": hex(receipt.cumulative_gas_used),
    }
    if receipt.deposit_nonce is not None:
        report["depositNonce"] = hex(receipt.deposit_nonce)
    if receipt.deposit_receipt_version is not None:
        report["depositReceiptVersion"] = hex(receipt.deposit_receipt_version)
    report["logsBloom"] = "0x" + receipt.bloom.hex()
    report["logs"] = [
        {
            "address": "0x" + log.address.hex(),
            "topics": ["0x" + topic.hex() for topic in log.topics],
            "data": "0x" + log.data.hex(),
            "flashctl": {"kind": "log", "event": describe_log(log.topics, log.data, options.book)},
        }
        for log in receipt.logs
    ]
    extras: Report = {"kind": "receipt"}
    if problems := [*bloom_problems(receipt.bloom, receipt.logs), *memory.raw_receipt(receipt)]:
        extras["problems"] = problems
    return report | {"flashctl": extras}
