"""Output of a devnet: endpoints, funded accounts, and a line per sealed block.

By default a table and short lines; with `--json` one object a line: `ready` once, then `sealed` per block.
Data goes to stdout; errors go to stderr elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS, DEVNET_BALANCE, DEVNET_MNEMONIC
from flashctl.devnet.sequencer import SealedSlot
from flashctl.eth.hexdata import to_hex

__all__ = ["ServiceUrl", "accounts_text", "print_endpoints", "ready_event", "sealed_event", "sealed_line"]

_VERSION = 1
"""Version of the JSON lines; a key may be added under it, none removed or renamed."""


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """One address that a devnet serves."""

    name: str
    url: str
    purpose: str


def ready_event(
    endpoints: Mapping[str, ServiceUrl],
    processes: Mapping[str, int],
    chain_id: int,
    jwt_secret_file: str,
    datadir: str,
) -> dict[str, Any]:
    """The line that signals readiness to a script."""
    return {
        "v": _VERSION,
        "event": "ready",
        "chain_id": chain_id,
        "endpoints": {key: endpoint.url for key, endpoint in endpoints.items()},
        "processes": dict(processes),
        "jwt_secret_file": jwt_secret_file,
        "datadir": datadir,
        "mnemonic": DEVNET_MNEMONIC,
        "accounts": [
            {"address": to_hex(account.address), "private_key": to_hex(account.secret)}
            for account in DEVNET_ACCOUNTS
        ],
    }


def sealed_event(slot: SealedSlot, flashblocks: int) -> dict[str, Any]:
    """One sealed block as a JSON object."""
    header = slot.block.header
    return {
        "v": _VERSION,
        "event": "sealed",
        "block": header.number,
        "hash": to_hex(header.hash),
        "payload_id": to_hex(slot.payload_id),
        "flashblocks": flashblocks,
        "transactions": len(slot.block.transactions),
        "gas_used": header.gas_used,
        "build_ms": round((slot.sealed_at - slot.asked_at) * 1000),
    }


def sealed_line(slot: SealedSlot, flashblocks: int) -> str:
    """One sealed block as text."""
    header = slot.block.header
    build_ms = round((slot.sealed_at - slot.asked_at) * 1000)
    gas = header.gas_used / 1e6
    source = f"{flashblocks:>2} flashblocks" if flashblocks else "fallback block"
    return (
        f"#{header.number:<6} {to_hex(header.hash)[:10]}…{header.hash.hex()[-4:]}  {source}"
        f"  {len(slot.block.transactions):>4} tx  {gas:>7.3f} Mgas  sealed +{build_ms} ms"
    )


def print_endpoints(endpoints: Mapping[str, ServiceUrl], console: Console) -> None:
    """The table of addresses, most used first; plain where stdout is no terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="dim")
    for endpoint in endpoints.values():
        table.add_row(f"  {endpoint.name}", endpoint.url, endpoint.purpose)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        print(line.rstrip(), file=console.file, flush=True)


def accounts_text() -> str:
    """The funded accounts with their keys, which are public and worth nothing elsewhere."""
    ether = DEVNET_BALANCE // 10**18
    rows = "\n".join(
        f"  ({index}) {to_hex(account.address)}  {to_hex(account.secret)}"
        for index, account in enumerate(DEVNET_ACCOUNTS)
    )
    return f"{rows}\n  {ether:,} ETH each; mnemonic: {DEVNET_MNEMONIC}"
