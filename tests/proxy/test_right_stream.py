"""What a client gets is what it asked for, from whichever upstream is there."""

from __future__ import annotations

import json

import brotli
import pytest
import zstandard
from support.proxy_lab import UpstreamServer, flashblock, payload_id, port_of, run, running
from support.raw_websocket import RawClient, http, upgrade_request
from support.waiting import until

from flashctl.proxy.client_addresses import ClientAddresses
from flashctl.proxy.config import Compression
from flashctl.proxy.dedupe import PATIENCE_S, DedupeVerdict, Deduplicator


@pytest.mark.parametrize("pack", [brotli.compress, zstandard.compress], ids=["brotli", "zstd"])
def test_a_compressed_upstream_compresses_for_nobody_else(pack: object) -> None:
    async def test() -> None:
        source = await UpstreamServer().start()
        async with (
            running(source) as proxy,
            await RawClient.connect(port_of(proxy)) as plain,
            await RawClient.connect(port_of(proxy), "/ws?compression=brotli") as squeezed,
            await RawClient.connect(port_of(proxy), "/ws?compression=zstd") as zipped,
        ):
            text = flashblock(7, 0, padding="x" * 500)
            packed = pack(text)  # type: ignore[operator]
            source.hub.publish(packed, binary=True, payload_id=payload_id(7), index=0, block_number=7)
            first = await plain.frame()
            assert (first.opcode, first.payload) == (1, text)
            assert brotli.decompress((await squeezed.frame()).payload) == text
            assert (
                zstandard.ZstdDecompressor().decompressobj().decompress((await zipped.frame()).payload)
                == text
            )

    run(test)


def test_compressed_bytes_go_on_untouched_to_who_wants_them() -> None:
    async def test() -> None:
        source = await UpstreamServer().start()
        async with (
            running(source, clients_compression=Compression.BROTLI) as proxy,
            await RawClient.connect(port_of(proxy)) as client,
        ):
            packed = brotli.compress(flashblock(7, 0), quality=1)
            source.hub.publish(packed, binary=True, payload_id=payload_id(7), index=0, block_number=7)
            frame = await client.frame()
            assert (frame.opcode, frame.payload) == (2, packed)

    run(test)


def test_deflate_by_query_says_what_to_do() -> None:
    async def test() -> None:
        async with running("ws://127.0.0.1:1/", wait=False) as proxy:
            code, _, body = await http(port_of(proxy), upgrade_request("/ws?compression=deflate"))
            assert code == 400 and "permessage-deflate" in json.loads(body)["message"]
            code, _, body = await http(port_of(proxy), upgrade_request("/ws?compression=lzma"))
            assert code == 400 and "brotli" in json.loads(body)["message"]

    run(test)


class TestAnUpstreamThatIsBehind:
    def test_is_stale_while_another_speaks(self) -> None:
        seen = Deduplicator()
        assert seen.judge("a", 0, 100, 1, "first", now=0.0) is DedupeVerdict.FRESH
        assert seen.judge("b", 0, 98, 2, "second", now=PATIENCE_S) is DedupeVerdict.STALE

    def test_is_followed_from_its_next_block_once_nothing_else_comes(self) -> None:
        seen = Deduplicator()
        assert seen.judge("a", 0, 100, 1, "first", now=0.0) is DedupeVerdict.FRESH
        later = PATIENCE_S + 0.1
        assert seen.judge("b", 3, 98, 2, "second", now=later) is DedupeVerdict.STALE, "not from mid-block"
        assert seen.judge("c", 0, 99, 3, "second", now=later) is DedupeVerdict.FRESH
        assert seen.judge("c", 1, 99, 4, "second", now=later) is DedupeVerdict.FRESH
        # The one that comes back goes on where it is.
        assert seen.judge("d", 0, 101, 5, "first", now=later) is DedupeVerdict.FRESH


def test_a_standby_that_answers_pings_is_left_connected() -> None:
    async def test() -> None:
        active, standby = await UpstreamServer().start(), await UpstreamServer().start()
        settings = {"upstream_stale_s": 0.3, "upstream_ping_interval_s": 0.1}
        async with running(active, standby, **settings) as proxy:
            one, other = proxy.upstreams.all
            for index in range(10):
                active.publish(7, index)
                pings = other.link.pings
                await until(lambda pings=pings: other.link.pings > pings)
            assert (one.stats.silences, other.stats.silences, other.stats.successes) == (0, 0, 1)
            await until(lambda: one.stats.silences > 0 and other.stats.silences > 0)

    run(test)


def test_a_header_that_is_not_believed_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with running("ws://127.0.0.1:1/", wait=False) as proxy:
            for _ in range(3):
                async with await RawClient.connect(port_of(proxy), headers={"X-Forwarded-For": "1.2.3.4"}):
                    pass

    run(test)
    assert sum("is ignored, as from any peer" in record.message for record in caplog.records) == 1
    assert isinstance(ClientAddresses("X-Forwarded-For", []), ClientAddresses)
