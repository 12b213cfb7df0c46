"""The frames of a flashblocks stream: plain, brotli or zstd, and never larger than agreed.

A 300-byte brotli frame can claim to be hundreds of megabytes, so decompression stops at a limit on its
output, and what is not JSON in one of the known wrappings is refused here, before anything tries to parse
it.
"""

from __future__ import annotations

from typing import Final

from flashctl.errors import DataError

__all__ = [
    "MAX_DECOMPRESSED_BYTES",
    "MAX_FRAME_BYTES",
    "ZSTD_MAGIC",
    "FrameTooLarge",
    "InvalidFlashblock",
    "compress",
    "unpack",
]

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Largest frame accepted, as received. A full 2 s Base block is about 1 MB of JSON; 16 MiB leaves headroom
for ten."""

MAX_DECOMPRESSED_BYTES: Final = 32 * 1024 * 1024
"""Largest message after decompression; Base's own client stops at the same figure."""

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_JSON_SPACE: Final = b" \t\r\n"


class InvalidFlashblock(DataError):
    """The frame is not a flashblock message."""

    where: Final[str]
    """The field at fault, as `diff.transactions[3]`; empty when the frame as a whole is."""

    reason: Final[str]

    def __init__(self, reason: str, where: str = "", *, hint: str | None = None) -> None:
        self.where = where
        self.reason = reason
        super().__init__(
            f"not a flashblock: {where}: {reason}" if where else f"not a flashblock: {reason}", hint=hint
        )


class FrameTooLarge(InvalidFlashblock):
    """The frame, or what it decompresses to, is over the limit."""

    limit: Final[int]
    """Bytes."""

    def __init__(self, what: str, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{what} exceeds {limit:,} bytes")


def unpack(
    data: bytes | str, *, binary: bool = False, max_decompressed: int = MAX_DECOMPRESSED_BYTES
) -> bytes:
    """The JSON text of a frame, decompressed when it is a binary frame that needs it.

    Raises:
        InvalidFlashblock: If decompression fails or passes `max_decompressed` bytes.
    """
    raw = data.encode() if isinstance(data, str) else data
    if len(raw) > max_decompressed:
        raise FrameTooLarge("message", max_decompressed)
    # The first byte decides: brotli and zstd streams of a JSON text never start with a brace, and trying
    # brotli first would cost an exception for every frame of a plain stream.
    if not binary or raw.lstrip(_JSON_SPACE)[:1] == b"{":
        return raw
    if raw.startswith(ZSTD_MAGIC):
        return _unpack_zstd(raw, max_decompressed)
    return _unpack_brotli(raw, max_decompressed)


def _unpack_brotli(raw: bytes, limit: int) -> bytes:
    import brotli

    decompressor = brotli.Decompressor()
    parts: list[bytes] = []
    size = 0
    pending = raw
    try:
        while not decompressor.is_finished():
            part = decompressor.process(pending, output_buffer_limit=limit - size + 1)
            pending = b""
            size += len(part)
            if size > limit:
                raise FrameTooLarge("decompressed message", limit)
            parts.append(part)
            if not part and decompressor.can_accept_more_data():
                raise InvalidFlashblock("binary frame is neither JSON nor complete brotli or zstd data")
    except brotli.error:
        raise InvalidFlashblock("binary frame is neither JSON, brotli nor zstd") from None
    return b"".join(parts)


def _unpack_zstd(raw: bytes, limit: int) -> bytes:
    import zstandard

    # Not `decompress(max_output_size=...)`: it trusts the content size that the frame claims.
    reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw)
    try:
        text: bytes = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise InvalidFlashblock(f"zstd: {error}") from None
    if len(text) > limit:
        raise FrameTooLarge("decompressed message", limit)
    return text


def compress(text: bytes, *, quality: int = 5) -> bytes:
    """`text` as the brotli frame that Base's public stream sends; quality 5 is upstream's default."""
    import brotli

    compressed: bytes = brotli.compress(text, quality=quality, lgwin=22)
    return compressed
