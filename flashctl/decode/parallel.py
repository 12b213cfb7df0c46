"""A large batch over several processes, in order.

Sender recovery and report building hold the interpreter's lock, so threads gain nothing here; processes do.
Lines travel in chunks of about a thousand: small enough that the output flows, large enough that pickling
disappears. Workers share nothing, so the base fee of a payload is known only to later flashblocks of the
same chunk.
"""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace

from flashctl.core.output import Output
from flashctl.decode.config import DecodeConfig
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.fields import fast_columns
from flashctl.decode.inputs import MAX_DOCUMENT_BYTES, Source, is_made_of_lines, open_source, read_pieces
from flashctl.decode.present import FieldsPresenter, JsonPresenter, Presenter, complaints_about
from flashctl.errors import DataError

__all__ = ["ChunkDecoder", "Decoded", "decode_in_parallel"]

CHUNK_BYTES = 512 * 1024
"""About a thousand transactions: small enough that output flows, large enough that handing over costs
nothing."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some lines of the input."""

    number: int
    """Of the first line."""
    data: bytes
    whole: bool = False
    """The input is one piece and no lines."""

    def pieces(self) -> Iterator[tuple[int, str | bytes]]:
        """What to decode, with line numbers."""
        if self.whole:
            yield from read_pieces(io.BytesIO(self.data))
            return
        for number, line in enumerate(self.data.split(b"\n"), self.number):
            if (text := line.decode("utf-8", "replace").strip()) and text[0] != "#":
                yield number, text


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of one chunk."""

    text: str
    complaints: tuple[str, ...]
    worst: Outcome


class ChunkDecoder:
    """Decodes chunks of numbered lines; one per worker process."""

    def __init__(self, config: DecodeConfig, fields: Sequence[str]) -> None:
        from flashctl.decode.run import build_options, kind_named

        self._config = config
        self._engine = Engine(build_options(config), kind_named(config.kind))
        self._presenter: Presenter = (
            FieldsPresenter(fields, config.decimal)
            if fields
            else JsonPresenter(whole=config.kind is not None, in_decimal=config.decimal)
        )
        # A column costs a fifth of a report; what it cannot do (errors, JSON lines) goes the long way.
        plain = bool(fields) and config.kind in (None, "tx") and not config.decimal and not config.verify
        self._fast = fast_columns(fields, senders=config.senders) if plain else None

    def decode(self, chunk: _Chunk) -> Decoded:
        """The output of a chunk, as the sequential path would have printed it."""
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
                lines += self._presenter.show(report)
        lines.append("")  # the last line ends too
        return Decoded("\n".join(lines), tuple(complaints), worst)

    def _left_over(self, chunk: _Chunk, lines: list[str]) -> Iterator[tuple[int, str | bytes]]:
        """The pieces that need a whole report; what columns can do is appended to `lines` on the way."""
        fast = self._fast
        if fast is None or chunk.whole:
            yield from chunk.pieces()
            return
        from_hex = bytes.fromhex
        for number, text in enumerate(chunk.data.decode("utf-8", "replace").split("\n"), chunk.number):
            if text[:2] == "0x":
                try:
                    lines.append(fast(from_hex(text[2:])))
                    continue
                except (ValueError, DataError):
                    pass
            if (stripped := text.strip()) and stripped[0] != "#":
                yield number, stripped


_decoder: ChunkDecoder | None = None
"""Of this worker process; set once by its initializer, since a pool passes no state along with its tasks."""


def _start_worker(config: DecodeConfig, fields: Sequence[str]) -> None:
    global _decoder
    _decoder = ChunkDecoder(config, fields)


def _work(chunk: _Chunk) -> Decoded:
    assert _decoder is not None
    return _decoder.decode(chunk)


def decode_in_parallel(
    config: DecodeConfig, fields: Sequence[str], sources: Sequence[Source], jobs: int, output: Output
) -> Outcome:
    """Decode the sources with `jobs` processes and print in the order of the input.

    Raises:
        IoError: A source cannot be read.
    """
    worst = Outcome.FINE
    plain = replace(config, inputs=())
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (plain, tuple(fields)))
    try:
        for decoded in _in_order(pool, _chunks(sources), ahead=2 * jobs):
            output.raw(decoded.text.encode(errors="backslashreplace"))
            for complaint in decoded.complaints:
                print(complaint, file=sys.stderr)
            worst = max(worst, decoded.worst, key=lambda one: one.value)
    finally:
        pool.shutdown(cancel_futures=True)
    return worst


def _in_order(pool: ProcessPoolExecutor, chunks: Iterator[_Chunk], ahead: int) -> Iterator[Decoded]:
    """The results in the order of the chunks, at most `ahead` of them in work: input is read as it is
    needed."""
    waiting: deque[Future[Decoded]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(_work, chunk))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _chunks(sources: Sequence[Source]) -> Iterator[_Chunk]:
    """Blocks of whole lines; input that is no lines (binary, JSON over many lines) as one piece."""
    for source in sources:
        with open_source(source) as stream:
            block = stream.read(CHUNK_BYTES)
            if not is_made_of_lines(block):
                yield _Chunk(1, block + stream.read(MAX_DOCUMENT_BYTES), whole=True)
                continue
            number = 1
            while block:
                block += stream.readline()
                yield _Chunk(number, block)
                number += block.count(b"\n")
                block = stream.read(CHUNK_BYTES)
