"""Starting a relay by hand: its flags, its URL on the first line, what it has done every ten seconds."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

__all__ = ["run_relay"]


class Relay(Protocol):
    """What relays have in common."""

    counts: Counter[str]


def run_relay(
    description: str | None, relay: Callable[..., AbstractAsyncContextManager[tuple[Relay, str]]]
) -> None:
    """Run until Ctrl-C; `relay(upstream, port=…, seed=…)` gives the relay and its URL."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    async def run() -> None:
        async with relay(options.upstream, port=options.listen, seed=options.seed) as (running, url):
            print(url, flush=True)
            while True:
                await asyncio.sleep(10)
                print(dict(running.counts), flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
