"""Every metric moves in a healthy run, or is about what a healthy run does not have: one that nothing sets
says something untrue.

The devnet of the other tests, with a proxy and a subscriber of its own, scraped once it has had blocks,
transactions, calls and subscriptions.
"""

from __future__ import annotations

import asyncio
import urllib.request
from itertools import chain
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from support.devnet import Devnet, rpc
from support.proxy_process import ProxyProcess, proxy_process
from websockets.asyncio.client import connect

from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

FAULTS: Final = """
    flashctl_defects
    flashctl_builder_missing_flashblocks
    flashctl_builder_transactions_left_out flashctl_builder_transactions_stopped
    flashctl_builder_worker_deaths flashctl_builder_worker_replacements
    reth_flashblocks_worker_deaths reth_flashblocks_worker_replacements
    rollup_boost_flashblocks_ws_inbound_invalid_messages
    rollup_boost_flashblocks_service_extend_payload_errors
    rollup_boost_flashblocks_service_current_payload_id_mismatch
    rollup_boost_flashblocks_service_pending_flashblocks_dropped
    rollup_boost_flashblocks_service_flashblocks_late
    rollup_boost_flashblocks_service_flashblocks_missing_gauge
    rollup_boost_copies_dropped rollup_boost_broken_promises
    rollup_boost_stuck_transactions rollup_boost_stuck_transactions_sent rollup_boost_builder_left_out
    reth_flashblocks_upstream_errors reth_flashblocks_reconnect_attempts
    reth_flashblocks_state_fetch_errors reth_flashblocks_heads_behind reth_flashblocks_reorgs
    reth_flashblocks_disagreements reth_flashblocks_block_processing_error
    reth_flashblocks_blocks_truncated reth_flashblocks_pending_clear_reorg
    websocket_proxy_client_pong_disconnects websocket_proxy_dropped_messages websocket_proxy_failed_messages
    websocket_proxy_global_rate_limited_requests websocket_proxy_per_ip_rate_limited_requests
    websocket_proxy_per_key_rate_limited_requests websocket_proxy_rate_limited_requests
    websocket_proxy_unauthorized_requests websocket_proxy_ping_failures
    websocket_proxy_lagged_connections websocket_proxy_lagging_connections
    websocket_proxy_max_client_lag_messages websocket_proxy_skipped_clients
    websocket_proxy_sequence_breaches websocket_proxy_unplaced_messages
    websocket_proxy_upstream_connection_failures websocket_proxy_upstream_errors
    websocket_proxy_upstream_silences
    reth_flashblocks_unexpected_block_order reth_flashblocks_retractions reth_flashblocks_ignored
"""

QUIET: Final = {
    "counts faults, losses or overload": FAULTS.split(),
    "calls wait for a moment, between two scrapes": [
        "flashctl_builder_calls_waiting",
        "reth_flashblocks_calls_waiting",
        "rollup_boost_flashblocks_service_pending_flashblocks_buffered",
    ],
    "a busy machine executes no block before its newPayload comes": ["flashctl_builder_executed_ahead"],
    "with API keys only": ["websocket_proxy_connections_by_app"],
    "clients that resume only": ["websocket_proxy_replayed_clients"],
    "Engine API versions of forks that the devnet does not have": [
        f"rollup_boost_{method}_duration{suffix}"
        for method in ("get_payload_v3", "get_payload_v5", "new_payload_v3")
        for suffix in ("", "_seconds")
    ],
}
"""Why a family need not move, and the families."""


def scrape(url: str) -> dict[str, bool]:
    """The families of a status page, and whether any sample of each is not zero."""
    with urllib.request.urlopen(url + "/metrics", timeout=10) as reply:
        families = text_string_to_metric_families(reply.read().decode())
        return {family.name: any(sample.value for sample in family.samples) for family in families}


def transfer(net: Devnet, secret: str, nonce: int) -> str:
    """A signed payment of one wei to nowhere in particular."""
    tx = FeeMarketTx(
        net.ready["chain_id"], nonce, 10**9, 10**11, 21_000, bytes(19) + b"\x99", 1, b"", (), 0, 0, 0
    )
    return to_hex(encode_transaction(sign_transaction(tx, parse_hex(secret))))


async def stimulate(net: Devnet, proxy: ProxyProcess) -> None:
    """What users and the consensus client do that a chain by itself does not."""
    address = net.account(0)[0]
    for name in ("rpc", "builder", "fallback"):
        for tag in ("latest", "pending"):
            await asyncio.to_thread(rpc, net.url(name), "eth_call", {"to": address}, tag)
    await asyncio.to_thread(rpc, net.url("boost"), "engine_exchangeCapabilities", [])
    async with connect(f"ws://127.0.0.1:{proxy.port}/ws"):
        pass
    # One for the next block, which only the fallback is given, and one that waits for another.
    _, secret = net.fresh_account()
    for nonce in (0, 2):
        raw = transfer(net, secret, nonce)
        await asyncio.to_thread(rpc, net.url("fallback"), "eth_sendRawTransaction", raw)


async def all_families(net: Devnet, proxy: ProxyProcess) -> dict[str, bool]:
    """Whether each family has moved in any of the services."""
    urls = [net.url(name) for name in ("builder", "fallback", "boost", "rpc")]
    urls.append(f"http://127.0.0.1:{proxy.status_port}")
    moved: dict[str, bool] = {}
    for url in urls:
        for name, has_moved in (await asyncio.to_thread(scrape, url)).items():
            moved[name] = moved.get(name, False) or has_moved
    return moved


def test_every_metric_moves_or_is_about_trouble(running: Devnet) -> None:
    quiet = set(chain.from_iterable(QUIET.values()))
    last: dict[str, bool] = {}

    async def scenario() -> None:
        async with (
            proxy_process("--upstream-ws", running.url("boost_stream")) as proxy,
            connect(f"ws://127.0.0.1:{proxy.port}/ws") as client,
        ):
            await stimulate(running, proxy)

            async def has_settled() -> bool:
                await client.recv()
                last.update(await all_families(running, proxy))
                return all(has_moved or name in quiet for name, has_moved in last.items())

            try:
                async with asyncio.timeout(60):
                    while not await has_settled():
                        pass
            except TimeoutError:
                still = sorted(
                    name for name, has_moved in last.items() if not has_moved and name not in quiet
                )
                raise AssertionError(f"never set: {still}") from None

    asyncio.run(scenario())
    assert quiet <= last.keys(), f"no such family: {sorted(quiet - last.keys())}"
