"""Blocks executed while they are streamed: the outcome of an import is that of one that was told nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.devnet_chain import address, contract, encode_call, mine, open_devnet, sign
from support.examples import examples
from support.waiting import wait_until

from flashctl.chain import ahead
from flashctl.chain.ahead import BlocksAhead
from flashctl.chain.chain import Chain
from flashctl.eth.blocks import Block, Header
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.transactions import DepositTx, encode_transaction
from flashctl.op.context import BlockContext
from flashctl.op.execution import InvalidBlock

PROBE = contract("Probe")
PROBE_AT = keccak256(join_list((encode_bytes(address(0)), encode_uint(0))))[12:]


def three_blocks() -> list[Block]:
    """A deployment, calls of what was deployed with a transfer beside them, a transfer."""
    chain = open_devnet()
    deploy = sign(0, 0, data=PROBE.creation_code, gas=2_000_000)
    increment = sign(0, 1, to=PROBE_AT, data=encode_call(PROBE, "increment()"))
    fill = sign(0, 2, to=PROBE_AT, data=encode_call(PROBE, "fill(uint256,uint256)", 1, 20))
    contents = ([deploy], [increment, fill, sign(1, 0, to=address(2), value=5)], [sign(1, 1, to=address(3))])
    return [mine(chain, raws).block for raws in contents]


BLOCKS = three_blocks()
DEEP = BLOCKS[1]
"""The L1 attributes deposit and three transactions of two senders, upon a block that holds a contract."""


def follower() -> Chain:
    """A chain that waits for `DEEP`."""
    chain = open_devnet()
    chain.import_block(BLOCKS[0])
    chain.set_head(BLOCKS[0].hash)
    return chain


def stream(blocks: BlocksAhead, block: Block, parts: Sequence[int], payload_id: str = "0x01") -> None:
    """Show the first transactions of a block, in flashblocks of these sizes, executing after each."""
    blocks.open(payload_id, BlockContext.from_header(block.header))
    at = 0
    for size in parts:
        blocks.append(payload_id, block.transactions[at : at + size])
        blocks.advance()
        at += size


def with_header(block: Block, **changes: object) -> Block:
    return replace(block, header=replace(block.header, **changes))  # type: ignore[arg-type]


def result(chain: Chain, block: Block, blocks: BlocksAhead | None) -> Header | str:
    """What becomes of an import: the head, or what is wrong with the block."""
    try:
        chain.import_block(block, blocks.take(block) if blocks is not None else None)
    except InvalidBlock as error:
        return str(error)
    return chain.set_head(block.hash).head


@pytest.mark.parametrize("parts", [(1,), (1, 3), (1, 1, 2), (2, 0, 1), (4,)], ids=str)
def test_only_the_rest_of_a_streamed_block_is_executed(parts: tuple[int, ...]) -> None:
    chain = follower()
    blocks = BlocksAhead(chain)
    stream(blocks, DEEP, parts)
    assert result(chain, DEEP, blocks) == DEEP.header
    assert blocks.taken == sum(parts)
    assert chain.import_block(BLOCKS[2]).hash == BLOCKS[2].hash, "the state is that of the block"


def test_a_block_that_differs_from_the_stream_in_its_last_transaction() -> None:
    """The stream showed a valid one; what is imported is judged by itself, whatever was shown."""
    chain = follower()
    blocks = BlocksAhead(chain)
    stream(blocks, DEEP, (4,))
    other = replace(DEEP, transactions=(*DEEP.transactions[:3], sign(1, 0, to=address(2), value=9)))
    assert result(chain, other, blocks) == result(follower(), other, None)
    assert isinstance(result(follower(), other, None), str)
    assert blocks.taken == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state_root", b"\1" * 32),
        ("receipts_root", b"\1" * 32),
        ("gas_used", 21_000),
        ("timestamp", DEEP.header.timestamp + 1),
        ("base_fee_per_gas", 7),
        ("gas_limit", 21_000),
        ("extra_data", b""),
        ("fee_recipient", b"\1" * 20),
        ("prev_randao", b"\1" * 32),
        ("number", 9),
    ],
)
def test_a_block_with_another_header_is_judged_as_without_the_stream(field: str, value: object) -> None:
    wrong = with_header(DEEP, **{field: value})
    for shown in (DEEP, wrong):
        chain = follower()
        blocks = BlocksAhead(chain)
        stream(blocks, shown, (1, 3))
        assert result(chain, wrong, blocks) == result(follower(), wrong, None)


def test_a_payload_waits_for_its_parent() -> None:
    chain = open_devnet()
    blocks = BlocksAhead(chain)
    stream(blocks, DEEP, (1, 3))
    assert blocks.take(BLOCKS[0]) is None
    chain.import_block(BLOCKS[0])
    blocks.advance()
    assert result(chain, DEEP, blocks) == DEEP.header
    assert blocks.taken == 4


@pytest.mark.parametrize("raw", [b"\x02\xff", sign(5, 77, to=address(2)), DEEP.transactions[1] + b"\0"])
def test_what_cannot_be_executed_ends_the_payload_and_nothing_else(raw: bytes) -> None:
    chain = follower()
    blocks = BlocksAhead(chain)
    stream(blocks, DEEP, (1,))
    blocks.append("0x01", [raw])
    blocks.advance()
    assert blocks.take(DEEP) is None
    stream(blocks, DEEP, (2,), payload_id="0x02")
    assert result(chain, DEEP, blocks) == DEEP.header
    assert blocks.taken == 2


def test_a_stream_bounds_neither_memory_nor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = follower()
    blocks = BlocksAhead(chain)
    for number in range(ahead.MAX_PAYLOADS + 1):
        stream(blocks, DEEP, (2,), payload_id=hex(number))
    assert list(blocks._payloads) == ["0x1", "0x2", "0x3"]
    monkeypatch.setattr(ahead, "MAX_BYTES", 10)
    blocks.append("0x1", DEEP.transactions)
    assert list(blocks._payloads) == ["0x2", "0x3"]
    monkeypatch.setattr(ahead, "MAX_EXECUTION_S", 0.0)
    blocks._payloads["0x2"].left_s = 0.0
    blocks.append("0x2", DEEP.transactions[2:])
    blocks.advance()
    assert list(blocks._payloads) == ["0x3"]
    assert result(chain, DEEP, blocks) == DEEP.header


class TestPooled:
    def test_what_the_mempool_knows_is_not_recovered_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chain = follower()
        known = {envelope.hash: envelope for envelope in _envelopes(DEEP)}
        blocks = BlocksAhead(chain, known.get)
        recovered: list[bytes] = []

        def recover_all(raws: Sequence[bytes]) -> list[object]:
            recovered.extend(raws)
            return []

        monkeypatch.setattr(ahead, "recover_all", recover_all)
        stream(blocks, DEEP, (1, 3))
        assert not recovered
        assert result(chain, DEEP, blocks) == DEEP.header


def _envelopes(block: Block) -> list[ahead.TxEnvelope]:
    return ahead.recover_all(block.transactions)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("append"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("advance"), st.just(0), st.just(0)),
        st.tuples(st.just("import"), st.integers(0, 2), st.just(0)),
    ),
    max_size=30,
)


@given(EVENTS)
@settings(max_examples=examples(25))
def test_any_order_of_stream_and_blocks_comes_to_the_same_chain(events: list[tuple[str, int, int]]) -> None:
    chain = open_devnet()
    blocks = BlocksAhead(chain)
    shown: dict[int, tuple[Block, int]] = {}
    for what, which, number in events:
        match what:
            case "open":
                shown[which] = (BLOCKS[number], 0)
                blocks.open(hex(which), BlockContext.from_header(BLOCKS[number].header))
            case "append" if which in shown:
                block, at = shown[which]
                # 5 is a lie: a transaction of another block.
                raws = BLOCKS[2].transactions[-1:] if number == 5 else block.transactions[at : at + number]
                blocks.append(hex(which), raws)
                shown[which] = (block, at + len(raws))
            case "drop":
                blocks.drop(hex(which))
            case "advance":
                blocks.advance()
            case "import" if chain.header(BLOCKS[which].header.parent_hash) is not None:
                assert result(chain, BLOCKS[which], blocks) == BLOCKS[which].header
    for block in BLOCKS:
        result(chain, block, blocks)
    assert chain.head == BLOCKS[2].header


def endless(gas: int) -> bytes:
    """A forced transaction that runs for ever."""
    loop = bytes.fromhex("5b600056")
    return encode_transaction(DepositTx(b"\1" * 32, address(9), None, 0, 0, gas, False, loop))


@pytest.mark.parametrize("shown", [DEEP.transactions[:2], ()], ids=["after a beginning", "at once"])
def test_an_import_does_not_wait_for_a_transaction_that_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, shown: tuple[bytes, ...]
) -> None:
    """Stream and block have one context, and what the stream shows next never ends."""
    monkeypatch.setattr(ahead, "MAX_EXECUTION_S", 3600.0)
    chain = follower()
    blocks = BlocksAhead(chain)
    blocks.open("0x01", BlockContext.from_header(DEEP.header))
    payload = blocks._payloads["0x01"]
    payload.left_s = 3600.0
    blocks.append("0x01", [*shown, endless(DEEP.header.gas_limit - 2_000_000)])
    with running(blocks):
        wait_until(lambda: payload.execution and len(payload.execution.envelopes) == len(shown))
        assert result(chain, DEEP, blocks) == DEEP.header
    assert blocks.taken == len(shown)


@pytest.mark.parametrize("how", ["drop", "open", "crowd out"])
def test_what_runs_of_a_payload_that_is_over_is_stopped(how: str) -> None:
    chain = follower()
    blocks = BlocksAhead(chain)
    context = BlockContext.from_header(DEEP.header)
    blocks.open("0x01", context)
    payload = blocks._payloads["0x01"]
    payload.left_s = 3600.0
    blocks.append("0x01", [endless(DEEP.header.gas_limit)])
    with running(blocks):
        wait_until(lambda: payload.deadline)
        match how:
            case "drop":
                blocks.drop("0x01")
            case "open":
                blocks.open("0x01", context)
            case _:
                for number in range(2, 2 + ahead.MAX_PAYLOADS):
                    blocks.open(hex(number), context)
    assert blocks._payloads.get("0x01") is not payload
    assert ("0x01" in blocks._payloads) is (how == "open"), "the one that has its id now is another"


def test_a_stream_cannot_ask_for_more_memory_than_the_chains_gas_pays_for() -> None:
    """4 GB by one MSTORE, in a block of nearly 2**63 gas."""
    code = bytes.fromhex("600164010000000052")
    grab = DepositTx(b"\1" * 32, address(9), None, 0, 0, 2**60, False, code)
    blocks = BlocksAhead(follower())
    context = replace(BlockContext.from_header(DEEP.header), gas_limit=2**63 - 1)
    blocks.open("0x01", context)
    payload = blocks._payloads["0x01"]
    blocks.append("0x01", [encode_transaction(grab)])
    blocks.advance()
    assert payload.execution is None
    assert not blocks._payloads


def test_empty_transactions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MAX_BYTES", 1000)
    blocks = BlocksAhead(open_devnet())
    blocks.open("0x01", BlockContext.from_header(DEEP.header))
    blocks.append("0x01", [b""] * 1000)
    assert not blocks._payloads


@contextmanager
def running(blocks: BlocksAhead) -> Iterator[None]:
    """`advance` in a thread, which has ended in the end."""
    thread = threading.Thread(target=blocks.advance)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
