"""What the hashes in a container commit to, computed again: `--verify` of blocks, payloads and receipts.

Every function returns what is wrong in words, in the order in which a fault shows. `uncommitted.UNCOMMITTED`
lists what cannot be found wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from flashctl.core.output import counted
from flashctl.errors import DataError
from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Header,
    Withdrawal,
    encode_withdrawal,
)
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Log, Receipt, logs_bloom
from flashctl.ethrpc.block_objects import header_from_object
from flashctl.op.extra_data import InvalidFeeParameters, decode_extra_data
from flashctl.op.forks import OpFork

__all__ = [
    "bloom_problems",
    "header_problems",
    "object_problems",
    "payload_header",
    "payload_problems",
    "receipt_of_object",
    "receipt_problems",
    "root_problems",
    "transaction_problems",
]

_DEPOSIT = b"\x7e"
_JOVIAN_SIZE = 17


def _differs(name: str, stated: bytes, computed: bytes) -> list[str]:
    if stated == computed:
        return []
    return [f"{name}: stated 0x{stated.hex()}, computed 0x{computed.hex()}"]


# -- headers and bodies ----------------------------------------------------------------------------


def header_problems(header: Header, raws: Sequence[bytes]) -> list[str]:
    """What a header says that none of its fork may say; the rules of an L2 for blocks that begin with a
    deposit."""
    problems = []
    if header.gas_used > header.gas_limit:
        problems.append(f"gasUsed {header.gas_used} is above gasLimit {header.gas_limit}")
    if len(header.extra_data) > 32 and not (raws and raws[0][:1] == _DEPOSIT):
        problems.append(f"extraData has {counted(len(header.extra_data), 'byte')}, at most 32 are allowed")
    if not raws or raws[0][:1] != _DEPOSIT:
        return problems
    problems += _extra_data_problems(header)
    fixed: dict[str, tuple[Any, Any]] = {
        "difficulty": (header.difficulty, 0),
        "nonce": (header.nonce, bytes(8)),
        "sha3Uncles": (header.ommers_hash, EMPTY_OMMERS_HASH),
        "excessBlobGas": (header.excess_blob_gas or 0, 0),
        "requestsHash": (header.requests_hash or EMPTY_REQUESTS_HASH, EMPTY_REQUESTS_HASH),
    }
    for name, (stated, expected) in fixed.items():
        if stated != expected:
            problems.append(f"{name}: {_shown(stated)} on an L2, expected {_shown(expected)}")
    if header.blob_gas_used and len(header.extra_data) != _JOVIAN_SIZE:
        problems.append(f"blobGasUsed: {header.blob_gas_used} before Jovian, expected 0")
    return problems


def _shown(value: bytes | int) -> str:
    return str(value) if isinstance(value, int) else "0x" + value.hex()


def _extra_data_problems(header: Header) -> list[str]:
    """Which of the layouts it must be follows from the other fields as far as these tell the fork."""
    data = header.extra_data
    if header.requests_hash is not None:
        fork = OpFork.JOVIAN if len(data) == _JOVIAN_SIZE else OpFork.HOLOCENE
    elif header.parent_beacon_block_root is not None and len(data) == 9 and data[0] == 0:
        fork = OpFork.HOLOCENE
    else:  # before Holocene nothing reads it
        return (
            [f"extraData has {counted(len(data), 'byte')}, at most 32 are allowed"] if len(data) > 32 else []
        )
    try:
        decode_extra_data(fork, data)
    except InvalidFeeParameters as error:
        return [f"extraData: {error}"]
    return []


def root_problems(
    header: Header, raws: Sequence[bytes] | None, ommers: bytes | None, withdrawals: Sequence[bytes] | None
) -> list[str]:
    """Compare the lists of a body with what the header says of them.

    Args:
        raws: The transactions; None where only their hashes are at hand.
        ommers: The encoded list of ommers; None where it is not at hand.
        withdrawals: Each one encoded; None for a body without such a list.
    """
    problems = []
    if raws is not None:
        problems += _differs("transactionsRoot", header.transactions_root, ordered_root(raws))
    if ommers is not None:
        from flashctl.eth.keccak import keccak256

        problems += _differs("sha3Uncles", header.ommers_hash, keccak256(ommers))
    if (withdrawals is None) is not (header.withdrawals_root is None):
        has = "a list of withdrawals" if withdrawals is not None else "no list of withdrawals"
        named = "no withdrawalsRoot" if header.withdrawals_root is None else "a withdrawalsRoot"
        problems.append(f"the body has {has}, the header {named}")
    elif withdrawals is not None and header.withdrawals_root is not None:
        maybe_l2 = raws is None or (len(raws) > 0 and raws[0][:1] == _DEPOSIT)
        if maybe_l2 and header.requests_hash is not None:
            # Since Isthmus the root of an L2 is that of a contract's storage, and the list stays empty.
            if withdrawals and raws is None:
                problems += _differs("withdrawalsRoot", header.withdrawals_root, ordered_root(withdrawals))
            elif withdrawals:
                problems.append(f"{counted(len(withdrawals), 'withdrawal')} on an L2, expected none")
        else:
            problems += _differs("withdrawalsRoot", header.withdrawals_root, ordered_root(withdrawals))
    return problems


_UNKNOWN_HEADER_FIELDS = ("blockAccessListHash", "slotNumber")
"""Of forks that flashctl does not know: such a header hashes to something else."""


def object_problems(value: Mapping[str, Any], raws: Sequence[bytes] | None) -> list[str]:
    """A block or a header as a node returns it; one without a hash (pending) is checked for the rest."""
    stated = value.get("hash")
    sealed = isinstance(stated, str) and stated.strip("0x") != ""
    try:
        header = header_from_object(value)
        withdrawals = _withdrawals(value)
        problems = []
        if sealed and not any(name in value for name in _UNKNOWN_HEADER_FIELDS):
            problems += _differs("hash", parse_hex(value["hash"], size=32), header.hash)
        problems += header_problems(header, raws or ())
        if "transactions" not in value:  # a header alone
            return problems
        if sealed:
            problems += root_problems(header, raws, None, withdrawals)
    except DataError as error:
        return [f"what it commits to cannot be computed: {error}"] if sealed else []
    uncles = value.get("uncles")
    if isinstance(uncles, list) and bool(uncles) is (header.ommers_hash == EMPTY_OMMERS_HASH):
        problems.append(f"{counted(len(uncles), 'uncle')} against sha3Uncles 0x{header.ommers_hash.hex()}")
    return problems


def _withdrawals(value: Mapping[str, Any]) -> list[bytes] | None:
    members = value.get("withdrawals")
    if members is None:
        return None
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        raise DataError("withdrawals is not a list of objects")
    return [
        encode_withdrawal(
            Withdrawal(
                _number(member, "index"),
                _number(member, "validatorIndex"),
                _data(member, "address", 20),
                _number(member, "amount"),
            )
        )
        for member in members
    ]


def payload_problems(value: Mapping[str, Any], raws: Sequence[bytes]) -> list[str]:
    """An engine payload against its block hash, where everything that the hash needs is at hand."""
    root, requests = value.get("parentBeaconBlockRoot"), value.get("executionRequests")
    try:
        header = _payload_header(value, raws, root, requests)
        problems = header_problems(header, raws)
        if value.get("withdrawals") is None and header.withdrawals_root is not None:
            problems.append("the payload has a withdrawalsRoot and no list of withdrawals")
        if value.get("blobGasUsed") is None or root is not None:
            problems += _differs("blockHash", _data(value, "blockHash", 32), header.hash)
    except DataError as error:
        return [f"what it commits to cannot be computed: {error}"]
    return problems


def payload_header(value: Mapping[str, Any], raws: Sequence[bytes]) -> Header | None:
    """The header of an engine payload, as far as it says what belongs there; None where it cannot be read."""
    try:
        return _payload_header(
            value, raws, value.get("parentBeaconBlockRoot"), value.get("executionRequests")
        )
    except DataError:
        return None


def _payload_header(value: Mapping[str, Any], raws: Sequence[bytes], root: Any, requests: Any) -> Header:
    withdrawals = _withdrawals(value)
    withdrawals_root = None if withdrawals is None else ordered_root(withdrawals)
    if value.get("withdrawalsRoot") is not None:
        withdrawals_root = parse_hex(value["withdrawalsRoot"], size=32)
    if requests is not None and not isinstance(requests, list):
        raise DataError("executionRequests is not a list")
    isthmus = requests is not None or value.get("withdrawalsRoot") is not None
    digests = (sha256(parse_hex(request)).digest() for request in requests or ())
    return Header(
        _data(value, "parentHash", 32),
        EMPTY_OMMERS_HASH,
        _data(value, "feeRecipient", 20),
        _data(value, "stateRoot", 32),
        ordered_root(raws) if raws else EMPTY_TRIE_ROOT,
        _data(value, "receiptsRoot", 32),
        _data(value, "logsBloom", 256),
        0,
        _number(value, "blockNumber"),
        _number(value, "gasLimit"),
        _number(value, "gasUsed"),
        _number(value, "timestamp"),
        _data(value, "extraData"),
        _data(value, "prevRandao", 32),
        bytes(8),
        _number(value, "baseFeePerGas"),
        withdrawals_root,
        None if value.get("blobGasUsed") is None else parse_quantity(value["blobGasUsed"]),
        None if value.get("excessBlobGas") is None else parse_quantity(value["excessBlobGas"]),
        None if root is None else parse_hex(root, size=32),
        sha256(b"".join(digests)).digest() if isthmus else None,
    )


def _data(value: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    if value.get(name) is None:
        raise DataError(f"there is no {name}")
    return parse_hex(value[name], size=size)


def _number(value: Mapping[str, Any], name: str) -> int:
    if value.get(name) is None:
        raise DataError(f"there is no {name}")
    return parse_quantity(value[name])


# -- transactions ----------------------------------------------------------------------------------


def transaction_problems(
    report: Mapping[str, Any], source: Mapping[str, Any], place: Mapping[str, Any]
) -> list[str]:
    """Compare what a node says of a transaction with what its content says.

    Args:
        report: Of the content.
        source: The object as it came.
        place: What the block around it says under the same names; empty where there is none.
    """
    problems = []
    claimed = source.get("hash")
    if isinstance(claimed, str) and claimed.lower() != report.get("hash"):
        problems.append(f"the object claims hash {claimed}, its content hashes to {report.get('hash')}")
    sender = source.get("from")
    if isinstance(sender, str) and report.get("from") not in (None, sender.lower()):
        problems.append(f"the object claims to be from {sender}, its signature is of {report['from']}")
    if "sourceHash" not in report:
        problems += _parity_problems(report, source)
    for name, stated in place.items():
        said = source.get(name)
        if said is not None and stated is not None and not _same(said, stated):
            problems.append(f"the object claims {name} {said}, the block says {stated}")
    return problems


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    return bool(one == other)


def _parity_problems(report: Mapping[str, Any], source: Mapping[str, Any]) -> list[str]:
    """`v` and `yParity` say the same twice, and `chainId` of a legacy transaction is in its v."""
    try:
        v = None if source.get("v") is None else _integer(source["v"])
        parity = None if source.get("yParity") is None else _integer(source["yParity"])
        chain_id = None if source.get("chainId") is None else _integer(source["chainId"])
    except DataError as error:
        return [f"signature: {error}"]
    legacy = report.get("type") == "0x0"
    problems = []
    if v is not None and parity is not None:
        expected = (v - 27 if v < 35 else (v - 35) % 2) if legacy else v
        if expected != parity:
            problems.append(f"v {v} and yParity {parity} contradict each other")
    if legacy and v is not None and v >= 35 and chain_id not in (None, (v - 35) // 2):
        problems.append(f"v {v} is of chain {(v - 35) // 2}, chainId says {chain_id}")
    return problems


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else parse_quantity(value)


# -- receipts --------------------------------------------------------------------------------------


def bloom_problems(bloom: bytes, logs: Sequence[Log]) -> list[str]:
    """The filter of a receipt against its logs."""
    return [] if bloom == logs_bloom(logs) else ["logsBloom is not the filter of the logs"]


_PLACE = ("transactionHash", "blockHash", "blockNumber", "transactionIndex")


def receipt_problems(value: Mapping[str, Any]) -> list[str]:
    """A receipt as a node returns it: its bloom, and what its logs say of where they are."""
    problems = []
    try:
        logs = _logs(value)
        if value.get("logsBloom") is not None:
            problems += bloom_problems(parse_hex(value["logsBloom"], size=256), logs)
        if value.get("gasUsed") is not None and value.get("cumulativeGasUsed") is not None:
            used, total = _integer(value["gasUsed"]), _integer(value["cumulativeGasUsed"])
            first = value.get("transactionIndex") is not None and _integer(value["transactionIndex"]) == 0
            if used > total or (first and used != total):
                problems.append(f"gasUsed {used} does not fit cumulativeGasUsed {total}")
    except DataError as error:
        return [f"the receipt cannot be checked: {error}"]
    before: int | None = None
    for position, log in enumerate(value.get("logs") or ()):
        for name in _PLACE:
            if (
                log.get(name) is not None
                and value.get(name) is not None
                and not _same(log[name], value[name])
            ):
                problems.append(f"log {position} claims {name} {log[name]}, the receipt says {value[name]}")
        try:
            index = None if log.get("logIndex") is None else _integer(log["logIndex"])
        except DataError as error:
            problems.append(f"log {position}: logIndex: {error}")
            continue
        if index is not None and before is not None and index != before + 1:
            problems.append(f"log {position} has logIndex {index} after {before}")
        before = index
    return problems


def _logs(value: Mapping[str, Any]) -> tuple[Log, ...]:
    logs = value.get("logs") or []
    if not isinstance(logs, list) or not all(isinstance(log, Mapping) for log in logs):
        raise DataError("logs is not a list of objects")
    return tuple(
        Log(
            _data(log, "address", 20),
            tuple(parse_hex(topic, size=32) for topic in log.get("topics") or ()),
            parse_hex(log.get("data") or "0x"),
        )
        for log in logs
    )


def receipt_of_object(value: Mapping[str, Any], raw: bytes) -> Receipt:
    """The receipt of a transaction, from an object that says at least status, gas and logs.

    Raises:
        DataError: It lacks one of these, or it is malformed.
    """
    if "status" not in value or "cumulativeGasUsed" not in value:
        raise DataError("the receipt has no status or no cumulativeGasUsed")
    status = value["status"]
    succeeded = status if isinstance(status, bool) else _integer(status) == 1
    nonce, version = value.get("depositNonce"), value.get("depositReceiptVersion")
    return Receipt(
        raw[0] if raw[0] < 0xC0 else 0,
        succeeded,
        _integer(value["cumulativeGasUsed"]),
        _logs(value),
        None if nonce is None else _integer(nonce),
        None if version is None else _integer(version),
    )
