"""Compressed files: read in pieces, bounded by what came in, and as far as they go when cut short."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.core.settings import compressed_files as compressed
from flashctl.core.settings.compressed_files import COMPRESSED
from flashctl.core.settings.files import open_for_reading, open_for_writing
from flashctl.errors import DataError, FlashctlError, IoError

SUFFIXES = list(COMPRESSED)


def zeros(suffix: str, mebibytes: int) -> bytes:
    """A file that unpacks to that many MiB of line feeds."""
    block = b"\n" * 1024 * 1024
    sink = io.BytesIO()
    match suffix:
        case ".gz":
            with gzip.open(sink, "wb") as file:
                for _ in range(mebibytes):
                    file.write(block)
        case ".zst":
            with zstandard.ZstdCompressor(level=19).stream_writer(sink, closefd=False) as file:
                for _ in range(mebibytes):
                    file.write(block)
        case _:
            packer = brotli.Compressor(quality=9, lgwin=24)
            for _ in range(mebibytes):
                sink.write(packer.process(block))
            sink.write(packer.finish())
    return sink.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_bomb_is_refused_where_it_shows_and_costs_no_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(zeros(suffix, 256))
    assert path.stat().st_size < 400_000
    read = 0
    tracemalloc.start()
    with open_for_reading(path) as file, pytest.raises(DataError, match="500 times its size") as caught:
        while piece := file.read(1024 * 1024):
            read += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 30_000_000 < read <= compressed.FREE_BYTES + 500 * path.stat().st_size
    assert peak < 50_000_000
    assert caught.value.exit_code == 65 and str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_real_may_be_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(compressed, "FREE_BYTES", 1000)
    path = tmp_path / f"real{suffix}"
    chance = random.Random(1)
    lines = [chance.randbytes(200).hex().encode() + b"\n" for _ in range(2000)]
    file = open_for_writing(path)
    for line in lines:
        file.write(line)
    file.close()
    with open_for_reading(path) as opened:
        assert list(opened) == lines


def packed(suffix: str, text: bytes) -> bytes:
    match suffix:
        case ".gz":
            return gzip.compress(text)
        case ".zst":
            return zstandard.compress(text)
        case _:
            return brotli.compress(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(40))
@given(parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=4), cut=st.integers(1, 40))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_and_cut(tmp_path: Path, suffix: str, parts: list[bytes], cut: int) -> None:
    if suffix == ".br":
        parts = parts[:1]
    path = tmp_path / f"file{suffix}"
    data = b"".join(packed(suffix, part) for part in parts)
    path.write_bytes(data)
    with open_for_reading(path) as file:
        assert file.read() == b"".join(parts)
    path.write_bytes(data[: -min(cut, len(data) - 1)])
    out = bytearray()
    whole = [b"".join(parts[:number]) for number in range(len(parts) + 1)]
    with open_for_reading(path) as file:
        try:
            while piece := file.read(100):
                out += piece
        except IoError as error:
            assert "ends in the middle" in str(error)
        else:
            assert bytes(out) in whole, "cut between two members"
    assert b"".join(parts).startswith(bytes(out))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(60))
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"]))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage_is_an_error_with_a_name(tmp_path: Path, suffix: str, data: bytes, head: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(head + data)
    try:
        with open_for_reading(path) as file:
            file.read()
    except FlashctlError as error:
        assert str(path) in str(error)
