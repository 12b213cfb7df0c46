"""Files that may be compressed, by the ending of their name: .gz, .zst, .br.

What flashctl reads and writes in bulk (recorded streams, batches of transactions) is text that shrinks to a
third; so they are compressed by their endings.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from flashctl.core.settings.compressed_files import COMPRESSED, open_compressed
from flashctl.errors import IoError, UsageError

__all__ = ["LineWriter", "open_for_reading", "open_for_writing", "write_private"]

_NOT_KNOWN = frozenset(
    {".xz", ".bz2", ".lz4", ".lzma", ".z", ".Z", ".zip", ".7z", ".zstd", ".gzip", ".brotli"}
)
"""Endings of other compressions: a plain file must not be written under them."""


class LineWriter(Protocol):
    """Where a recording goes."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""
        ...

    def flush(self) -> object:
        """Make what was written readable by others: a crash afterwards does not lose it."""
        ...

    def close(self) -> object:
        """Finish the file."""
        ...


def open_for_reading(path: Path | None) -> BinaryIO:
    """The decompressed bytes of a file; of standard input for None. For the errors of reading a compressed
    one see core.compressed.

    Raises:
        IoError: If it cannot be opened.
    """
    if path is None:
        return sys.stdin.buffer
    try:
        if path.suffix in COMPRESSED:
            return open_compressed(path)
        return path.open("rb")
    except OSError as error:
        raise IoError(f"cannot read {path}: {error.strerror or error}") from None


def open_for_writing(path: Path, queue: Callable[[BinaryIO], LineWriter] | None = None) -> LineWriter:
    """A new file, compressed if its name asks for it; what exists and is empty or no regular file will do.

    Args:
        queue: What writes to a file whose reader may stop (a FIFO, a terminal), given its unbuffered file.

    Raises:
        UsageError: If there is one with content, which may be an earlier recording, or its name asks for a
            compression that is not known.
        IoError: If it cannot be created.
    """
    if path.suffix in _NOT_KNOWN:
        known = ", ".join(COMPRESSED)
        raise UsageError(
            f"{path}: {path.suffix} is not written here", hint=f"compressed: {known}; else plain"
        )
    try:
        if path.is_file() and path.stat().st_size:
            raise UsageError(f"{path} exists and is not empty", hint="remove it, or name another file")
        if queue is not None and path.exists() and not path.is_file():
            return _compressing(path, queue(path.open("wb", buffering=0)))
        return _compressing(path, path.open("wb"))
    except OSError as error:
        raise IoError(f"cannot write {path}: {error.strerror or error}") from None


def write_private(path: Path, text: str) -> None:
    """Replace the content of a file at once, or leave it as it was; only its owner may read it (0600).

    Raises:
        OSError: If it cannot be written.
    """
    target = path.resolve()  # a symbolic link stays one
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _compressing(path: Path, file: LineWriter) -> LineWriter:
    """What compresses into `file` as the name of `path` says."""
    match path.suffix:
        case ".gz":
            return _GzipFile(file)
        case ".zst":
            return _ZstdFile(file)
        case ".br":
            return _BrotliFile(file)
    return file


class _GzipFile:
    """Gzip, with what was written readable after each flush."""

    def __init__(self, file: LineWriter) -> None:
        import gzip

        self._file = file
        self._gzip = gzip.GzipFile("", "wb", 6, cast(BinaryIO, file))

    def write(self, data: bytes, /) -> None:
        self._gzip.write(data)

    def flush(self) -> None:
        self._gzip.flush()

    def close(self) -> None:
        self._gzip.close()
        self._file.close()


class _ZstdFile:
    """Zstandard with a block per flush, so that `tail -f | zstdcat` works and a crash loses little."""

    def __init__(self, file: LineWriter) -> None:
        import zstandard

        self._file = file
        self._chunker = zstandard.ZstdCompressor(level=3).compressobj()
        self._block = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def write(self, data: bytes, /) -> None:
        self._file.write(self._chunker.compress(data))

    def flush(self) -> None:
        self._file.write(self._chunker.flush(self._block))
        self._file.flush()

    def close(self) -> None:
        self._file.write(self._chunker.flush())
        self._file.close()


class _BrotliFile:
    """Brotli, flushed the same way."""

    def __init__(self, file: LineWriter) -> None:
        import brotli

        self._file = file
        self._compressor = brotli.Compressor(quality=5)

    def write(self, data: bytes, /) -> None:
        self._file.write(self._compressor.process(data))

    def flush(self) -> None:
        self._file.write(self._compressor.flush())
        self._file.flush()

    def close(self) -> None:
        self._file.write(self._compressor.finish())
        self._file.close()
