"""The representations a message can take on the wire, each computed once for all clients that use it.

Per-connection compression is what makes compressed fan-out expensive: 65 times the CPU at 50 KB and 1,000
clients (reference measurement: 595 against 9.1 CPU-seconds per million). Nothing in RFC 7692 requires it: a
server that answers `server_no_context_takeover` may send every client the same compressed bytes.

brotli and zstd are for clients of this stream in particular, which know to decompress a binary message;
brotli at quality 5 and window 22 is what the public Flashblocks streams send.
"""

from __future__ import annotations

import zlib
from enum import Enum

from flashctl.core.hub.framing import data_frame

__all__ = ["Encoding", "encode"]

DEFLATE_LEVEL = 6
"""9,400 bytes of a 50 KB flashblock in 0.52 ms; level 1 leaves 10,860 in 0.22 ms."""

BROTLI_QUALITY = 5
BROTLI_WINDOW = 22
ZSTD_LEVEL = 3

_DEFLATE_TAIL = b"\x00\x00\xff\xff"
"""What Z_SYNC_FLUSH ends with and RFC 7692 section 7.2.1 strips."""


class Encoding(Enum):
    """How a client wants its messages."""

    RAW = "none"
    DEFLATE = "deflate"
    """permessage-deflate without context takeover; invisible to the application at the other end."""
    BROTLI = "brotli"
    """Binary messages, each one brotli stream."""
    ZSTD = "zstd"
    """Binary messages, each one zstd frame."""


def encode(data: bytes, binary: bool, encoding: Encoding) -> bytes:
    """One WebSocket frame that carries `data` in `encoding`.

    Binary data that is not JSON is compressed already (a brotli upstream) and goes out as it came.
    """
    if encoding is Encoding.RAW or (binary and data.lstrip()[:1] != b"{"):
        return data_frame(data, binary=binary)
    match encoding:
        case Encoding.DEFLATE:
            compressor = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            body = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
            return data_frame(body.removesuffix(_DEFLATE_TAIL), binary=binary, compressed=True)
        case Encoding.BROTLI:
            import brotli  # only a proxy with such a client pays the import

            body = brotli.compress(data, mode=brotli.MODE_TEXT, quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW)
            return data_frame(body, binary=True)
        case Encoding.ZSTD:
            import zstandard

            return data_frame(zstandard.compress(data, ZSTD_LEVEL), binary=True)
