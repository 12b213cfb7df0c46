"""A batch in chunks of whole lines: how it is cut, and what one chunk becomes.

For output of which every line stands for itself: `--json` and `--fields`. The chunks of a file are large,
so that handing one to another process costs little of its decoding; those of a pipe are what has arrived,
so that a live stream is decoded live.
"""

from __future__ import annotations

import io
from binascii import unhexlify
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import BinaryIO, Final, NamedTuple

from flashctl.decode.config import DecodeConfig
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.inputs import MAX_DOCUMENT_BYTES, Source, is_made_of_lines, open_source, read_pieces
from flashctl.decode.order import stands_alone
from flashctl.decode.present import Presenter, complaints_about, unshown_problems
from flashctl.errors import DataError, IoError

__all__ = ["Chunk", "ChunkDecoder", "Decoded", "chunks_of"]

CHUNK_BYTES: Final = 512 * 1024
"""About a thousand transactions: small enough that output flows, large enough that handing over costs
nothing."""

_WORTH_COLUMNS_BYTES: Final = 16 * 1024
"""Of a chunk; preparing the fast columns takes the time of sixty reports."""


class Chunk(NamedTuple):
    """Some lines of the input."""

    number: int | None
    """Of the first line; None for an argument, whose lines have no numbers."""
    data: bytes
    whole: bool = False
    """The input is one piece and no lines."""

    def pieces(self) -> Iterator[tuple[int | None, str | bytes]]:
        """What to decode, with line numbers."""
        if self.whole:
            for number, piece in read_pieces(io.BytesIO(self.data)):
                yield None if self.number is None else number, piece
            return
        for position, line in enumerate(self.data.split(b"\n")):
            if line and (text := line.decode("utf-8-sig", "replace").strip()) and text[0] != "#":
                yield self.number_of(position), text

    def number_of(self, position: int) -> int | None:
        """The number of a line, given how many of the chunk come before it."""
        return None if self.number is None else self.number + position


class Decoded(NamedTuple):
    """What came of one chunk."""

    text: bytes
    complaints: tuple[str, ...]
    worst: Outcome
    seen: bool = True
    """Whether there was more than blank lines in it."""
    unused: Collection[bytes] = ()
    """Keys of `--sig` that nothing has had yet in any chunk of the same process."""


class ChunkDecoder:
    """Decodes one chunk after the other.

    Args:
        columns: Makes the function that prints a transaction without a report of it, if there can be one.
    """

    def __init__(
        self,
        config: DecodeConfig,
        engine: Engine,
        presenter: Presenter,
        columns: Callable[[], Callable[[bytes], str] | None],
    ) -> None:
        self._config = config
        self._engine = engine
        self._presenter = presenter
        self._columns = columns

    def decode(self, chunk: Chunk) -> Decoded:
        """The output of a chunk."""
        lines: list[str] = []
        complaints: list[str] = []
        worst = Outcome.FINE
        for number, piece in self._left_over(chunk, lines):
            engine = self._engine
            reports = engine.blob(piece) if isinstance(piece, bytes) else engine.line(piece, number)
            for report in reports:
                outcome = outcome_of(report)
                worst = max(worst, outcome, key=lambda one: one.value)
                if outcome is Outcome.FAILED and not self._config.json:
                    complaints += complaints_about(report)
                if outcome is Outcome.PROBLEM and self._config.verify:
                    complaints += unshown_problems(report, self._presenter, number)
                lines += self._presenter.show(report)
        lines.append("")  # the last line ends too
        return Decoded(
            "\n".join(lines).encode(errors="backslashreplace"),
            tuple(complaints),
            worst,
            bool(chunk.data.strip()),
            () if (book := self._engine.options.book) is None else frozenset(book.unused),
        )

    def needs_order(self, chunk: Chunk) -> bool:
        """Whether the chunk must be decoded where all such before it were."""
        return chunk.whole or not stands_alone(chunk.data, self._engine.forced)

    def _left_over(self, chunk: Chunk, lines: list[str]) -> Iterator[tuple[int | None, str | bytes]]:
        """The pieces that need a report; what columns can do is appended to `lines` on the way."""
        columns = self._columns() if len(chunk.data) >= _WORTH_COLUMNS_BYTES else None
        if columns is None or chunk.whole:
            yield from chunk.pieces()
            return
        append = lines.append
        # Asking first costs a twentieth of the copy that `replace` makes in any case, 4 % of a whole batch.
        data = chunk.data.replace(b"\r\n", b"\n") if b"\r" in chunk.data else chunk.data
        for position, line in enumerate(data.split(b"\n")):
            if line[:2] == b"0x":
                try:
                    append(columns(unhexlify(line[2:])))
                    continue
                except (ValueError, DataError):
                    pass
            if (text := line.decode("utf-8-sig", "replace").strip()) and text[0] != "#":
                yield chunk.number_of(position), text


def chunks_of(sources: Sequence[Source]) -> Iterator[Chunk]:
    """Blocks of whole lines; input that is no lines (binary, JSON over many lines) as one piece.

    Raises:
        IoError: A source cannot be read.
    """
    for source in sources:
        try:
            with open_source(source) as stream:
                yield from _chunks_of_stream(stream, None if source.text is not None else 1)
        except (OSError, EOFError) as error:
            raise IoError(f"cannot read {source.path or 'stdin'}: {error}") from None


def _chunks_of_stream(stream: BinaryIO, number: int | None) -> Iterator[Chunk]:
    blocks = _blocks(stream)
    first = next(blocks, b"")
    if not is_made_of_lines(first):
        whole = bytearray(first)
        while len(whole) < MAX_DOCUMENT_BYTES and (block := next(blocks, b"")):
            whole += block
        yield Chunk(number, bytes(whole), whole=True)
        return
    for block in chain([first], blocks):
        yield Chunk(number, block)
        if number is not None:
            number += block.count(b"\n")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """What can be read at once, cut behind its last line."""
    parts: list[bytes] = []
    size = 0
    while block := stream.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        cut = block.rfind(b"\n") + 1
        size += len(block)
        if cut or size > MAX_DOCUMENT_BYTES:
            cut = cut or len(block)
            yield b"".join([*parts, block[:cut]])
            parts, size = [block[cut:]], len(block) - cut
        else:
            parts.append(block)
    if rest := b"".join(parts):
        yield rest
