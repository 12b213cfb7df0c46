"""A devnet chain with real execution: the sequencer's part in a few lines, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flashctl.chain.chain import Chain, ChainBlock
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.chain.predeploys import Artifact, read_artifact
from flashctl.eth.blocks import Header
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, SignedTransaction, encode_transaction
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockContext, BlockExecution, SealedBlock
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes, attributes_layout, l1_attributes_deposit

CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"
GENESIS_TIME = 1_800_000_000
GWEI = 10**9


def contract(name: str) -> Artifact:
    """A compiled contract of tests/contracts."""
    return read_artifact(CONTRACTS / f"{name}.json")


def open_devnet(datadir: Path | None = None, **genesis: Any) -> Chain:
    """A devnet chain at its genesis; keyword arguments go to `devnet_genesis`."""
    return Chain.open(build_genesis(devnet_genesis(**{"timestamp": GENESIS_TIME} | genesis)), datadir)


def l1_attributes(number: int, **changes: int) -> L1Attributes:
    """A plausible view of L1 for one L2 block."""
    attributes = L1Attributes(
        number=20_000_000 + number // 6,
        timestamp=GENESIS_TIME + number * 2,
        base_fee=7 * GWEI,
        block_hash=keccak256(b"l1" + (number // 6).to_bytes(8, "big")),
        sequence_number=number % 6,
        batcher=b"\xba" * 20,
        base_fee_scalar=1368,
        blob_base_fee_scalar=810949,
        blob_base_fee=GWEI,
    )
    return replace(attributes, **changes)


def attributes_for(config: ChainConfig, parent: Header, **l1_changes: int) -> PayloadAttributes:
    """Payload attributes as a sequencer would send them two seconds after `parent`."""
    timestamp = parent.timestamp + 2
    fork = config.fork_at(timestamp)
    layout = attributes_layout(config, timestamp, parent.timestamp)
    deposit = l1_attributes_deposit(l1_attributes(parent.number + 1, **l1_changes), layout)
    return PayloadAttributes(
        timestamp=timestamp,
        prev_randao=keccak256(b"randao" + timestamp.to_bytes(8, "big")),
        fee_recipient=bytes.fromhex("4200000000000000000000000000000000000011"),
        transactions=(encode_transaction(deposit),),
        gas_limit=parent.gas_limit,
        parent_beacon_block_root=keccak256(b"beacon") if fork >= OpFork.ECOTONE else None,
        eip1559_params=bytes(8) if fork >= OpFork.HOLOCENE else None,
        min_base_fee=0 if fork >= OpFork.JOVIAN else None,
    )


def build(
    chain: Chain, raws: Sequence[bytes] = (), *, parent: Header | None = None, **l1_changes: int
) -> SealedBlock:
    """Execute a block with the L1 attributes deposit and these transactions, without keeping it."""
    parent = parent or chain.head
    attributes = attributes_for(chain.config, parent, **l1_changes)
    context = BlockContext.from_attributes(chain.config, parent, attributes)
    execution = BlockExecution(
        chain.config, parent, context, chain.world(parent.hash), chain.ancestor_hash(parent.hash)
    )
    for raw in (*attributes.transactions, *raws):
        execution.execute(TxEnvelope.decode(raw))
    return execution.seal()


def mine(
    chain: Chain, raws: Sequence[bytes] = (), *, parent: Header | None = None, **l1_changes: int
) -> ChainBlock:
    """Build a block, keep it and make it the head."""
    kept = chain.insert(build(chain, raws, parent=parent, **l1_changes))
    chain.set_head(kept.hash)
    return kept


def sign(
    account: int,
    nonce: int,
    *,
    to: bytes | None = None,
    data: bytes = b"",
    value: int = 0,
    gas: int = 1_000_000,
    tip: int = GWEI,
) -> bytes:
    """A signed type 2 transaction of a devnet account, as raw bytes."""
    tx = FeeMarketTx(901, nonce, tip, 100 * GWEI, gas, to, value, data, (), 0, 0, 0)
    return sign_raw(tx, account)


def sign_raw(tx: SignedTransaction, account: int) -> bytes:
    """Any transaction, signed by a devnet account."""
    return encode_transaction(sign_transaction(tx, DEVNET_ACCOUNTS[account].secret))


def address(account: int) -> bytes:
    """Of a devnet account."""
    return DEVNET_ACCOUNTS[account].address


def encode_call(artifact: Artifact, signature: str, *words: int | bytes) -> bytes:
    """Calldata of a function whose arguments are all single words."""
    data = artifact.selectors[signature]
    for word in words:
        data += word.rjust(32, b"\0") if isinstance(word, bytes) else word.to_bytes(32, "big")
    return data
