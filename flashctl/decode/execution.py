"""`--execute`: runs a block on its witness, and says of every field of its header whether it comes out.

Unlike a node, which stops at the first wrong field, this goes on as far as it can: what agrees narrows down
what went wrong as much as what differs. Wrong gas with the right transactions root is another fault than a
wrong state root alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

from flashctl.decode.calls import describe_revert
from flashctl.decode.containers import report_header
from flashctl.decode.tx_report import Options, Report, report_transaction
from flashctl.decode.witness import StatedBlock, Witness
from flashctl.errors import DataError
from flashctl.eth.blocks import Header
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import DepositTx, InvalidTransaction, decode_transaction
from flashctl.eth.trie import MissingNode
from flashctl.ethrpc.rpc_json import block_receipts_json
from flashctl.evm.world import MissingCode
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.execution import (
    BlockContext,
    BlockExecution,
    SealedBlock,
    TransactionRejected,
    TransactionResult,
)
from flashctl.op.header_checks import InvalidBlock, check_header
from flashctl.op.registry import chain_by_id

__all__ = ["chain_of", "report_execution"]

_COMPARED: Final = {
    "transactionsRoot": "transactions_root",
    "gasUsed": "gas_used",
    "receiptsRoot": "receipts_root",
    "logsBloom": "logs_bloom",
    "blobGasUsed": "blob_gas_used",
    "withdrawalsRoot": "withdrawals_root",
    "stateRoot": "state_root",
}
"""What only execution can tell, in the order in which a fault shows: a wrong field explains those after it.
"""


def chain_of(block: StatedBlock) -> ChainConfig | None:
    """The built-in chain whose id the block's transactions are signed for; None if that is none."""
    for raw in block.block.transactions:
        try:
            tx = decode_transaction(raw)
        except InvalidTransaction:
            continue
        if not isinstance(tx, DepositTx) and tx.chain_id is not None:
            return chain_by_id(tx.chain_id)
    return None


def report_execution(stated: StatedBlock, witness: Witness, config: ChainConfig, options: Options) -> Report:
    """The report of a block with what executing it came to.

    Raises:
        DataError: The witness lacks something that the block needs.
        UnsupportedFork: The block's time is before Canyon.
    """
    header = stated.block.header
    try:
        run = _execute(stated, witness, config)
    except (MissingNode, MissingCode) as error:
        raise DataError(f"the witness is incomplete: {error}") from None
    report = report_header(header)
    extras = report["flashctl"]
    extras |= {
        "kind": "execution",
        "chain": config.name or str(config.chain_id),
        "fork": config.fork_at(header.timestamp).label,
    }
    problems = [*stated.wrong, *run.problems]
    if stated.hash != header.hash:
        problems.append(f"hash: stated 0x{stated.hash.hex()}, the header hashes to 0x{header.hash.hex()}")
    if run.sealed is not None:
        checks = _compare(header, stated.hash, run.sealed.header)
        problems += [
            f"{name}: stated {check['stated']}, computed {check['computed']}"
            for name, check in checks.items()
            if not check["agrees"]
        ]
        extras["checks"] = checks
    if problems:
        extras["problems"] = problems
    report["transactions"] = _transactions(stated, config, run, options)
    return report


class _Run(NamedTuple):
    """How far a block came."""

    problems: list[str]
    envelopes: list[TxEnvelope]
    results: list[TransactionResult]
    sealed: SealedBlock | None
    """None when a transaction could not be included."""


def _execute(stated: StatedBlock, witness: Witness, config: ChainConfig) -> _Run:
    block = stated.block
    parent = witness.parent_of(block)
    problems: list[str] = []
    try:
        check_header(config, parent, block)
    except InvalidBlock as error:
        problems.append(f"header: {error}")
    try:
        envelopes = recover_all(block.transactions)
    except (InvalidTransaction, InvalidSignature) as error:
        return _Run([*problems, f"a transaction cannot be decoded: {error}"], [], [], None)
    execution = BlockExecution(
        config,
        parent,
        BlockContext.from_header(block.header),
        witness.state(parent.state_root),
        partial(witness.ancestor_hash, parent),
    )
    for position, envelope in enumerate(envelopes):
        try:
            execution.execute(envelope)
        except TransactionRejected as error:
            problems.append(f"transaction {position} cannot be included: {error}")
            return _Run(problems, execution.envelopes, execution.results, None)
    return _Run(problems, execution.envelopes, execution.results, execution.seal())


def _compare(stated: Header, stated_hash: bytes, computed: Header) -> dict[str, Report]:
    pairs = {
        name: (getattr(stated, attribute), getattr(computed, attribute))
        for name, attribute in _COMPARED.items()
    }
    pairs["hash"] = (stated_hash, computed.hash)
    return {
        name: {"agrees": one == other, "stated": _shown(one), "computed": _shown(other)}
        for name, (one, other) in pairs.items()
        if one is not None or other is not None
    }


def _shown(value: bytes | int | None) -> str | None:
    if value is None:
        return None
    return hex(value) if isinstance(value, int) else "0x" + value.hex()


# -- transactions ----------------------------------------------------------------------------------


def _transactions(stated: StatedBlock, config: ChainConfig, run: _Run, options: Options) -> list[Report]:
    """What each transaction is and did; those after one that failed to be included are left out."""
    header = stated.block.header
    receipts = block_receipts_json(
        config.fork_at(header.timestamp),
        header,
        run.envelopes,
        [result.receipt for result in run.results],
        block_hash=stated.hash,
    )
    reports = []
    for position, (envelope, result) in enumerate(zip(run.envelopes, run.results, strict=True)):
        report = report_transaction(
            envelope.raw, options._replace(senders=False), {"position": position}, header.base_fee_per_gas
        )
        report["from"] = "0x" + envelope.sender.hex()
        extras = report["flashctl"]
        extras |= _outcome(result, options)
        extras["receipt"] = receipts[position]
        if not envelope.is_deposit:
            extras["signature"] = "valid"
        reports.append(report)
    return reports


def _outcome(result: TransactionResult, options: Options) -> dict[str, Any]:
    paid = result.gas_used * result.effective_gas_price + result.l1_fee + result.operator_fee
    outcome: dict[str, Any] = {
        "status": hex(int(result.receipt.succeeded)),
        "gasUsed": hex(result.gas_used),
        "fee": hex(paid),
        "l1Fee": hex(result.l1_fee),
        "operatorFee": hex(result.operator_fee),
    }
    if result.halt_reason is not None:
        outcome["halted"] = result.halt_reason
    elif not result.receipt.succeeded:
        outcome["reverted"] = describe_revert(result.output, options.book) or "0x" + result.output.hex()
    return outcome
