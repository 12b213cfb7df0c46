"""What a deposit is for: the L1 attributes of a block, a network upgrade, or something a user sent from L1.

The kind is proven where it can be: the source hash of the first two is a hash of things that the deposit
itself shows (protocol/deposits.md, "Source hash computation"), so a forged one is recognised.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flashctl.eth.transactions import DepositTx
from flashctl.op.deposits import l1_attributes_source_hash, upgrade_source_hash
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import InvalidL1Attributes, L1Attributes, decode_l1_attributes

__all__ = ["describe_deposit", "l1_attributes_of"]

_L1_BLOCK = bytes.fromhex("4200000000000000000000000000000000000015")
_DEPOSITOR = bytes.fromhex("deaddeaddeaddeaddeaddeaddeaddeaddead0001")

_UPGRADES = {
    "Ecotone": (
        "L1 Block Deployment",
        "Gas Price Oracle Deployment",
        "L1 Block Proxy Update",
        "Gas Price Oracle Proxy Update",
        "Gas Price Oracle Set Ecotone",
        "beacon block roots contract deployment",
    ),
    "Fjord": ("Gas Price Oracle Deployment", "Gas Price Oracle Proxy Update", "Gas Price Oracle Set Fjord"),
    "Isthmus": (
        "L1 Block Deployment",
        "Gas Price Oracle Deployment",
        "Operator Fee Vault Deployment",
        "L1 Block Proxy Update",
        "Gas Price Oracle Proxy Update",
        "Operator Fee Vault Proxy Update",
        "Gas Price Oracle Set Isthmus",
        "EIP-2935 Contract Deployment",
    ),
    "Jovian": (
        "L1 Block Deployment",
        "L1 Block Proxy Update",
        "Gas Price Oracle Deployment",
        "Gas Price Oracle Proxy Update",
        "Gas Price Oracle Set Jovian",
    ),
}
"""The intents whose hashes are the source hashes of upgrade deposits (the derivation page of each fork)."""


@cache
def _upgrade_intents() -> dict[bytes, str]:
    intents = (f"{fork}: {step}" for fork, steps in _UPGRADES.items() for step in steps)
    return {upgrade_source_hash(intent): intent for intent in intents}


def l1_attributes_of(tx: DepositTx) -> tuple[OpFork, L1Attributes] | None:
    """The L1 attributes that a deposit sets, or None when it is another kind of deposit."""
    if tx.to != _L1_BLOCK or tx.sender != _DEPOSITOR:
        return None
    try:
        return decode_l1_attributes(tx.data)
    except InvalidL1Attributes:
        return None


def describe_deposit(tx: DepositTx) -> dict[str, Any]:
    """The kind of a deposit, and the L1 attributes it carries in the names of L1Block's getters."""
    found = l1_attributes_of(tx)
    if found is not None:
        layout, attributes = found
        expected = l1_attributes_source_hash(attributes.block_hash, attributes.sequence_number)
        return {
            "kind": "l1-attributes",
            "sourceVerified": expected == tx.source_hash,
            "layout": layout.label,
            "l1Attributes": _attributes(layout, attributes),
        }
    intent = _upgrade_intents().get(tx.source_hash)
    if intent is not None:
        return {"kind": "upgrade", "sourceVerified": True, "intent": intent}
    if tx.to == _L1_BLOCK and tx.sender == _DEPOSITOR:  # only the protocol sends from this address
        return {"kind": "l1-attributes", "malformed": _fault_of(tx.data)}
    return {"kind": "user"}


def _fault_of(data: bytes) -> str:
    try:
        decode_l1_attributes(data)
    except InvalidL1Attributes as error:
        return str(error)
    return "unknown layout"


def _attributes(layout: OpFork, a: L1Attributes) -> dict[str, Any]:
    report: dict[str, Any] = {
        "number": hex(a.number),
        "timestamp": hex(a.timestamp),
        "baseFee": hex(a.base_fee),
        "hash": "0x" + a.block_hash.hex(),
        "sequenceNumber": hex(a.sequence_number),
        "batcher": "0x" + a.batcher.hex(),
    }
    if not layout.prices_blobs:
        return report | {"l1FeeOverhead": hex(a.overhead), "l1FeeScalar": hex(a.scalar)}
    report |= {
        "baseFeeScalar": hex(a.base_fee_scalar),
        "blobBaseFeeScalar": hex(a.blob_base_fee_scalar),
        "blobBaseFee": hex(a.blob_base_fee),
    }
    if layout.has_operator_fee:
        report["operatorFeeScalar"] = hex(a.operator_fee_scalar)
        report["operatorFeeConstant"] = hex(a.operator_fee_constant)
    if layout.has_da_footprint:
        report["daFootprintGasScalar"] = hex(a.da_footprint_gas_scalar)
    return report
