"""A chain with a stream in front of it: real blocks, cut into real flashblocks, sealed when the test says
so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flashctl.chain.chain import Chain
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.core.flashblocks.wire import Base, Diff, Flashblock, Metadata
from flashctl.eth.blocks import Header
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.evm.missing_state import Missing
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes, payload_id
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution, SealedBlock
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes, l1_attributes_deposit
from flashctl.remote.state import CanonicalBlock, CanonicalState

CHAIN_ID = 901
CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"


def contract(name: str) -> dict[str, str]:
    """Creation code and selectors of a test contract: `{"code": hex, "transfer(address,uint256)":
    selector}`."""
    artifact = json.loads((CONTRACTS / f"{name}.json").read_text())
    return {"code": artifact["bytecode"], **artifact["selectors"]}


def word(value: int | bytes) -> bytes:
    """One ABI word."""
    return (value if isinstance(value, int) else int.from_bytes(value, "big")).to_bytes(32, "big")


def signed(
    sender: int,
    nonce: int,
    to: bytes | None = b"\x99" * 20,
    *,
    value: int = 0,
    data: bytes = b"",
    gas: int = 1_000_000,
) -> bytes:
    """A transaction of a devnet account, as raw bytes."""
    tx = FeeMarketTx(CHAIN_ID, nonce, 1, 10**11, gas, to, value, data, (), 0, 0, 0)
    return encode_transaction(sign_transaction(tx, DEVNET_ACCOUNTS[sender].secret))


@dataclass(frozen=True)
class StreamedBlock:
    """A block as a builder shows it: piece by piece, then sealed."""

    flashblocks: tuple[Flashblock, ...]
    sealed: SealedBlock

    @property
    def canonical(self) -> CanonicalBlock:
        """The block as the overlay hears of it from a node."""
        return canonical_block(self.sealed.header, [envelope.hash for envelope in self.sealed.envelopes])


def canonical_block(header: Header, transactions: Sequence[bytes] = ()) -> CanonicalBlock:
    return CanonicalBlock(
        header.number,
        header.hash,
        header.parent_hash,
        header.timestamp,
        header.receipts_root,
        tuple(transactions),
    )


class StreamLab:
    """Builds blocks on top of one another and remembers the state after each."""

    def __init__(self, fork: OpFork = OpFork.JOVIAN) -> None:
        self.genesis = build_genesis(devnet_genesis(timestamp=1_700_000_000, latest_fork=fork))
        self.config = self.genesis.config
        self.fork = fork
        self.chain = Chain.open(self.genesis, None)
        self.worlds: dict[bytes, World] = {self.genesis.block.hash: self.genesis.world}
        self.loads: list[Missing] = []

    @property
    def start(self) -> CanonicalBlock:
        """The genesis block."""
        return canonical_block(self.genesis.block.header)

    def build(
        self, transactions: Sequence[Sequence[bytes]], parent: Header | None = None, *, salt: int = 0
    ) -> StreamedBlock:
        """A block with one flashblock for the deposit and one for each list of transactions."""
        parent = parent or self.genesis.block.header
        attributes = self._attributes(parent, salt)
        execution = BlockExecution(
            self.config,
            parent,
            BlockContext.from_attributes(self.config, parent, attributes),
            self.worlds[parent.hash],
            lambda number: bytes(32),
        )
        name = "0x" + payload_id(parent.hash, attributes).hex()
        flashblocks = []
        for index, raws in enumerate([attributes.transactions, *transactions]):
            for raw in raws:
                execution.execute(TxEnvelope.decode(raw))
            flashblocks.append(_flashblock(name, index, execution.seal(), tuple(raws)))
        sealed = execution.seal()
        self.worlds[sealed.hash] = sealed.world
        return StreamedBlock(tuple(flashblocks), sealed)

    def seal(self, block: StreamedBlock) -> None:
        """Make a block the head of the chain that the node serves."""
        self.chain.insert(block.sealed)
        self.chain.set_head(block.sealed.hash, None, None)

    def load(self, state: CanonicalState, missing: Missing) -> None:
        """What a node answers to the overlay's questions."""
        self.loads.append(missing)
        world = self.worlds[state.block.hash]
        for address in missing.accounts:
            account = world.account(address)
            state.add_account(address, account, b"" if account is None else world.code(account.code_hash))
        for address, slot in missing.slots:
            state.add_slot(address, slot, world.storage(address, slot))
        state.hashes.update(dict.fromkeys(missing.hashes, bytes(32)))

    def _attributes(self, parent: Header, salt: int) -> PayloadAttributes:
        jovian = self.fork >= OpFork.JOVIAN
        l1 = L1Attributes(
            number=parent.number + 1,
            timestamp=parent.timestamp,
            base_fee=10**9 + salt,
            block_hash=bytes(32),
            sequence_number=0,
            batcher=bytes(20),
            base_fee_scalar=1000,
            blob_base_fee_scalar=1000,
            blob_base_fee=1,
            da_footprint_gas_scalar=400 if jovian else 0,
        )
        layout = min(self.fork, OpFork.JOVIAN)
        return PayloadAttributes(
            timestamp=parent.timestamp + 2,
            prev_randao=bytes(32),
            fee_recipient=b"\x42" + bytes(18) + b"\x11",
            transactions=(encode_transaction(l1_attributes_deposit(l1, layout)),),
            gas_limit=60_000_000,
            parent_beacon_block_root=bytes(32),
            eip1559_params=bytes(8),
            min_base_fee=0 if jovian else None,
        )


def _flashblock(name: str, index: int, sealed: SealedBlock, raws: tuple[bytes, ...]) -> Flashblock:
    header = sealed.header
    base = Base(
        parent_beacon_block_root=header.parent_beacon_block_root or bytes(32),
        parent_hash=header.parent_hash,
        fee_recipient=header.fee_recipient,
        prev_randao=header.prev_randao,
        block_number=header.number,
        gas_limit=header.gas_limit,
        timestamp=header.timestamp,
        extra_data=header.extra_data,
        base_fee_per_gas=header.base_fee_per_gas or 0,
    )
    diff = Diff(
        transactions=raws,
        gas_used=header.gas_used,
        receipts_root=header.receipts_root,
        logs_bloom=header.logs_bloom,
        state_root=header.state_root,
        block_hash=header.hash,
        withdrawals_root=header.withdrawals_root or bytes(32),
        blob_gas_used=header.blob_gas_used,
    )
    return Flashblock(name, index, base if index == 0 else None, diff, Metadata(header.number))
