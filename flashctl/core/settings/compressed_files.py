"""Reading .gz, .zst and .br as a stream, with bounds on what a hostile file unpacks to.

Six kilobytes of brotli may unpack to two gigabytes. Output is made in pieces and is bounded by what came in:
no recorded stream shrinks to less than a fiftieth, so a file that passes MAX_RATIO beyond a first FREE_BYTES
(as much as one message may hold on the network) is refused there.

A file may also be cut short: its writer was killed, or still runs. Everything up to there is given out before
that is an error.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from flashctl.core.flashblocks.frame import MAX_DECOMPRESSED_BYTES
from flashctl.errors import DataError, IoError

__all__ = ["COMPRESSED", "FREE_BYTES", "MAX_RATIO", "open_compressed"]

MAX_RATIO: Final = 500
FREE_BYTES: Final = MAX_DECOMPRESSED_BYTES

_PIECE_BYTES: Final = 256
"""Compressed bytes unpacked at once where the library sets no limit on the output: a zstd block of four bytes
may stand for 128 KiB, so that this is 8 MiB at most."""

_READ_BYTES: Final = 32 * 1024

_OUTPUT_BYTES: Final = 256 * 1024


class _Unpacker(Protocol):
    """One format's decompressor."""

    def unpack(self, packed: bytes) -> bytes:
        """Some of what `packed`, and what was given before, holds."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether there is nothing more to be had without further input."""
        ...

    @property
    def whole(self) -> bool:
        """Whether the input may end here."""
        ...


class _Members:
    """What formats share that are a series of members: one decompressor each, and input left over."""

    def __init__(self) -> None:
        self._member: Any = None
        self._rest = b""

    @property
    def hungry(self) -> bool:
        return not self._rest

    @property
    def whole(self) -> bool:
        return self._member is None


class _Gzip(_Members):
    """Members one after the other, as gzip(1) writes them."""

    def unpack(self, packed: bytes) -> bytes:
        data = self._rest + packed
        if self._member is None:
            if not (data := data.lstrip(b"\0")):  # padding between members, as on tapes
                self._rest = b""
                return b""
            self._member = zlib.decompressobj(wbits=31)
        text: bytes = self._member.decompress(data, _OUTPUT_BYTES)
        self._rest = self._member.unconsumed_tail
        if self._member.eof:
            self._rest = self._member.unused_data
            self._member = None
        return text


class _Zstd(_Members):
    """Frames one after the other."""

    def __init__(self) -> None:
        import zstandard

        super().__init__()
        self._new = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj

    def unpack(self, packed: bytes) -> bytes:
        data = self._rest + packed
        piece, self._rest = data[:_PIECE_BYTES], data[_PIECE_BYTES:]
        if not piece:
            return b""
        if self._member is None:
            self._member = self._new()
        text: bytes = self._member.decompress(piece)
        if self._member.eof:
            self._rest = self._member.unused_data + self._rest
            self._member = None
        return text


class _Brotli:
    """One stream; the format knows no second."""

    def __init__(self) -> None:
        import brotli

        self._stream = brotli.Decompressor()
        self._more = False

    def unpack(self, packed: bytes) -> bytes:
        if self._stream.is_finished():
            if packed:
                raise ValueError("bytes follow its end")
            return b""
        text: bytes = self._stream.process(packed, output_buffer_limit=_OUTPUT_BYTES)
        self._more = bool(text) and not self._stream.can_accept_more_data()
        return text

    @property
    def hungry(self) -> bool:
        return not self._more

    @property
    def whole(self) -> bool:
        return bool(self._stream.is_finished())


COMPRESSED: Final[dict[str, Callable[[], _Unpacker]]] = {".gz": _Gzip, ".zst": _Zstd, ".br": _Brotli}
"""By the ending of a file's name."""


class _Decompressed(io.RawIOBase):
    """The unpacked bytes of a file."""

    def __init__(self, path: Path, unpacker: _Unpacker) -> None:
        self._path = path
        self._file = path.open("rb")
        self._unpacker = unpacker
        self._came_in = 0
        self._went_out = 0
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._file.read(_READ_BYTES) if self._unpacker.hungry else b""
            ended = self._unpacker.hungry and not packed
            self._came_in += len(packed)
            text = self._unpack(packed)
            if ended and not text:
                if not self._unpacker.whole:
                    raise IoError(f"cannot read {self._path}: it ends in the middle of its compressed data")
                return 0
            self._went_out += len(text)
            if self._went_out > FREE_BYTES + MAX_RATIO * self._came_in:
                raise DataError(
                    f"{self._path} unpacks to more than {MAX_RATIO} times its size",
                    hint="if that is meant, unpack it first: flashctl reads plain files of any size",
                )
            self._ready = memoryview(text)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _unpack(self, packed: bytes) -> bytes:
        try:
            return self._unpacker.unpack(packed)
        except Exception as error:  # each library has an exception of its own for damaged data
            raise IoError(f"cannot read {self._path}: {error}") from None

    def close(self) -> None:
        self._file.close()
        super().close()


def open_compressed(path: Path) -> BinaryIO:
    """The unpacked bytes of a file whose name ends as one of COMPRESSED.

    Reading raises DataError where it is a bomb, IoError where it is damaged or cut short; what stands before
    that has been given out.

    Raises:
        OSError: It cannot be opened.
    """
    return io.BufferedReader(_Decompressed(path, COMPRESSED[path.suffix]()), buffer_size=_OUTPUT_BYTES)
