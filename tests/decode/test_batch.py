"""A batch is a shortcut: it prints what one decode after the other prints, however it is cut and shared."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decode_lab import every_type

from flashctl.decode import columns
from flashctl.decode.chunks import Chunk, ChunkDecoder, Decoded, _chunks_of_stream
from flashctl.decode.columns import fast_columns
from flashctl.decode.documents import Kind, classify_bytes
from flashctl.decode.engine import Outcome
from flashctl.decode.fields import pick, text_of
from flashctl.decode.parallel import decode_in_parallel
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.errors import FlashctlError
from flashctl.eth.receipts import Receipt, encode_receipt
from flashctl.eth.transactions import (
    FeeMarketTx,
    InvalidTransaction,
    Transaction,
    decode_transaction,
    encode_transaction,
)

NAMES = (
    "type", "hash", "to", "value", "gas", "input", "nonce", "chainId", "gasPrice", "maxFeePerGas",
    "maxPriorityFeePerGas", "v",
)  # fmt: skip
CALLEE = b"\x11" * 20
USUAL = FeeMarketTx(8453, 7, 10**6, 10**9, 21_000, CALLEE, 10**18, b"\x99" * 68, (), 1, 2**255, 2**254)

edges = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**56 - 1, 2**56, 2**64 - 1, 2**96 - 1, 2**96])
transactions = st.builds(
    FeeMarketTx,
    st.integers(0, 2**64 - 1), edges, edges, edges, edges,
    st.none() | st.binary(min_size=20, max_size=20),
    edges,
    st.sampled_from([0, 1, 2, 55, 56, 255, 256, 1000]).map(lambda size: b"\x99" * size) | st.just(b"\x05"),
    st.just(()), st.integers(0, 1), st.integers(2**240, 2**256 - 1), st.integers(2**240, 2**256 - 1),
)  # fmt: skip


def line_of_report(raw: bytes) -> str:
    report = report_transaction(raw, Options(senders=False))
    return "\t".join(text_of(pick(report, name)) for name in NAMES)


def decoded_or_none(raw: bytes) -> Transaction | None:
    try:
        return decode_transaction(raw)
    except InvalidTransaction:
        return None


# -- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", every_type().values(), ids=every_type())
def test_columns_are_those_of_the_report(raw: bytes) -> None:
    line = fast_columns(NAMES, senders=False)
    assert line is not None and line(raw) == line_of_report(raw)


@given(
    transactions,
    st.integers(0, 400),
    st.integers(0, 255),
    st.sampled_from(["none", "set", "cut", "insert", "append"]),
)
def test_columns_of_damaged_bytes_are_refused_or_true(
    tx: FeeMarketTx, position: int, byte: int, damage: str
) -> None:
    raw = encode_transaction(tx)
    position = position % (len(raw) - 1) + 1 if damage != "append" else len(raw)
    if damage != "none":
        kept = raw[position:] if damage == "insert" else raw[position + 1 :]
        raw = raw[:position] + (b"" if damage == "cut" else bytes([byte])) + kept
    line = fast_columns(NAMES, senders=False)
    assert line is not None
    if decoded_or_none(raw) is None:
        with pytest.raises(InvalidTransaction):
            line(raw)
    else:
        assert line(raw) == line_of_report(raw)


def test_the_usual_transaction_is_not_decoded_for_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    line = fast_columns(NAMES, senders=False)
    assert line is not None
    usual = encode_transaction(USUAL)
    expected = line(usual)

    def refuse(raw: bytes) -> Transaction:
        raise AssertionError("decoded")

    monkeypatch.setattr(columns, "decode_transaction", refuse)
    assert line(usual) == expected
    with pytest.raises(AssertionError):
        line(every_type()["legacy"])


@pytest.mark.parametrize("names", [("hash", "l1Fee"), ("from",), ("signingHash",)])
def test_what_needs_a_report_has_no_fast_columns(names: tuple[str, ...]) -> None:
    assert fast_columns(names, senders=False) is None


# -- chunks ---------------------------------------------------------------------------------------


class Trickle(io.BytesIO):
    """A pipe that has so many bytes at a time, and then so many."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__(data)
        self.sizes = sizes

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(self.sizes.pop() if self.sizes else size)


@given(
    st.lists(st.sampled_from([b"0x02", b"", b"# note", b"0x" + b"ab" * 40]), min_size=1, max_size=30),
    st.lists(st.integers(1, 100), max_size=60),
    st.booleans(),
)
def test_chunks_are_whole_lines_with_their_numbers(lines: list[bytes], sizes: list[int], ends: bool) -> None:
    data = b"0xff\n" + b"\n".join(lines) + (b"\n" if ends else b"")
    chunks = list(_chunks_of_stream(Trickle(data, sizes), 1))
    assert b"".join(chunk.data for chunk in chunks) == data
    assert all(chunk.data.endswith(b"\n") for chunk in chunks[:-1])
    seen = 0
    for chunk in chunks:
        assert chunk.number == 1 + seen and not chunk.whole
        seen += chunk.data.count(b"\n")


# -- processes ------------------------------------------------------------------------------------


class Scripted(ChunkDecoder):
    """Does with a chunk what the chunk says."""

    def __init__(self) -> None:
        pass

    def needs_order(self, chunk: Chunk) -> bool:
        return chunk.data.startswith(b"7")

    def decode(self, chunk: Chunk) -> Decoded:
        if chunk.data == b"die":
            os._exit(9)
        sum(range(int(chunk.data)))  # takes a while, each another one
        return Decoded(chunk.data, (), Outcome.FINE)


def chunks(*texts: bytes) -> Iterator[Chunk]:
    return (Chunk(number, text) for number, text in enumerate(texts))


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_results_come_in_the_order_of_the_chunks(jobs: int) -> None:
    texts = [b"%d" % (2_000_000 if number == 3 else number) for number in range(60)]
    results = decode_in_parallel(Scripted(), chunks(*texts), jobs)
    assert [result.text for result in results] == texts
    for process in multiprocessing.active_children():
        process.join(60)
        assert process.exitcode == 0


def test_a_process_that_dies_is_an_error_and_no_hang() -> None:
    results = decode_in_parallel(Scripted(), chunks(b"1", b"die", *([b"2"] * 30)), 2)
    with pytest.raises(FlashctlError, match="died"):
        list(results)


# -- kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", every_type().values(), ids=every_type())
def test_a_bloom_in_calldata_makes_no_receipt(raw: bytes) -> None:
    """The bloom's header stands in the transaction's bytes, at a place where a receipt would have it."""
    tx = decode_transaction(raw)
    for data in (b"\xb9\x01\x00" + bytes(256), raw):
        assert classify_bytes(encode_transaction(replace(tx, data=data))) is Kind.TX


@pytest.mark.parametrize("tx_type", [0, 1, 2, 3, 4, 0x7E])
def test_receipts_of_every_type_are_told_from_transactions(tx_type: int) -> None:
    nonce = (7, 1) if tx_type == 0x7E else (None, None)
    for gas in (0, 21_000, 2**64 - 1):
        receipt = encode_receipt(Receipt(tx_type, True, gas, (), *nonce))
        assert classify_bytes(receipt) is Kind.RECEIPT
