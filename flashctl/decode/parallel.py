"""A large batch over several processes, in order.

Sender recovery and report building hold the interpreter's lock, so threads gain nothing here; processes do.
They are forked when everything is imported and share nothing afterwards. Flashblocks, blocks and receipts
are held against those before them; so one process, the same for all of them, decodes each chunk that may
have one.

A process gets its next chunk when its last result has been received. So neither side ever waits to write
while the other does, and the input is read as fast as it is decoded. `concurrent.futures` would do it too,
for 25 ms of imports and a thread that the interpreter switches to between any two chunks.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Final, cast

from flashctl.decode.chunks import Chunk, ChunkDecoder, Decoded
from flashctl.errors import FlashctlError

__all__ = ["decode_in_parallel"]

_AHEAD: Final = 4
"""Chunks per process that may be in work or done before the first of them is printed; bounds the memory
when one chunk takes long."""


def decode_in_parallel(decoder: ChunkDecoder, chunks: Iterator[Chunk], jobs: int) -> Iterator[Decoded]:
    """Decode the chunks with `jobs` processes; the results come in the order of the input.

    Raises:
        FlashctlError: A process died.
    """
    gc.freeze()  # or the first collection of each process copies every page of the heap
    workers: list[Connection] = []
    for _ in range(jobs):
        _start(decoder, workers)
    try:
        yield from _in_order(workers, chunks, decoder.needs_order)
    except (EOFError, ConnectionError):
        raise FlashctlError("a decoding process died", hint="-j 1 decodes in this one") from None
    finally:
        for worker in workers:
            worker.close()  # which ends the process behind it


def _start(decoder: ChunkDecoder, workers: list[Connection]) -> None:
    """Add a process that decodes what it is sent."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    workers.append(ours)
    context.Process(target=_work, args=(decoder, theirs, workers), daemon=True).start()
    theirs.close()


def _in_order(
    workers: Sequence[Connection], chunks: Iterator[Chunk], needs_order: Callable[[Chunk], bool]
) -> Iterator[Decoded]:
    keeper = workers[0]
    idle = [*workers]
    """The keeper of order first: the others are taken from the end."""
    busy: dict[Connection, int] = {}
    done: dict[int, Decoded] = {}
    """Results by the number of their chunk, until all before them are printed."""
    printed = 0
    for number, chunk in enumerate(chunks):
        is_ordered = needs_order(chunk)
        while not _has_one(idle, keeper if is_ordered else None) or number - printed >= _AHEAD * len(workers):
            for freed in _collect(busy, done):
                idle.insert(0 if freed is keeper else len(idle), freed)
            while printed in done:
                yield done.pop(printed)
                printed += 1
        worker = idle.pop(0 if is_ordered else -1)
        busy[worker] = number
        worker.send(chunk)
    while busy:
        _collect(busy, done)
    for number in sorted(done):
        yield done[number]


def _has_one(idle: Sequence[Connection], wanted: Connection | None) -> bool:
    return bool(idle) and (wanted is None or idle[0] is wanted)


def _collect(busy: dict[Connection, int], done: dict[int, Decoded]) -> list[Connection]:
    """Take over the results that are there, at least one; the workers they came from."""
    ready = [cast(Connection, connection) for connection in wait(busy)]
    for worker in ready:
        done[busy.pop(worker)] = worker.recv()
    return ready


def _work(decoder: ChunkDecoder, connection: Connection, of_parent: Sequence[Connection]) -> None:
    """Decode chunks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends us
    for end in of_parent:
        end.close()  # a copy that stays open would hide that the parent has closed, or died
    try:
        while True:
            connection.send(decoder.decode(connection.recv()))
    except (EOFError, ConnectionError):
        pass
