"""What becomes of an upstream message: placed, deduplicated, validated, published."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import brotli
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.flashblocks import streamed_block

from flashctl.core.hub import Hub
from flashctl.proxy.config import Validation
from flashctl.proxy.dedupe import REMEMBERED_PAYLOADS, DedupeVerdict, Deduplicator
from flashctl.proxy.relay import Relay, StreamPosition, position_of
from flashctl.proxy.validation import Validator


def payload_id(number: int) -> str:
    return f"0x{number:016x}"


def flashblock(block: int, index: int, payload: int | None = None, **extra: Any) -> bytes:
    """The least that can be placed."""
    return json.dumps(
        {
            "payload_id": payload_id(payload if payload is not None else block),
            "index": index,
            "diff": {"transactions": [], "gas_used": "0x0"},
            "metadata": {"block_number": block},
            **extra,
        }
    ).encode()


class Feed:
    """A relay whose hub nobody listens to, and a clock that stands still."""

    def __init__(self, mode: Validation = Validation.OFF) -> None:
        self.now = 100.0
        self.hub = Hub(clock=lambda: self.now)
        self.relay = Relay(self.hub, Validator(mode, lambda: self.now), lambda: self.now)
        self.sent: list[bytes] = []
        self.relay.sinks.append(lambda source, data, binary, placed: self.sent.append(data))

    def __call__(self, data: bytes, source: str = "a", *, binary: bool = False) -> bool:
        async def receive() -> bool:
            return self.relay.receive(source, data, binary=binary)

        return asyncio.run(receive())


class TestPlacing:
    def test_dialects(self) -> None:
        assert position_of(orjson.loads(flashblock(7, 2))) == StreamPosition(payload_id(7), 2, 7)
        early = {"payload_id": "0xAB", "index": "0", "static": {"block_number": "0x10"}}
        assert position_of(early) == StreamPosition("0xab", 0, 16)
        hex_number = {"payload_id": "0x1", "index": 1, "metadata": {"block_number": "0x10"}}
        assert position_of(hex_number) == StreamPosition("0x1", 1, 16)

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"payload_id": 5, "index": 0, "metadata": {"block_number": 1}},
            {"payload_id": "0x1", "index": True, "metadata": {"block_number": 1}},
            {"payload_id": "0x1", "index": -1, "metadata": {"block_number": 1}},
            {"payload_id": "0x1", "index": 1 << 40, "metadata": {"block_number": 1}},
            {"payload_id": "0x1", "index": 0, "metadata": {"block_number": "x"}},
            {"payload_id": "0x1", "index": 0, "metadata": [], "base": []},
            {"payload_id": "0" * 100, "index": 0, "metadata": {"block_number": 1}},
        ],
    )
    def test_what_cannot_be_placed(self, message: dict) -> None:
        assert position_of(message) is None

    @given(
        st.dictionaries(
            st.sampled_from(["payload_id", "index", "metadata", "base"]),
            st.recursive(
                st.none() | st.integers() | st.text(max_size=5),
                lambda inner: st.dictionaries(st.just("block_number"), inner, max_size=1),
                max_leaves=3,
            ),
        )
    )
    def test_no_shape_raises(self, message: dict) -> None:
        position_of(message)


class TestForwarding:
    def test_the_bytes_that_came_leave(self) -> None:
        feed = Feed()
        odd = b'  {"index":0 ,"payload_id":"0x1","metadata":{"block_number":1},"unknown":[1,2,{}]}\n'
        assert feed(odd)
        assert feed.sent == [odd]
        assert feed.hub.ring[0].data is feed.sent[0]

    def test_what_is_not_understood_is_forwarded_all_the_same(self) -> None:
        feed = Feed()
        assert feed(b"one")
        assert feed(b"one")
        assert feed(b"\xff\x00", binary=True)
        assert feed.relay.stats.unplaced == 3

    def test_brotli_from_upstream_is_placed_and_left_compressed(self) -> None:
        feed = Feed()
        data = brotli.compress(flashblock(7, 0))
        assert feed(data, binary=True)
        assert feed.sent == [data]
        assert feed.relay.last == StreamPosition(payload_id(7), 0, 7)

    def test_a_brotli_bomb_is_not_unpacked(self) -> None:
        feed = Feed()
        bomb = brotli.compress(b" " * (200 << 20), quality=1)
        feed(bomb, binary=True)
        assert feed.relay.stats.unplaced == 1

    def test_where_to_resume(self) -> None:
        feed = Feed()
        assert feed.relay.resume_query() == {}
        feed(flashblock(7, 3))
        feed(b"noise")
        assert feed.relay.resume_query() == {
            "block_number": "7",
            "flashblock_index": "3",
            "payload_id": payload_id(7),
        }

    def test_a_recorded_block(self) -> None:
        feed = Feed(Validation.STRICT)
        messages = [json.dumps(message).encode() for message in streamed_block()]
        for message in messages:
            assert feed(message, "a")
            assert not feed(message, "b")
        assert feed.sent == messages
        assert feed.relay.stats.won == {"a": len(messages)}
        assert feed.relay.validator.breaches == {}


class TestContinuations:
    """Messages that are placed by how they start end up where parsing puts them."""

    @pytest.mark.parametrize("space", [b"", b" "])
    @pytest.mark.parametrize("index", [1, 9, 10, 255, 65535])
    def test_by_the_start_alone(self, index: int, space: bytes) -> None:
        feed = Feed()
        start = b'{"payload_id":%s"%s","index":%s' % (space, payload_id(7).encode(), space)
        feed(start + b'0,"metadata":{"block_number":7}}')
        assert feed(start + b"%d,whatever" % index)
        assert feed.relay.last == StreamPosition(payload_id(7), index, 7)
        assert feed.relay.stats.unplaced == 0

    @pytest.mark.parametrize(
        "rest",
        [
            b"0,",
            b"01,",
            b"-1,",
            b"1.5,",
            b"1",
            b"1}",
            b",",
            b"65536,",
            b"1234567890,",
            b"\xb2,",
            b'"1",',
            b"",
        ],
    )
    def test_anything_unusual_is_parsed(self, rest: bytes) -> None:
        feed = Feed()
        start = b'{"payload_id":"%s","index":' % payload_id(7).encode()
        feed(start + b'0,"metadata":{"block_number":7}}')
        assert feed(start + rest)
        assert feed.relay.stats.unplaced == 1, "and found not to be JSON, or not to be complete"

    def test_a_start_that_lies(self) -> None:
        feed = Feed()
        start = b'{"payload_id":"%s","index":' % payload_id(8).encode()
        feed(start + b'0,"payload_id":"%s","metadata":{"block_number":7}}' % payload_id(7).encode())
        assert feed.relay.last == StreamPosition(payload_id(7), 0, 7)
        feed(start + b'1,"metadata":{"block_number":8}}')
        assert feed.relay.last == StreamPosition(payload_id(8), 1, 8)

    def test_after_a_compressed_copy_as_well(self) -> None:
        feed = Feed()
        feed(brotli.compress(flashblock(7, 0)), binary=True)
        assert feed(flashblock(7, 1)[:60])
        assert feed.relay.last == StreamPosition(payload_id(7), 1, 7)


class TestDeduplication:
    def test_first_arrival_wins(self) -> None:
        feed = Feed()
        assert feed(flashblock(7, 0), "a")
        assert not feed(flashblock(7, 0), "b")
        assert feed(flashblock(7, 1), "b")
        assert not feed(flashblock(7, 1), "a")
        assert feed.relay.stats.dropped == {"duplicate": 2}

    def test_compression_does_not_make_a_copy_something_else(self) -> None:
        feed = Feed()
        feed(flashblock(7, 0), "a")
        assert not feed(brotli.compress(flashblock(7, 0)), "b", binary=True)
        assert feed.relay.stats.dropped == {"duplicate": 1}

    def test_equivocation(self) -> None:
        feed = Feed()
        feed(flashblock(7, 0), "a")
        assert not feed(flashblock(7, 0, other=1), "b")
        assert feed.relay.stats.dropped == {"equivocation": 1}

    def test_a_lagging_upstream_is_stale(self) -> None:
        feed = Feed()
        for block in (7, 8):
            for index in range(3):
                feed(flashblock(block, index), "a")
        # Of block 7 "a" lost index 3; that "b" has it comes too late for everybody.
        assert not feed(flashblock(7, 3), "b")
        assert not feed(flashblock(6, 0), "b"), "a block the stream never saw, from one who lags"
        assert not feed(flashblock(6, 1), "b")
        assert feed.relay.stats.dropped == {"stale": 3}

    def test_a_rebuilt_block_is_forwarded_and_the_old_build_is_over(self) -> None:
        feed = Feed()
        feed(flashblock(7, 0, payload=1))
        feed(flashblock(7, 1, payload=1))
        assert feed(flashblock(7, 0, payload=2))
        assert not feed(flashblock(7, 2, payload=1))
        assert feed(flashblock(7, 1, payload=2))

    def test_a_reorganisation_is_forwarded(self) -> None:
        feed = Feed()
        feed(flashblock(9, 0), "a")
        feed(flashblock(9, 0), "b")
        assert feed(flashblock(8, 0, payload=800), "a")
        assert feed(flashblock(8, 1, payload=800), "a")
        assert not feed(flashblock(8, 0, payload=800), "b")
        assert feed(flashblock(9, 0, payload=900), "b")

    def test_joining_in_the_middle(self) -> None:
        feed = Feed()
        assert feed(flashblock(7, 4))
        assert feed(flashblock(7, 5))

    def test_memory_is_bounded(self) -> None:
        dedupe = Deduplicator()
        for block in range(1000):
            dedupe.judge(payload_id(block), 0, block, 1)
        for index in range(10_000):
            dedupe.judge(payload_id(1000), index, 1000, 1)
        assert len(dedupe._seen) <= REMEMBERED_PAYLOADS
        assert max(len(indices) for indices in dedupe._seen.values()) <= 4096

    @settings(max_examples=examples(60))
    @given(
        st.integers(1, 4),
        st.integers(1, 5),
        st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
    )
    def test_two_upstreams_in_any_interleaving_make_one_stream(
        self, blocks: int, length: int, turns: list[tuple[bool, int]]
    ) -> None:
        stream = [(block, index) for block in range(1, blocks + 1) for index in range(length)]
        dedupe, sent, at = Deduplicator(), [], {"a": 0, "b": 0}
        for first, run in [*turns, (True, len(stream)), (False, len(stream))]:
            source = "a" if first else "b"
            for block, index in stream[at[source] : at[source] + run]:
                if dedupe.judge(payload_id(block), index, block, 1, source) is DedupeVerdict.FRESH:
                    sent.append((block, index))
            at[source] = min(len(stream), at[source] + run)
        assert sent == stream


class TestValidation:
    def test_off_minds_nothing(self) -> None:
        feed = Feed()
        assert feed(b"noise")
        assert feed(flashblock(7, 5))
        assert feed.relay.validator.breaches == {}

    def test_warn_counts_and_forwards(self, caplog: pytest.LogCaptureFixture) -> None:
        feed = Feed(Validation.WARN)
        messages = [json.dumps(message).encode() for message in streamed_block()]
        for message in [*messages[:2], *messages[4:6], b"noise", b"noise"]:
            assert feed(message)
        assert feed.relay.validator.breaches["Gap"] == 1
        assert feed.relay.validator.breaches["Invalid"] == 2
        assert len([record for record in caplog.records if "Invalid" in record.message]) == 1

    def test_a_cause_is_logged_again_after_a_while(self, caplog: pytest.LogCaptureFixture) -> None:
        feed = Feed(Validation.WARN)
        feed(b"noise")
        feed.now += 61
        feed(b"noise")
        assert len(caplog.records) == 2

    def test_strict_drops_what_nobody_could_use(self) -> None:
        feed = Feed(Validation.STRICT)
        assert not feed(b"noise")
        assert not feed(b'{"payload_id":"0x1","index":0,"metadata":{"block_number":1}}')
        assert feed.relay.stats.dropped == {"invalid": 2}

    def test_strict_takes_the_good_copy_after_a_bad_one(self) -> None:
        feed = Feed(Validation.STRICT)
        good = json.dumps(streamed_block()[0]).encode()
        bad = json.dumps({**streamed_block()[0], "diff": None}).encode()
        assert not feed(bad, "a")
        assert feed(good, "b")

    def test_strict_forwards_what_follows_a_gap(self) -> None:
        feed = Feed(Validation.STRICT)
        messages = [json.dumps(message).encode() for message in streamed_block()]
        feed(messages[0])
        assert feed(messages[3])
