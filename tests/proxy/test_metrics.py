"""The metrics page: the names of the field, valid text, values that move."""

from __future__ import annotations

import websockets
from prometheus_client.parser import text_string_to_metric_families
from support.proxy_lab import UpstreamServer, port_of, run, running
from support.raw_websocket import http
from support.waiting import until

NAMES_OF_THE_FIELD = [
    "sent_messages", "failed_messages", "new_connections", "closed_connections",
    "lagged_connections", "active_connections", "rate_limited_requests",
    "per_ip_rate_limited_requests", "global_rate_limited_requests", "unauthorized_requests",
    "upstream_errors", "upstream_connections", "upstream_connection_attempts",
    "upstream_connection_successes", "upstream_connection_failures", "bytes_broadcasted",
    "client_pong_disconnects", "message_send_duration_count", "broadcast_queue_size",
    "ping_attempts", "ping_failures", "ping_sent", "upstream_messages",
]  # fmt: skip

MISSING_IN_THE_FIELD = [
    "max_client_lag_messages", "largest_message_bytes", "compression_ratio", "dropped_messages",
    "last_message_age_seconds", "upstream_round_trip_seconds", "connections_ended",
    "message_send_duration_bucket",
]  # fmt: skip


def test_every_name_with_values_that_move() -> None:
    async def test() -> None:
        source = await UpstreamServer().start()
        settings = {
            "metrics_labels": (("region", 'eu"1'),),
            "access_api_keys": ("app:key:5",),
            "upstream_ping_interval_s": 0.05,
        }
        async with (
            running(source, **settings) as proxy,
            websockets.connect(f"ws://127.0.0.1:{port_of(proxy)}/ws/key") as client,
        ):
            sent = source.publish(7, 0, padding="x" * 2000)
            assert await client.recv(decode=False) == sent
            await until(lambda: proxy.upstreams.all[0].link.round_trip_s > 0)
            status, headers, body = await http(
                proxy.status_server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            assert status == 200
            assert headers["content-type"].startswith("text/plain; version=0.0.4")
            values: dict[str, float] = {}
            for family in text_string_to_metric_families(body.decode()):
                for sample in family.samples:
                    assert sample.labels["region"] == 'eu"1'
                    values[sample.name.removeprefix("websocket_proxy_")] = sample.value
            for name in [*NAMES_OF_THE_FIELD, *MISSING_IN_THE_FIELD]:
                assert f"websocket_proxy_{name}" in body.decode(), name
            assert values["active_connections"] == 1
            assert values["upstream_round_trip_seconds"] > 0
            assert values["compression_ratio"] > 2
            assert b'websocket_proxy_connections_by_app{region="eu\\"1",app="app"} 1' in body

    run(test)
