"""The same transactions through cast and viem: every field that they print is equal to ours."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.decode_lab import every_type
from support.npm import node_modules, npm_binary, require_node
from support.reference import reference_path

from flashctl.decode.tx_report import Options, Report, report_transaction

COUNT = 500

VIEM = """
import { parseTransaction, recoverTransactionAddress, keccak256 } from 'viem';
import { parseTransaction as parseOp } from 'viem/op-stack';
import { readFileSync } from 'node:fs';
const hex = (value) => value === undefined || value === null ? null : '0x' + BigInt(value).toString(16);
for (const raw of readFileSync(0, 'utf8').split('\\n').filter(Boolean)) {
  const tx = raw.startsWith('0x7e') ? parseOp(raw) : parseTransaction(raw);
  const from = raw.startsWith('0x7e') ? tx.from
    : await recoverTransactionAddress({ serializedTransaction: raw });
  console.log(JSON.stringify({
    type: tx.type, hash: keccak256(raw), from: from.toLowerCase(), to: tx.to ? tx.to.toLowerCase() : null,
    nonce: hex(tx.nonce ?? 0), gas: hex(tx.gas ?? 0), value: hex(tx.value ?? 0), input: tx.data ?? '0x',
    gasPrice: hex(tx.gasPrice), maxFeePerGas: hex(tx.maxFeePerGas),
    maxPriorityFeePerGas: hex(tx.maxPriorityFeePerGas), chainId: hex(tx.chainId),
    sourceHash: tx.sourceHash ?? null, mint: hex(tx.mint),
    storageKeys: (tx.accessList ?? []).map((entry) => entry.storageKeys.length),
    authorizations: (tx.authorizationList ?? []).length,
  }));
}
"""


def transactions() -> list[str]:
    """500 of every kind there is data for: real OP blocks, the hive chain, and one of each type made here."""
    raws: list[str] = ["0x" + raw.hex() for raw in every_type().values()]
    for name in ("transactions/op_block_txs.json", "transactions/hivechain_txs.json"):
        raws += [tx["raw"] for tx in json.loads(reference_path(name).read_text())["txs"]]
    raws += [tx["raw"] for tx in json.loads(reference_path("op-vectors/deposit_txs.json").read_text())]
    assert len(raws) < COUNT
    raws += [tx for message in _recorded() for tx in message["diff"]["transactions"]]
    raws += raws[: COUNT - len(raws)]
    return raws[:COUNT]


def _recorded() -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = json.loads(
        reference_path("flashblocks/seq_block_33439826.json").read_text()
    )
    return messages


def ours(raw: str) -> Report:
    return report_transaction(bytes.fromhex(raw[2:]), Options())


def cast_path() -> str:
    """The native program: the script around it starts a Node for each call."""
    wrapper = npm_binary("cast")
    native = sorted(Path(node_modules() / "@foundry-rs").glob("cast-*/bin/cast"))
    return str(native[0]) if native else wrapper


def test_equal_to_cast_decode_tx() -> None:
    cast = cast_path()

    def ask(raw: str) -> dict[str, Any]:
        network = ["--network", "optimism"] if raw.startswith("0x7e") else []
        result = subprocess.run([cast, "decode-tx", *network, raw], capture_output=True, timeout=60)
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        # cast prints JSON as a JSON string.
        parsed: dict[str, Any] = json.loads(answer) if isinstance(answer, str) else answer
        return parsed

    raws = transactions()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, raws))
    for raw, answer in zip(raws, answers, strict=True):
        compare_with_cast(ours(raw), answer)


def compare_with_cast(report: Report, answer: dict[str, Any]) -> None:
    """Every field cast has; names of fields that the two spell differently are mapped."""
    renamed = {"signer": "from", "isSystemTransaction": "isSystemTx"}
    for name, value in answer.items():
        mine = report.get(renamed.get(name, name))
        if report["type"] == "0x7e" and name in ("r", "s", "v", "yParity", "nonce", "gasPrice"):
            assert int(value, 16) == 0, "cast fills what a deposit does not have with zeros"
            continue
        if isinstance(mine, bool):
            assert mine == (value in (True, "0x1")), name
        elif name in ("accessList", "authorizationList", "blobVersionedHashes"):
            assert json.dumps(mine).lower() == json.dumps(value).lower(), name
        elif isinstance(value, str) and value.startswith("0x"):
            assert isinstance(mine, str) and mine == value.lower(), (name, mine, value)
        elif name == "mint" and value is None:
            assert mine in (None, "0x0")
        else:
            assert mine == value, name


def test_equal_to_viem() -> None:
    node = require_node("viem")
    raws = transactions()
    result = subprocess.run(
        [node, "--input-type=module", "-e", VIEM],
        input="\n".join(raws).encode(),
        capture_output=True,
        timeout=110,
        cwd=node_modules().parent,
    )
    assert result.returncode == 0, result.stderr.decode()[-2000:]
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == COUNT
    for raw, answer in zip(raws, answers, strict=True):
        compare_with_viem(ours(raw), answer)


def compare_with_viem(report: Report, answer: dict[str, Any]) -> None:
    assert answer["type"] == report["flashctl"]["typeName"]
    for name in ("hash", "from", "to", "gas", "value", "input"):
        assert report[name] == answer[name], name
    if answer["type"] == "deposit":
        assert report["sourceHash"] == answer["sourceHash"]
        assert report["mint"] == (answer["mint"] or "0x0")
        return
    assert report["nonce"] == answer["nonce"]
    for name in ("gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "chainId"):
        assert report.get(name) in (answer[name], "0x0" if answer[name] is None else answer[name]), name
    assert [len(entry["storageKeys"]) for entry in report.get("accessList", [])] == answer["storageKeys"]
    assert len(report.get("authorizationList", [])) == answer["authorizations"]


def test_the_sample_has_every_type() -> None:
    kinds = {ours(raw)["type"] for raw in transactions()}
    assert kinds == {"0x0", "0x1", "0x2", "0x3", "0x4", "0x7e"}
    assert len(transactions()) == COUNT


@pytest.mark.slow
def test_equal_to_cast_on_every_ethers_transaction() -> None:
    import gzip

    cast = cast_path()
    cases = json.loads(
        gzip.decompress(reference_path("transactions/ethers/transaction.json.gz").read_bytes())
    )
    for case in cases[:400]:
        raw = case["signedLondon"]
        result = subprocess.run([cast, "decode-tx", raw], capture_output=True, timeout=60)
        compare_with_cast(ours(raw), json.loads(json.loads(result.stdout)))
