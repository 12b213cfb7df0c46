"""One deflate context for all clients of a block: whoever has had the block shares it, nobody is garbled.

Clients are inflaters that keep their window, as RFC 7692 section 7.2.3.2 has it: zlib's own, and those of
stock WebSocket libraries.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import zlib
from collections.abc import Sequence
from typing import Any

import brotli
import pytest
import websockets
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.examples import examples
from support.hub_lab import Stuck, message, publish, run, serving, small_send_buffers
from support.npm import node_modules, require_node
from support.raw_websocket import RawClient, RawFrame, upgrade_request
from support.waiting import turns, until

from flashctl.core.hub import Hub, HubOptions, LagBudget, LagPolicy, Position, RingLimits, UpgradeRequest
from flashctl.core.hub.encoding import WINDOW_BYTES, Encoding
from flashctl.core.hub.handshake import HeadParser, negotiate
from flashctl.core.hub.ring import UNPLACED, HubMessage
from flashctl.core.hub.subscriber import Subscriber

TAKEOVER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
TAIL = b"\x00\x00\xff\xff"


class Inflater:
    """The receiving half of permessage-deflate with context takeover."""

    def __init__(self) -> None:
        self._window = zlib.decompressobj(-zlib.MAX_WBITS)

    def __call__(self, frame: RawFrame) -> bytes:
        return self._window.decompress(frame.payload + TAIL) if frame.rsv1 else frame.payload


def stands_alone(frame: RawFrame) -> bool:
    """Whether the frame refers to nothing before it."""
    try:
        zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame.payload + TAIL)
    except zlib.error:
        return False
    return True


class Reader:
    """A client over a real socket that inflates what it gets."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.inflate = Inflater()
        self.got: list[RawFrame] = []

    @classmethod
    async def connect(cls, port: int, path: str = "/ws") -> Reader:
        return cls(await RawClient.connect(port, path, TAKEOVER))

    async def read(self, count: int) -> list[bytes]:
        """The next `count` messages."""
        messages = []
        while len(messages) < count:
            frame = await self.client.frame()
            if frame.opcode in (1, 2):
                self.got.append(frame)
                messages.append(self.inflate(frame))
        return messages


class TestHandshake:
    @pytest.mark.parametrize(
        ("offer", "answer"),
        [
            ("permessage-deflate", "permessage-deflate; client_no_context_takeover"),
            (
                "permessage-deflate; client_max_window_bits",
                "permessage-deflate; client_no_context_takeover",
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=15",
            ),
            ("permessage-deflate; server_max_window_bits=12", None),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; mystery", None),
            ("permessage-bzip2", None),
            (
                "permessage-deflate; server_max_window_bits=10, permessage-deflate",
                "permessage-deflate; client_no_context_takeover",
            ),
        ],
    )
    def test_the_answer_to_an_offer(self, offer: str, answer: str | None) -> None:
        agreed = negotiate(_request(offer), Encoding.RAW, frozenset({Encoding.DEFLATE}))
        assert agreed.extension == answer
        if answer is None:
            assert agreed.encoding is Encoding.RAW
        else:
            takeover = "server_no_context_takeover" not in answer
            assert agreed.encoding is (Encoding.DEFLATE_TAKEOVER if takeover else Encoding.DEFLATE)

    def test_without_deflate_on_offer_nothing_is_answered(self) -> None:
        agreed = negotiate(_request("permessage-deflate"), Encoding.RAW, frozenset({Encoding.ZSTD}))
        assert (agreed.encoding, agreed.extension) == (Encoding.RAW, None)

    def test_the_query_takes_what_was_negotiated(self) -> None:
        request = _request("permessage-deflate", "/?compression=deflate")
        agreed = negotiate(request, Encoding.BROTLI, frozenset({Encoding.DEFLATE}))
        assert agreed.encoding is Encoding.DEFLATE_TAKEOVER


def _request(offer: str, path: str = "/") -> UpgradeRequest:
    request = HeadParser("test").feed(upgrade_request(path, {"Sec-WebSocket-Extensions": offer}))
    assert request is not None
    return request


