"""JSON-RPC shapes against recorded answers of geth (execution-apis) and against real OP Stack blocks."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.reference import reference_path

from flashctl.eth.blocks import Block, Header, InvalidBlockEncoding, decode_block, decode_header
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.receipts import Log, Receipt
from flashctl.eth.rlp import decode_prefix, encode
from flashctl.ethrpc.rpc_json import TxPosition, block_json, block_receipts_json, log_json, transaction_json
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.forks import OpFork


@cache
def chain_blocks() -> dict[int, Block]:
    """The blocks of the execution-apis test chain by number."""
    data = (reference_path("execution-apis") / "tests" / "chain.rlp").read_bytes()
    blocks, offset = {}, 0
    while offset < len(data):
        item, offset = decode_prefix(data, offset)
        try:
            block = decode_block(encode(item))
        except InvalidBlockEncoding:
            continue  # with ommers, from before the merge
        blocks[block.number] = block
    return blocks


def recorded(method: str) -> list[tuple[str, list[Any], Any]]:
    """(name, parameters, result) of every recorded successful answer of a method."""
    found = []
    for path in sorted((reference_path("execution-apis") / "tests" / method).glob("*.io")):
        lines = [line[3:] for line in path.read_text().splitlines() if line[:2] in (">>", "<<")]
        request, response = json.loads(lines[0]), json.loads(lines[1])
        if "error" not in response:
            found.append((path.stem, request.get("params", []), response["result"]))
    return found


def block_by_hash(shown: str) -> Block | None:
    return next((block for block in chain_blocks().values() if block.hash == parse_hex(shown)), None)


def assert_same_block(block: Block, expected: dict[str, Any], full: bool) -> None:
    shown = block_json(block.header, recover_all(block.transactions), full=full)
    if block.withdrawals:
        # L1 blocks of this chain have withdrawals, which change the size; L2 blocks never do.
        shown["withdrawals"], shown["size"] = expected["withdrawals"], expected["size"]
    assert shown == expected


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getBlockByHash"])
def test_blocks_look_like_geths(method: str) -> None:
    compared = 0
    for _, (_, full), expected in recorded(method):
        block = None if expected is None else block_by_hash(expected["hash"])
        if block is not None:
            assert_same_block(block, expected, full)
            compared += 1
    assert compared >= 1


@pytest.mark.parametrize(
    "method",
    [
        "eth_getTransactionByHash",
        "eth_getTransactionByBlockHashAndIndex",
        "eth_getTransactionByBlockNumberAndIndex",
    ],
)
def test_transactions_look_like_geths(method: str) -> None:
    compared = 0
    for _, _, expected in recorded(method):
        block = None if expected is None else block_by_hash(expected["blockHash"])
        if block is None:
            continue
        index = parse_quantity(expected["transactionIndex"])
        envelope = TxEnvelope.decode(block.transactions[index])
        position = TxPosition(block.hash, block.number, block.header.timestamp, index)
        assert transaction_json(envelope, position, block.header.base_fee_per_gas) == expected
        compared += 1
    assert compared >= 1


def receipt_of(shown: dict[str, Any]) -> Receipt:
    logs = tuple(
        Log(parse_hex(log["address"]), tuple(map(parse_hex, log["topics"])), parse_hex(log["data"]))
        for log in shown["logs"]
    )
    nonce, version = shown.get("depositNonce"), shown.get("depositReceiptVersion")
    return Receipt(
        parse_quantity(shown["type"]),
        shown["status"] == "0x1",
        parse_quantity(shown["cumulativeGasUsed"]),
        logs,
        None if nonce is None else parse_quantity(nonce),
        None if version is None else parse_quantity(version),
    )


def test_receipts_look_like_geths() -> None:
    compared = 0
    for _, _, expected in recorded("eth_getBlockReceipts"):
        block = block_by_hash(expected[0]["blockHash"]) if expected else None
        if block is None or any("root" in item or "blobGasPrice" in item for item in expected):
            continue  # receipts before Byzantium, or with blobs: not of L2
        receipts = [receipt_of(item) for item in expected]
        envelopes = recover_all(block.transactions)
        assert block_receipts_json(OpFork.CANYON, block.header, envelopes, receipts) == expected
        compared += 1
    assert compared >= 1


def real_blocks() -> list[Path]:
    folder = reference_path("op-blocks") / "dev"
    return sorted(folder.glob("op-*.json.gz"))[:6]


def test_receipts_of_real_op_blocks() -> None:
    compared = 0
    for path in real_blocks():
        recorded_block = json.loads(gzip.decompress(path.read_bytes()))
        header: Header = decode_header(parse_hex(recorded_block["expected_header_rlp"]))
        envelopes = recover_all(
            [parse_hex(raw) for raw in recorded_block["payload_attributes"]["transactions"]]
        )
        expected = recorded_block["expected_receipts"]
        fork = ChainConfig.from_rollup(recorded_block["rollup_config"]).fork_at(header.timestamp)
        shown = block_receipts_json(fork, header, envelopes, [receipt_of(item) for item in expected])
        for ours, theirs in zip(shown, expected, strict=True):
            for key, value in theirs.items():
                if key == "logs":
                    assert [(log["address"], log["topics"], log["data"]) for log in ours["logs"]] == [
                        (log["address"], log["topics"], log["data"]) for log in value
                    ]
                elif key in ours:
                    assert ours[key] == value, (path.name, key)
            compared += "l1Fee" in theirs
    assert compared > 50


def test_deposit_shows_zero_signature_and_the_nonce_of_its_receipt() -> None:
    for item in json.loads((reference_path("op-vectors") / "deposit_txs.json").read_text()):
        envelope = TxEnvelope.decode(parse_hex(item["raw"]))
        receipt = Receipt(0x7E, True, 21_000, (), 7, 1)
        shown = transaction_json(envelope, None, 5, receipt)
        assert (shown["type"], shown["nonce"], shown["depositReceiptVersion"]) == ("0x7e", "0x7", "0x1")
        assert (shown["v"], shown["r"], shown["s"], shown["gasPrice"]) == ("0x0",) * 4
        assert "chainId" not in shown
        assert shown.get("isSystemTx", False) is envelope.tx.is_system  # type: ignore[union-attr]
        assert "isSystemTx" not in shown or shown["isSystemTx"]


def test_a_receipt_of_a_deposit_has_no_fields_of_fees_that_it_does_not_pay() -> None:
    for path in real_blocks():
        recorded_block = json.loads(gzip.decompress(path.read_bytes()))
        header = decode_header(parse_hex(recorded_block["expected_header_rlp"]))
        envelopes = recover_all(
            [parse_hex(raw) for raw in recorded_block["payload_attributes"]["transactions"]]
        )
        receipts = [receipt_of(item) for item in recorded_block["expected_receipts"]]
        fork = ChainConfig.from_rollup(recorded_block["rollup_config"]).fork_at(header.timestamp)
        for envelope, shown in zip(
            envelopes, block_receipts_json(fork, header, envelopes, receipts), strict=True
        ):
            of_fees = {key for key in shown if key.startswith(("l1", "operator", "daFootprint", "blobGas"))}
            assert bool(of_fees) is not envelope.is_deposit


def test_a_removed_log_says_so() -> None:
    log = Log(b"\x01" * 20, (), b"")
    shown = log_json(log, TxPosition(b"\x02" * 32, 3, 4, 5), b"\x06" * 32, 7, removed=True)
    assert shown["removed"] is True
    assert (shown["logIndex"], shown["transactionIndex"]) == ("0x7", "0x5")
