"""Where the lines to decode come from: arguments, files, standard input.

Hex and JSON arrive as lines. Two things are not lines: a binary file (its first bytes are not text), and
one JSON document that is laid out over several lines. Compressed files are opened by their name.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from flashctl.core.settings.files import open_for_reading
from flashctl.decode.fields import FIELDS
from flashctl.errors import DataError, IoError, UsageError

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "Source",
    "is_made_of_lines",
    "open_source",
    "read_pieces",
    "split_arguments",
]

MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
"""Largest single document; a flashblock is 50 KB, a full L1 block in hex 20 MB."""


MAX_BLANK_LINES = 1_000_000
"""In a row; a few kilobytes of a compressed file may stand for a hundred million."""


class Source(NamedTuple):
    """One input: literal text, or something to read."""

    text: str | None = None
    path: Path | None = None
    """None with `text` None is standard input."""


def split_arguments(arguments: Sequence[str], *, stdin_is_terminal: bool) -> tuple[list[Source], str | None]:
    """The sources and, when the last argument names one, the field to print.

    Raises:
        UsageError: An argument is neither hex, JSON, a file nor a field; or there is no input at all.
    """
    rest = list(arguments)
    field = None
    if rest and rest[-1] in FIELDS and not _is_file(rest[-1]):
        field = rest.pop()
    if not rest:
        if stdin_is_terminal:
            raise UsageError("nothing to decode", hint="give hex, JSON or a file, or pipe it in; see --help")
        return [Source()], field
    return [_source(argument) for argument in rest], field


def _source(argument: str) -> Source:
    if argument == "-":
        return Source()
    stripped = argument.strip().strip("\"'")
    if stripped[:2] in ("0x", "0X") or stripped[:1] in ("{", "["):
        return Source(text=argument.strip())
    if not stripped:
        raise UsageError("an empty argument is nothing to decode", hint="give hex, JSON or a file")
    if _is_file(argument):
        return Source(path=Path(argument))
    if stripped and all(character in "0123456789abcdefABCDEF \n\r\t" for character in stripped):
        return Source(text=stripped)
    if "/" in argument and argument.isprintable():
        raise IoError(f"cannot read {argument[:200]}: no such file")
    from flashctl.core.settings.profile import suggestion

    hint = (
        suggestion(argument, FIELDS) or "give hex, JSON, a file, - for stdin, or end with the name of a field"
    )
    raise UsageError(f"{argument[:60]!r} is neither hex, JSON, a file nor a field", hint=hint)


def _is_file(argument: str) -> bool:
    """Whether there is a file of this name; hex may be longer than a name can be."""
    try:
        return "\n" not in argument and Path(argument).exists()
    except (OSError, ValueError):
        return False


def open_source(source: Source) -> BinaryIO:
    """The bytes of a source, decompressed according to the suffix of its name.

    Raises:
        IoError: The file cannot be opened.
    """
    if source.text is not None:
        return io.BytesIO(source.text.encode())
    return open_for_reading(source.path)


def read_pieces(stream: BinaryIO) -> Iterator[tuple[int, str | bytes]]:
    """What a stream holds, piece by piece, with line numbers: text of one line or document, or a binary blob.

    Lines come out as they arrive, so that a live stream is decoded live.
    """
    number = blank = 0
    while line := stream.readline(MAX_DOCUMENT_BYTES):
        number += 1
        if line == b"\n" and number > 1:
            blank += 1
            if blank > MAX_BLANK_LINES:
                raise DataError(f"line {number}: more than {MAX_BLANK_LINES:,} blank lines in a row")
            continue
        blank = 0
        if number == 1 and not is_made_of_lines(line):
            rest = line + stream.read(MAX_DOCUMENT_BYTES)
            if _is_binary(line):
                yield 1, rest
            else:
                yield from _document_or_lines(rest)
            return
        if (text := line.decode("utf-8-sig", "replace").strip()) and not text.startswith("#"):
            yield number, text


def is_made_of_lines(start: bytes) -> bool:
    """Whether input that starts like this is lines, and not a binary blob or one JSON document over many
    lines."""
    line = start.partition(b"\n")[0]
    if _is_binary(line):
        return False
    return line.lstrip()[:1] not in (b"{", b"[") or _is_json(line)


def _document_or_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """One JSON document over many lines; where that fails, the lines for what they are."""
    text = data.decode("utf-8", "replace")
    if _is_json(data):
        yield 1, text.strip()
        return
    if documents := _documents(text):
        yield from documents
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _documents(text: str) -> list[tuple[int, str]]:
    """Several JSON documents one after the other, each over many lines; nothing where they are not that."""
    from json import JSONDecodeError, JSONDecoder

    decoder, at, found = JSONDecoder(), 0, []
    try:
        while rest := text[at:].lstrip("\ufeff \t\r\n"):
            begin = len(text) - len(rest)
            _, at = decoder.raw_decode(text, begin)
            found.append((text.count("\n", 0, begin) + 1, text[begin:at]))
    except (JSONDecodeError, RecursionError, ValueError):
        return []
    return found


def _is_binary(line: bytes) -> bool:
    """Whether the input starts like raw RLP or a typed transaction instead of like text."""
    head = line.removeprefix(b"\xef\xbb\xbf")[:64]
    if head[:2] in (b"0x", b"0X"):  # no encoding of ours starts with 0x30: an elided "0x02f8…" is wrong hex
        return False
    # 0x7e is printable, but no text to decode starts with a tilde: it is a deposit.
    return head[:1] == b"~" or any(byte >= 0x7F or (byte < 0x20 and byte not in b"\t\r\n") for byte in head)


def _is_json(data: bytes) -> bool:
    import orjson

    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