class TestSharing:
    def test_everybody_gets_the_same_frames_and_they_are_smaller(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                readers = [await Reader.connect(server.port) for _ in range(3)]
                alone = await RawClient.connect(
                    server.port,
                    headers={"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover"},
                )
                sent, independent = [], []
                for block in (1, 2):
                    for index in range(4):
                        sent.append(_publish_noise(hub, block, index))
                        independent.append(await alone.frame())
                for reader in readers:
                    assert await reader.read(8) == sent
                    assert reader.got == readers[0].got
                references = [not stands_alone(frame) for frame in readers[0].got]
                assert references == [False, True, True, True] * 2, "the context begins anew at index 0"
                assert all(stands_alone(frame) for frame in independent)
                assert sum(len(f.payload) for f in readers[0].got) < 0.6 * sum(
                    len(f.payload) for f in independent
                )
                for client in (alone, *(reader.client for reader in readers)):
                    client.close()

        run(test)

    def test_a_late_joiner_is_replayed_the_shared_frames(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                first = await Reader.connect(server.port)
                sent = [_publish_noise(hub, 1, index) for index in range(3)]
                await first.read(3)
                late = await Reader.connect(server.port)
                sent += [_publish_noise(hub, 1, index) for index in range(3, 6)]
                assert await late.read(6) == sent
                await first.read(3)
                assert late.got == first.got
                assert set(hub.ring[4].frames) == {Encoding.DEFLATE_TAKEOVER}, "nothing was made for it alone"

        run(test)

    def test_one_that_resumes_within_a_block_shares_the_next(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                first = await Reader.connect(server.port)
                sent = [_publish_noise(hub, 1, index) for index in range(3)]
                await first.read(3)
                resumed = await Reader.connect(server.port, "/ws?block_number=1&flashblock_index=1")
                await until(lambda: hub.stats.subscribers == 2)
                sent += [_publish_noise(hub, 1, 3)]
                sent += [_publish_noise(hub, 2, index) for index in range(3)]  # joined with the one before
                assert await resumed.read(5) == sent[2:]
                assert await first.read(4) == sent[3:]
                assert all(stands_alone(frame) for frame in resumed.got[:2])
                assert not stands_alone(first.got[3])
                assert resumed.got[2:] == first.got[4:]
                assert not hub._apart

        run(test)

    def test_one_that_catches_up_still_shares(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(max_messages=1000, stall_s=60)))
            async with serving(hub) as server:
                slow = await _stuck(server.port)
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                sent = []
                for index in range(60):
                    sent.append(_publish_noise(hub, 1 + index // 20, index % 20, fresh=20_000))
                    await turns()
                assert hub.behind == 1
                await slow.client.start_reading()
                assert await slow.read(60) == sent
                references = sum(not stands_alone(frame) for frame in slow.got)
                assert references == 57, "all but the index 0s"

        run(test)

    def test_one_that_was_skipped_goes_on_with_a_context_of_the_block(self) -> None:
        async def test() -> None:
            budget = LagBudget(max_messages=4, stall_s=60, policy=LagPolicy.CONFLATE)
            hub = Hub(HubOptions(budget=budget))
            async with serving(hub) as server:
                slow = await _stuck(server.port)
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                sent = []
                for block in range(1, 30):
                    sent += [_publish_noise(hub, block, index, fresh=10_000) for index in range(5)]
                    await turns()
                    hub.sweep()
                assert hub.stats.skipped > 0
                await slow.client.start_reading()
                last = _publish_noise(hub, 100, 0)
                seen: list[bytes] = []
                while not seen or seen[-1] != last:
                    seen += await slow.read(1)
                places = [sent.index(data) for data in seen[:-1]]
                assert places == sorted(set(places))
                assert len(places) < len(sent)

        run(test)

    @pytest.mark.parametrize("binary", [False, True])
    def test_sizes_at_every_boundary(self, binary: bool) -> None:
        """Of frame headers, of the window, and empty."""
        sizes = (
            0,
            1,
            125,
            126,
            127,
            65_535,
            65_536,
            WINDOW_BYTES - 1,
            WINDOW_BYTES,
            WINDOW_BYTES + 1,
            200_000,
        )

        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, websockets.connect(server.url, max_size=None) as stock:
                reader = await Reader.connect(server.port)
                source = os.urandom(max(sizes)).hex().encode()
                for place, size in enumerate(sizes * 2):
                    data = b"{" + source[: size - 1] if size else b""
                    hub.publish(data, binary=binary, payload_id="0x1", index=place, block_number=1)
                    assert await reader.read(1) == [data]
                    assert await stock.recv(decode=False) == data
                assert {frame.opcode for frame in reader.got} == {2 if binary else 1}

        run(test)

    def test_messages_that_are_no_flashblocks_and_such_that_are_compressed(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, websockets.connect(server.url) as stock:
                reader = await Reader.connect(server.port)
                sent = []
                for index in range(4):
                    sent.append(_publish_noise(hub, 1, index))
                    compressed = brotli.compress(message(1, index, 3000) + os.urandom(300))
                    note = message(9, 9, 300)
                    for data, is_binary in ((compressed, True), (note, False)):
                        hub.publish(data, binary=is_binary)
                        sent.append(data)
                assert await reader.read(12) == sent
                assert [await stock.recv(decode=False) for _ in range(12)] == sent
                assert [frame.rsv1 for frame in reader.got] == [True, False, True] * 4

        run(test)

    def test_several_payloads_of_one_height(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                reader = await Reader.connect(server.port)
                sent, starts = [], []
                for payload in ("0xa", "0xb", "0xa", "0xc"):  # 0xa again: an upstream that came back
                    for index in range(3):
                        data = message(1, index, 200) + payload.encode() * 50 + NOISE
                        hub.publish(data, payload_id=payload, index=index, block_number=1)
                        sent.append(data)
                        starts.append(index == 0)
                    late = await Reader.connect(server.port)
                    assert (await late.read(3)) == sent[-3:]
                    late.client.close()
                # An index that continues nothing.
                for payload in ("0xd", "0xa"):
                    hub.publish(NOISE + payload.encode(), payload_id=payload, index=2, block_number=1)
                    sent.append(NOISE + payload.encode())
                    starts.append(False)
                assert await reader.read(14) == sent
                assert [stands_alone(frame) for frame in reader.got] == starts

        run(test)

    def test_a_client_with_a_filter_never_shares(self) -> None:
        class Even:
            def accepts(self, message: HubMessage) -> bool:
                return message.index % 2 == 0

        async def test() -> None:
            from flashctl.core.hub import Admission

            hub = Hub()
            selector = Even()

            def admit(request: UpgradeRequest) -> Admission:
                return Admission(selector=selector if request.path == "/some" else None)

            async with serving(hub, admit=admit) as server:
                some = await Reader.connect(server.port, "/some")
                everything = await Reader.connect(server.port)
                sent = [_publish_noise(hub, 1 + n // 6, n % 6) for n in range(12)]
                assert await everything.read(12) == sent
                assert await some.read(6) == sent[::2]
                assert all(stands_alone(frame) for frame in some.got)

        run(test)

    def test_a_block_without_an_end(self) -> None:
        """The ring has forgotten where the context began; its end is all that can be referred to anyway."""

        async def test() -> None:
            hub = Hub(HubOptions(ring=RingLimits(max_bytes=20_000)))
            async with serving(hub) as server:
                reader = await Reader.connect(server.port)
                sent = [_publish_noise(hub, 1, index) for index in range(50)]
                assert await reader.read(10) == sent[:10]
                await until(lambda: hub.ring.first > 0)
                late = await Reader.connect(server.port)
                await until(lambda: hub.stats.subscribers == 2)
                sent.append(_publish_noise(hub, 1, 50))
                assert await reader.read(41) == sent[10:]
                assert await late.read(1) == sent[-1:]
                assert stands_alone(late.got[0])
                assert not stands_alone(reader.got[-1])

        run(test)

    def test_nothing_is_compressed_for_nobody(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                plain = await RawClient.connect(server.port)
                publish(hub, 1, 0)
                await plain.frame()
                reader = await Reader.connect(server.port)
                await reader.read(1)
                publish(hub, 1, 1)
                await reader.read(1)
                reader.client.close()
                await until(lambda: hub.stats.subscribers == 1)
                publish(hub, 1, 2)
                await plain.frames(2)
                used = [set(hub.ring[seq].frames) for seq in range(3)]
                assert used == [{Encoding.DEFLATE_TAKEOVER}] * 2 + [set()]

        run(test)


NOISE = os.urandom(1000).hex().encode()
"""What the messages of these tests have in common and does not compress by itself."""


def _publish_noise(hub: Hub, block: int, index: int, fresh: int = 200) -> bytes:
    """A message that shares half with those before and is new in the other half."""
    data = message(block, index) + NOISE + os.urandom(fresh).hex().encode()
    hub.publish(data, payload_id=f"0x{block:x}", index=index, block_number=block)
    return data


async def _stuck(port: int) -> Reader:
    client = await Stuck.connect(port, headers=TAKEOVER)
    return Reader(client)


NODE_CLIENT = """
const WebSocket = require(process.env.FLASHCTL_NODE_MODULES + "/ws");
const { createHash } = require("crypto");
const [url, count] = process.argv.slice(1);
const client = new WebSocket(url, { perMessageDeflate: true });
const hash = createHash("sha256");
let seen = 0;
client.on("message", (data) => {
  hash.update(data);
  if (++seen == count) { console.log(client.extensions, hash.digest("hex")); client.terminate(); }
});
client.on("error", (error) => { console.log("error", error.message); process.exit(1); });
"""


def test_node_ws_inflates_everything() -> None:
    """From index 0, after joining late, and after resuming within a block."""
    import hashlib

    node = require_node("ws")

    async def test() -> None:
        hub = Hub()
        async with serving(hub) as server:

            async def client(path: str, count: int) -> asyncio.subprocess.Process:
                before = hub.stats.subscribers_total
                process = await asyncio.create_subprocess_exec(
                    *(node, "-e", NODE_CLIENT, "--", f"{server.url}{path}", str(count)),
                    stdout=subprocess.PIPE,
                    env={**os.environ, "FLASHCTL_NODE_MODULES": str(node_modules())},
                )
                await until(lambda: hub.stats.subscribers_total > before)
                return process

            live = await client("/", 12)
            sent = [_publish_noise(hub, 1, index) for index in range(3)]
            late = await client("/", 12)
            resumed = await client("/?block_number=1&flashblock_index=1", 10)
            for number in range(3, 12):
                sent.append(_publish_noise(hub, 1 + number // 6, number % 6))
                await turns()
            for process, messages in ((live, sent), (late, sent), (resumed, sent[2:])):
                output, _ = await asyncio.wait_for(process.communicate(), 60)
                expected = hashlib.sha256(b"".join(messages)).hexdigest()
                extension = output.decode().strip()
                assert extension.endswith(expected), extension
                assert "permessage-deflate" in extension

    run(test)


# -- any order of events -------------------------------------------------------------------------------------


class Modest:
    """A selector: messages whose length is even."""

    def accepts(self, message: HubMessage) -> bool:
        return len(message.data) % 2 == 0


MODEST = Modest()


class Endpoint:
    """A client whose socket takes a number of writes and is then full; inflates as it goes."""

    def __init__(self, machine: Streams, encoding: Encoding, selector: Modest | None) -> None:
        self.machine = machine
        self.room = 1000
        self.ended = False
        self.got: list[int] = []
        self.subscriber = Subscriber(self, encoding=encoding, selector=selector)
        self._inflate = Inflater()

    def fileno(self) -> int:
        return -1

    def write(self, data: bytes | memoryview) -> None:
        for frame in _parse(bytes(data)):
            self.got.append(self.machine.published.index(self._inflate(frame)))
        self.room -= 1
        if self.room <= 0 and not self.subscriber.paused:
            self.machine.hub.pause(self.subscriber)

    def write_many(self, frames: Sequence[bytes]) -> None:
        self.write(b"".join(frames))

    def buffered(self) -> int:
        return 1 if self.subscriber.paused else 0

    def end(self, code: int, reason: str, cause: str) -> None:
        self.ended = True


def _parse(data: bytes) -> list[RawFrame]:
    frames = []
    while data:
        length, start = data[1], 2
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        frames.append(RawFrame(data[0] & 15, data[start : start + length], bool(data[0] & 0x40)))
        data = data[start + length :]
    return frames


class Streams(RuleBasedStateMachine):
    """Clients come, go, fall behind and are skipped while blocks go on: what each inflates is the stream."""

    @initialize(policy=st.sampled_from(LagPolicy), max_bytes=st.sampled_from([3_000, 100_000]))
    def begin(self, policy: LagPolicy, max_bytes: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        options = HubOptions(
            ring=RingLimits(max_age_s=3.0, max_bytes=max_bytes),
            budget=LagBudget(max_messages=5, max_age_s=1e9, stall_s=1e9, policy=policy),
        )
        self.hub = Hub(options, clock=lambda: self.now)
        self.published: list[bytes] = []
        self.index0: set[int] = set()
        self.clients: list[Endpoint] = []
        self.block = 0
        self.index = UNPLACED
        self.payload = "0x"

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.close()

    def _run(self, action: Any) -> None:
        async def act() -> None:
            action()

        self.loop.run_until_complete(act())

    def _publish(self, kind: str, binary: bool, size: int) -> None:
        number = len(self.published)
        data = b'{"n":%d,"p":"' % number + NOISE[:size] + b"%d" % (number % 7) * (number % 3)
        if binary and size % 2:
            data = b"\x1b" + data  # not JSON: taken for compressed
        self.published.append(data)
        self.now += 0.2
        if kind == "note":
            self.hub.publish(data, binary=binary)
            return
        self.block += kind == "block"
        self.index = 0 if kind in ("block", "rebuilt") else self.index + 1
        if self.index == 0:
            self.index0.add(number)
            self.payload = f"0x{number}"
        place = {"payload_id": self.payload, "index": self.index, "block_number": self.block}
        self.hub.publish(data, binary=binary, **place)

    @rule(
        messages=st.lists(
            st.tuples(
                st.sampled_from(["block", "rebuilt", "next", "next", "next", "next", "note"]),
                st.booleans(),
                st.integers(0, 1500),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def publish_in_one_turn(self, messages: list[tuple[str, bool, int]]) -> None:
        def publish_all() -> None:
            for kind, binary, size in messages:
                self._publish(kind, binary, size)

        self._run(publish_all)
        self._run(self.hub.flush)

    @rule(
        encoding=st.sampled_from([Encoding.DEFLATE_TAKEOVER, Encoding.DEFLATE_TAKEOVER, Encoding.DEFLATE]),
        selective=st.booleans(),
        back=st.none() | st.integers(0, 4),
    )
    def join(self, encoding: Encoding, selective: bool, back: int | None) -> None:
        client = Endpoint(
            self, encoding, MODEST if selective and encoding is Encoding.DEFLATE_TAKEOVER else None
        )
        self.clients.append(client)
        resume = None if back is None else Position(self.block, max(0, self.index - back))
        self._run(lambda: self.hub.subscribe(client.subscriber, resume=resume))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.clients.remove(client)
        self._run(lambda: self.hub.unsubscribe(client.subscriber))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), room=st.integers(1, 3))
    def fill_up(self, data: st.DataObject, room: int) -> None:
        data.draw(st.sampled_from(self.clients)).room = room

    @precondition(lambda self: any(client.subscriber.paused for client in self.clients))
    @rule(data=st.data(), room=st.sampled_from([1, 2, 1000]))
    def drain(self, data: st.DataObject, room: int) -> None:
        client = data.draw(st.sampled_from([client for client in self.clients if client.subscriber.paused]))
        client.room = room
        self._run(lambda: self.hub.resume(client.subscriber))

    @rule()
    def sweep(self) -> None:
        self._run(self.hub.sweep)
        self.clients = [client for client in self.clients if not client.ended]

    @invariant()
    def everybody_has_a_run_of_the_stream(self) -> None:
        for client in getattr(self, "clients", ()):
            got = client.got
            assert got == sorted(set(got)), "in order, each once"
            if client.subscriber.selector is not None:
                continue
            for before, after in itertools.pairwise(got):
                assert after == before + 1 or after in self.index0, "whole blocks are skipped, or nothing"
            if client.subscriber.live and got:
                assert got[-1] == self.hub._flushed - 1

    @invariant()
    def filtered_clients_share_no_context(self) -> None:
        for client in getattr(self, "clients", ()):
            if client.subscriber.selector is not None:
                assert client.subscriber.encoding is Encoding.DEFLATE

    @invariant()
    def those_apart_are_live(self) -> None:
        if hasattr(self, "hub"):
            for subscriber in self.hub._apart:
                assert subscriber.group is not None
                assert subscriber.group.encoding is Encoding.DEFLATE


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=examples(60), stateful_step_count=60)
