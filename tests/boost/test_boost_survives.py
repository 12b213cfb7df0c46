"""What the builder, the fallback and their networks send or fail to send costs a round at most."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.boost_lab import Setup, play
from support.engines import DEPOSIT, Build, ToyBuilder, ToyEngine, attributes_after, genesis
from support.examples import examples
from websockets.asyncio.server import serve as serve_websocket
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from flashctl.boost.builder_frames import FrameReader, decode
from flashctl.boost.candidate import Request, Unusable, from_flashblocks
from flashctl.boost.health import BoostHealth
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.boost.obligations import MAX_TRANSACTIONS
from flashctl.boost.probe import probe_forever
from flashctl.boost.rounds import Incoming, Publish, Rounds
from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.wire import InvalidFlashblock
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.json_bounds import LARGE_BYTES, MAX_VALUES, count_values
from flashctl.core.service import defects
from flashctl.errors import AuthError, DataError
from flashctl.op.attributes import payload_id

TX = b"\x02\xc0\x01"
TX2 = b"\x02\xc0\x02"


class TestStream:
    @pytest.mark.parametrize("field", ["metadata", "index", "gas_used"])
    def test_truncated_by_messages_nobody_understands(self, tmp_path: Path, field: str) -> None:
        """Index 0 is taken, the rest is refused: the block of index 0 alone is not the builder's."""

        async def scenario(s: Setup) -> None:
            identity = await s.build()
            builder_id = await s.builder_id()
            assert s.builder.hub is not None
            for _ in range(2):
                build = s.builder.builds[builder_id]
                build.transactions.append(TX)
                message = json.loads(s.builder.publish_nothing(builder_id))
                build.published += 1
                if field == "metadata":
                    del message["metadata"]
                elif field == "index":
                    message["index"] = "0x-9"
                else:
                    message["diff"]["gas_used"] = "0x-5"
                s.builder.hub.publish(json.dumps(message).encode())
            await s.until(lambda: s.boost.metrics.undecodable.value == 2)
            assert "no flashblock" in s.round.trouble
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX)
            assert s.last_decision()["via"] == "getPayload"
            assert (await s.driver.finish(await s.build([TX2]))).transactions == (DEPOSIT, TX2)
            assert s.last_decision()["via"] == "flashblocks"

        play(tmp_path, scenario)

    def test_truncated_by_a_lost_connection(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            assert s.builder.stream is not None
            await s.builder.stream.close(timeout_s=0.1)
            await s.until(lambda: s.round.trouble)
            list(s.builder.builds.values())[-1].transactions.append(TX2)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX2)
            assert s.last_decision()["via"] == "getPayload"

        play(tmp_path, scenario)

    def test_a_defect_behind_one_message(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build()
            broken = s.boost.rounds.feed

            def once(*arguments: Any) -> Any:
                monkeypatch.setattr(s.boost.rounds, "feed", broken)
                raise ZeroDivisionError

            monkeypatch.setattr(s.boost.rounds, "feed", once)
            builder_id = await s.builder_id()
            s.builder.publish(builder_id, [TX])
            s.builder.publish(builder_id, [TX2])
            await s.until(lambda: s.round.trouble)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX2)
            assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
            assert s.last_decision()["via"] == "flashblocks"
            assert defects.counts() == {"boost.stream": 1}

        play(tmp_path, scenario, has_defects=True)

    def test_refused_and_taken_again(self, tmp_path: Path) -> None:
        """A gateway before the builder's stream answers 401, 403 and 404 while it restarts, at start too."""

        async def scenario(s: Setup) -> None:
            assert s.builder.stream is not None
            await s.builder.stream.close(timeout_s=0.1)
            statuses = [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND]
            left = list(statuses)
            taken = asyncio.Event()

            async def refuse(connection: Any, request: HttpRequest) -> Response | None:
                return connection.respond(left.pop(), "no\n") if left else None

            async def keep(connection: Any) -> None:
                taken.set()
                await connection.wait_closed()

            async with serve_websocket(keep, "127.0.0.1", s.builder.stream_port, process_request=refuse):
                await taken.wait()
                await s.until(lambda: s.boost.metrics.connected.value == 1)
            await s.driver.finish(await s.driver.begin())

        play(tmp_path, scenario)


