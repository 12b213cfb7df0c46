"""Any field of any dialect made anything: the proxy forwards or counts it, filters and validation go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.hostile import dialects, mutations
from support.proxy_lab import UpstreamServer, flashblock, port_of, run, running
from support.raw_websocket import RawClient, http, upgrade_request
from support.waiting import until

from flashctl.core.flashblocks.wire import MAX_INDEX
from flashctl.core.hub import Hub, HubMessage
from flashctl.core.service import defects
from flashctl.eth.hexdata import MAX_HEIGHT
from flashctl.proxy.config import Validation
from flashctl.proxy.relay import Relay
from flashctl.proxy.stream_filters import FilterIndex, Match, StreamFilter, describe
from flashctl.proxy.validation import Validator


def samples() -> Iterator[tuple[str, bytes]]:
    for index in (0, 1):
        for name, message in dialects(7, index).items():
            for place, text in mutations(message):
                yield f"{name} {index} {place}", text


@pytest.mark.parametrize("mode", list(Validation))
def test_the_relay(mode: Validation) -> None:
    async def feed() -> None:
        relay = Relay(Hub(), Validator(mode, lambda: 0.0), lambda: 0.0)
        for number, (place, text) in enumerate(samples()):
            relay.receive("a", text, binary=False)
            assert not defects.counts(), place
            if relay.last is not None:
                assert 0 <= relay.last.index <= MAX_INDEX, place
                assert 0 <= relay.last.block_number <= MAX_HEIGHT, place
                assert relay.resume_query()
            if number % 500 == 0:
                await asyncio.sleep(0)

    asyncio.run(feed())


def test_filters() -> None:
    index = FilterIndex()
    index.add(StreamFilter(frozenset({"0x" + "cd" * 20}), frozenset({"0x" + "ab" * 32}), Match.ANY))
    for place, text in samples():
        message = HubMessage(text, binary=False)
        list(index.select(message))
        assert describe(message) is message.facts
        assert not defects.counts(), place


def test_a_defect_costs_its_message_and_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        source = await UpstreamServer().start()
        async with (
            running(source, upstream_validate=Validation.WARN) as proxy,
            await RawClient.connect(port_of(proxy)) as client,
        ):
            passes = proxy.relay.validator.passes

            def fails(message: dict[str, object] | None, problem: str = "") -> bool:
                if message is not None and message["index"] == 1:
                    raise IndexError("nobody foresaw this")
                return passes(message, problem)

            monkeypatch.setattr(proxy.relay.validator, "passes", fails)
            sent = [source.publish(7, index) for index in range(4)]
            assert await client.frames(3) == [sent[0], *sent[2:]]
            status = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
            port = proxy.status_server.port
            code, _, body = await http(port, status % b"/healthz")
            assert code == 200 and b"proxy.relay: IndexError" in body and b"nobody" not in body
            _, _, body = await http(port, status % b"/metrics")
            assert b'flashctl_defects_total{where="proxy.relay"} 1' in body
            assert b"# TYPE flashctl_loop_turns_over_5ms_total counter" in body
            assert b'websocket_proxy_dropped_messages{reason="defect"} 1' in body

    run(test)


def test_a_key_in_the_path_of_an_upstream_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="flashctl")

    async def test() -> None:
        source = await UpstreamServer().start()
        key = "kEy0123456789"
        url = f"ws://name:p4ssw0rd@127.0.0.1:{source.port}/v2/{key}/ws?token=t0ken-value"
        async with running(url, url + "&b=1") as proxy:
            await until(lambda: all(upstream.connected for upstream in proxy.upstreams.all))
            source.hub.publish(flashblock(7, 0), binary=False)
            await until(lambda: proxy.relay.stats.forwarded == 1)
            for page in (b"/status", b"/metrics", b"/healthz", b"/readyz"):
                request = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % page
                _, _, body = await http(proxy.status_server.port, request)
                for secret in (key, "p4ssw0rd", "t0ken-value"):
                    assert secret.encode() not in body, page
            await source.stop()
            await until(lambda: not any(upstream.connected for upstream in proxy.upstreams.all))

    run(test)
    for secret in ("kEy0123456789", "p4ssw0rd", "t0ken-value"):
        assert secret not in caplog.text


def test_an_admission_that_fails_is_answered() -> None:
    async def test() -> None:
        async with running("ws://127.0.0.1:1/", wait=False) as proxy:

            async def fails(request: object) -> None:
                raise KeyError("x")

            proxy.server.admit = fails
            code, _, _ = await http(port_of(proxy), upgrade_request("/ws"))
            assert code == 500
            assert defects.counts() == {"hub.admission": 1}

    run(test)
