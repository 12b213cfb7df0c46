"""Real blocks of OP Mainnet and OP Sepolia, streamed as flashblocks: the overlay reaches what was sealed."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from support import op_blocks
from support.flashblocks import derived_blocks
from support.stream_lab import canonical_block
from support.vectors import block_cases

from flashctl.core.flashblocks.sequence import Assembler
from flashctl.core.flashblocks.wire import from_object
from flashctl.eth.blocks import Block
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import encode_receipt
from flashctl.eth.trie import MissingNode
from flashctl.evm.missing_state import Missing
from flashctl.evm.state import Account
from flashctl.evm.world import MissingCode, World
from flashctl.op.call import CallRequest, ExecutionFailed, Simulation, create_access_list
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.state import CanonicalState
from flashctl.rpc.chain_rules import ChainRules, inferred_fork
from flashctl.rpc.overlay import Overlay

QUICK = {"op-mainnet-132796000", "op-sepolia-26207960", "op-sepolia-26211680", *block_cases()}


def load(world: World, recorded: op_blocks.RecordedBlock, state: CanonicalState, missing: Missing) -> None:
    """What a node would answer, from the witness of the block.

    Execution that lacks something guesses on, and may ask for what the real execution never touched. The
    witness does not have that; any answer will do, since a wrong one that mattered would show in the
    receipts root.
    """
    for address in missing.accounts:
        account = code = None
        with contextlib.suppress(MissingNode):
            account = world.account(address)
            code = b"" if account is None else world.code(account.code_hash)
        state.add_account(address, account, code or b"")
    for address, slot in missing.slots:
        value = 0
        with contextlib.suppress(MissingNode):
            value = world.storage(address, slot)
        state.add_slot(address, slot, value)
    for number in missing.hashes:
        state.hashes[number] = recorded.ancestor_hash(number)


class WitnessReader:
    """The state before the block; what the witness lacks is absent."""

    def __init__(self, world: World) -> None:
        self._world = world

    def account(self, address: int) -> Account | None:
        with contextlib.suppress(MissingNode):
            return self._world.account(address)
        return None

    def storage(self, address: int, slot: int) -> int:
        with contextlib.suppress(MissingNode):
            return self._world.storage(address, slot)
        return 0

    def code(self, code_hash: bytes) -> bytes:
        with contextlib.suppress(MissingCode):
            return self._world.code(code_hash)
        return b""

    def has_storage(self, address: int) -> bool:
        return False


def touched(recorded: op_blocks.RecordedBlock, envelopes: list[TxEnvelope]) -> Missing:
    """What eth_createAccessList of a node would say."""
    found = Missing()
    context = BlockContext.from_header(recorded.parent)
    reader = WitnessReader(recorded.world())
    for envelope in envelopes:
        tx = envelope.tx
        request = CallRequest(envelope.sender, tx.to, tx.gas_limit, 0, tx.value, tx.data)
        with contextlib.suppress(ExecutionFailed):
            simulation = Simulation(recorded.config, context, request)
            entries, _ = create_access_list(simulation, reader, lambda number: bytes(32))
            for entry in entries:
                address = int.from_bytes(entry.address, "big")
                found.accounts.add(address)
                found.slots.update((address, int.from_bytes(key, "big")) for key in entry.storage_keys)
    return found


def selected() -> list[Any]:
    blocks = {block["_op_block"].removesuffix(".json.gz"): block for block in derived_blocks()}
    return [
        pytest.param(name, block, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, block in blocks.items()
    ]


SELECTED = selected()
TELLING = [case for case in SELECTED if str(case.id).startswith(("op-", "holocene", "isthmus", "jovian"))][:9]
"""Blocks whose messages show their fork: Fjord and Granite look like Ecotone until Holocene's extraData."""


@pytest.mark.parametrize(("name", "streamed"), SELECTED)
def test_every_flashblock_of_a_real_block(name: str, streamed: dict[str, object]) -> None:
    recorded = op_blocks.load(name)
    world = recorded.world()
    assembler, rounds = Assembler(), 0
    overlay = Overlay(ChainRules(recorded.config))
    overlay.confirm([canonical_block(recorded.parent)])
    for message in streamed["flashblocks"]:  # type: ignore[attr-defined]
        flashblock = from_object(message)
        overlay.follow(assembler.feed(flashblock, 0))
        while missing := overlay.step():
            assert overlay.canonical is not None
            missing.add(overlay.canonical.without_known(touched(recorded, overlay.hopeless())))
            load(world, recorded, overlay.canonical, missing)
            rounds += 1
        view = overlay.view
        assert view is not None and view.latest.index == flashblock.index
        assert view.latest.agrees
        root = ordered_root([encode_receipt(receipt) for receipt in view.latest.receipts])
        assert root == flashblock.diff.receipts_root
    assert overlay.counts.diverged == 0
    assert assembler.payload is not None
    # 3 to 4 on an empty cache; the one block with long chains of dependent reads takes 8.
    assert rounds <= 9 * len(assembler.payload.flashblocks)
    print(f"{name}: {rounds} fetches for {len(assembler.payload.flashblocks)} flashblocks")


@pytest.mark.parametrize(("name", "streamed"), TELLING)
def test_the_fork_of_a_real_block_shows_in_its_messages(name: str, streamed: dict[str, object]) -> None:
    recorded = op_blocks.load(name)
    assembler = Assembler()
    assembler.feed(from_object(streamed["flashblocks"][0]), 0)  # type: ignore[index]
    assert assembler.payload is not None
    fork = inferred_fork(assembler.payload)
    config: ChainConfig = recorded.config
    block: Block = recorded.block
    assert fork is config.fork_at(block.header.timestamp) or fork.label == "granite"