class TestLargeFrames:
    def test_too_many_values_are_not_parsed(self) -> None:
        for text in (b"[" * (MAX_VALUES + 1), b"{" * (MAX_VALUES + 1), b"[1" + b",1" * MAX_VALUES):
            assert count_values(text) > MAX_VALUES
            with pytest.raises(InvalidFlashblock, match="values"):
                decode(text, binary=False)
        many = {"payload_id": "0x" + "11" * 8, "index": 0, "diff": {"transactions": []}}
        many["diff"]["transactions"] = ["0x02"] * (MAX_TRANSACTIONS + 1)  # type: ignore[index]
        with pytest.raises(InvalidFlashblock, match="more than 100000 transactions"):
            decode(json.dumps(many).encode(), binary=False)

    def test_counting_ends_where_there_are_too_many(self) -> None:
        text = b"[" + b"1," * 3_000_000 + b"1]"
        assert count_values(text, 10**9) == 3_000_002
        assert MAX_VALUES < count_values(text) < 2 * MAX_VALUES

    def test_compressed_or_large_is_heavy(self) -> None:
        assert not FrameReader.is_heavy(b"{}", binary=True)
        assert FrameReader.is_heavy(brotli.compress(b"{}"), binary=True)
        assert FrameReader.is_heavy(b"{" + bytes(LARGE_BYTES), binary=False)

    def test_two_million_transactions_cost_their_own_round(self, tmp_path: Path) -> None:
        """Decoded beside the loop, in order: what follows is judged after it."""

        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            builder_id = await s.builder_id()
            assert s.builder.hub is not None
            message = json.loads(s.builder.publish_nothing(builder_id))
            message["diff"]["transactions"] = ["@"]
            text = json.dumps(message).encode().replace(b'"@"', b",".join([b'"0x02"'] * 2_000_000))
            s.builder.hub.publish(text)
            s.builder.publish(builder_id, [TX2])
            await s.until(lambda: s.boost.metrics.processed.value == 3)
            assert s.boost.metrics.undecodable.value == 1
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX2)
            assert s.last_decision()["kept_promises"]

        play(tmp_path, scenario)

    def test_large_ones_are_used(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            large = b"\x02" + bytes(LARGE_BYTES)
            assert (await s.driver.finish(await s.build([large], [TX]))).transactions == (DEPOSIT, large, TX)
            assert s.last_decision()["via"] == "flashblocks"

        play(tmp_path, scenario)


class TestCredentials:
    def test_refused_at_start_only(self) -> None:
        """A 401 at the first probe ends boost: whoever starts it has the wrong secret."""

        async def main() -> None:
            fallback = ToyEngine(genesis())
            await fallback.start()
            wrong = JsonRpcClient(fallback.url, jwt_secret=bytes(32))
            health = BoostHealth(10)
            switch = ModeSwitch(ExecutionMode.DISABLED)
            with pytest.raises(AuthError):
                await probe_forever(wrong, wrong, health, switch, 0.01, asyncio.Event())
            await wrong.close()
            await fallback.stop()

        asyncio.run(main())

    def test_a_clock_that_went_wrong_and_right_again(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            assert await s.health() == 200
            for engine, status in ((s.fallback, 503), (s.builder, 206)):
                assert engine.server is not None
                await s.until(lambda: not s.boost.health.fallback_stale and s.boost.health.builder_ok)
                engine.secret = bytes(32)
                await engine.stop()
                await engine.start()
                await s.until(lambda: s.boost.health.fallback_stale or s.boost.health.builder_stale)
                assert await s.health() == status
                engine.secret = s.secret
                await engine.stop()
                await engine.start()
            await s.until(lambda: not s.boost.health.fallback_stale and s.boost.health.builder_ok)
            await s.driver.finish(await s.driver.begin())
            assert await s.health() == 200

        play(tmp_path, scenario, health_check_interval_s=0.02)

    @pytest.mark.parametrize("timestamp", ["0x" + "f" * 64, "0x-5", 5, None, "", []])
    def test_a_latest_block_of_nonsense(self, tmp_path: Path, timestamp: Any) -> None:
        async def scenario(s: Setup) -> None:
            s.fallback.faults["eth_getBlockByNumber"] = lambda: {"timestamp": timestamp}
            await s.until(lambda: s.boost.health.fallback_stale)
            assert await s.health() == 503
            s.fallback.faults.clear()
            await s.until(lambda: not s.boost.health.fallback_stale)

        play(tmp_path, scenario, health_check_interval_s=0.02)


def test_decode_raises_what_its_callers_expect() -> None:
    for garbage in (b"", b"{}", b"\xff" * 10, b"[1", b'{"diff":5}', b'{"diff":{"transactions":5}}'):
        for binary in (False, True):
            with pytest.raises(DataError):
                decode(garbage, binary=binary)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "0x", "0x-9", "0x1", "0x" + "f" * 64, "0x" + "00" * 32, "0x7e"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PARENT = genesis()
WANTED = attributes_after(PARENT)


def messages(count: int) -> list[dict[str, Any]]:
    """What a builder sends for a block, as JSON."""
    identity = payload_id(PARENT.hash, WANTED)
    builder = ToyBuilder(PARENT)
    build = builder.builds[identity] = Build(PARENT, WANTED, [DEPOSIT])
    made = []
    for index in range(count):
        added = [] if index == 0 else [b"\x02" + bytes([index])]
        build.transactions += added
        made.append(json.loads(wire.encode(builder.flashblock(identity, added))))
        build.published += 1
    return made


def paths(message: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to every field of a message."""
    for name, value in message.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from paths(value, (*path, name))


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Messages of a block in any order, repeated, and some with a field replaced or left out."""
    made = messages(4)
    sent = []
    for index in draw(st.lists(st.integers(0, 3), max_size=10)):
        message = copy.deepcopy(made[index])
        if draw(st.booleans()):
            *way, last = draw(st.sampled_from([*paths(message)]))
            place = message
            for name in way:
                place = place[name]
            if draw(st.booleans()):
                place[last] = draw(JSON)
            else:
                del place[last]
        sent.append(json.dumps(message).encode())
    return sent


@given(streams())
@settings(max_examples=examples(200))
def test_whatever_the_builder_sends_only_what_was_asked_for_is_published(sent: list[bytes]) -> None:
    rounds = Rounds()
    round_ = rounds.begin(PARENT.hash, WANTED)
    published = []
    for data in sent:
        try:
            flashblock = decode(data, binary=False)
        except DataError:
            rounds.disturb("not a flashblock")
            continue
        for _, verdict in rounds.feed(Incoming(flashblock, data), 0):
            if isinstance(verdict, Publish):
                published.append(verdict.incoming.flashblock)
    assert [flashblock.index for flashblock in published] == [*range(len(published))]
    assert published == round_.flashblocks
    if published:
        assert published[0].base is not None
        assert published[0].base.parent_hash == PARENT.hash
        assert published[0].base.fee_recipient == WANTED.fee_recipient
        assert published[0].diff.transactions[:1] == (DEPOSIT,)
        assert all(raw[0] != 0x7E for each in published[1:] for raw in each.diff.transactions)
    try:
        from_flashblocks(round_.payload, Request(PARENT.hash, WANTED, 4))
    except Unusable as error:
        assert str(error)
