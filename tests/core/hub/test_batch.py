"""One system call for many sends: what is reported as taken arrives, from full and closed sockets too."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import random
import resource
import socket
from array import array
from collections.abc import Iterator

import pytest
from support.hub_lab import Stuck, publish, run, serving, small_send_buffers
from support.raw_websocket import RawClient
from support.waiting import until

from flashctl.core.hub import Hub
from flashctl.core.hub.batch import MAX_BATCH_BYTES, BatchSender
from flashctl.core.hub.subscriber import MIN_BATCH

needs_io_uring = pytest.mark.skipif(not BatchSender().usable, reason="io_uring is not available")


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """Connected TCP sockets with little room; the first of each does not block."""
    found = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        for _ in range(count):
            near = socket.socket()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            near.connect(listener.getsockname())
            near.setblocking(False)
            found.append((near, listener.accept()[0]))
    return found


@needs_io_uring
class TestBatch:
    def test_what_is_reported_as_taken_arrives(self, many_files: None) -> None:
        """More sockets than one ring has entries, so that it wraps at every place, until all are full."""
        connected = pairs(1100)
        fds = array("i", [near.fileno() for near, _ in connected])
        sender = BatchSender()
        assert sender.usable
        expected = [b""] * len(connected)
        source = random.Random(1)
        partial = full = 0
        for size in (1, 300, 70_000, 40_000, 200_000, MAX_BATCH_BYTES):
            data = source.randbytes(size)
            refused = dict(sender.send(fds, data))
            for place in range(len(connected)):
                taken = refused.get(place, size)
                assert taken >= 0 or taken == -11
                partial += 0 < taken < size
                full += taken < 0
                expected[place] += data[: max(0, taken)]
        assert partial, "no socket took a part"
        assert full, "no socket was full"
        for (near, far), content in zip(connected, expected, strict=True):
            near.close()
            received = b""
            while chunk := far.recv(1 << 20):
                received += chunk
            far.close()
            assert received == content

    def test_a_closed_socket_is_told_apart_from_a_full_one(self) -> None:
        ((near, far),) = pairs(1)
        number = near.fileno()
        sender = BatchSender()
        assert sender.usable
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        far.close()  # a reset
        ((place, result),) = sender.send(array("i", [number]), b"x") or sender.send(
            array("i", [number]), b"x"
        )
        assert place == 0
        assert result in (-32, -104)  # EPIPE, ECONNRESET
        near.close()
        assert sender.send(array("i", [number]), b"x") == [(0, -9)]  # EBADF

    @pytest.mark.parametrize("served", [0, 3])
    def test_a_ring_that_breaks_is_left_and_nothing_is_lost_or_sent_twice(self, served: int) -> None:
        connected = pairs(5)
        fds = array("i", [near.fileno() for near, _ in connected])
        sender = BatchSender()
        assert sender.usable
        assert sender.send(fds, b"one") == []
        enter = sender._enter

        def breaking(call: int, ring: int, count: int, *rest: object) -> int:
            sender._enter = broken
            return enter(call, ring, served, 0, *rest[1:]) if served else broken()

        def broken(*_: object) -> int:
            ctypes.set_errno(errno.ENOMEM)
            return -1

        sender._enter = breaking
        assert sender.send(fds, b"two") == [(place, 0) for place in range(served, 5)]
        assert not sender.usable
        for place, (near, far) in enumerate(connected):
            near.close()
            assert far.recv(100) == (b"onetwo" if place < served else b"one")
            far.close()

    def test_it_gives_everything_back(self) -> None:
        before = set(os.listdir("/proc/self/fd"))
        sender = BatchSender()
        assert sender.usable
        del sender
        gc.collect()
        assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("batch", [pytest.param(True, marks=needs_io_uring), False])
def test_a_crowd_with_a_slow_client_gets_every_message(batch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough clients for a batch; what the slow one's socket refuses comes once it reads, in order."""
    if not batch:
        monkeypatch.setattr(BatchSender, "usable", False)

    async def test() -> None:
        hub = Hub()
        async with serving(hub) as server:
            crowd = [await RawClient.connect(server.port) for _ in range(MIN_BATCH)]
            stuck = await Stuck.connect(server.port)
            await until(lambda: hub.stats.subscribers == MIN_BATCH + 1)
            small_send_buffers(server)
            sent = []
            for index in range(8):
                sent.append(publish(hub, 1, index, size=20_000))
                for client in crowd:
                    assert await client.frames(1) == sent[-1:]
            assert hub.behind == 1
            await stuck.start_reading()
            assert await stuck.frames(8) == sent
            for client in (*crowd, stuck):
                client.close()

    run(test)


@needs_io_uring
def test_a_crowd_gets_every_message_though_the_ring_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        hub = Hub()
        async with serving(hub) as server:
            crowd = [await RawClient.connect(server.port) for _ in range(MIN_BATCH)]
            await until(lambda: hub.stats.subscribers == MIN_BATCH)
            sent = [publish(hub, 1, 0)]
            for client in crowd:
                assert await client.frames(1) == sent[-1:]
            monkeypatch.setattr(hub._batch, "_enter", lambda *_: -1)
            for index in (1, 2):
                sent.append(publish(hub, 1, index))
                for client in crowd:
                    assert await client.frames(1) == sent[-1:]
            for client in crowd:
                client.close()

    run(test)
