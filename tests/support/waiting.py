"""Waiting for something to happen, instead of for a time in which it should have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

__all__ = ["PATIENCE_S", "turns", "until", "until_answered", "wait_until"]

PATIENCE_S = 60.0
"""For anything that takes milliseconds; a busy machine may stand still for seconds."""


async def turns(count: int = 3) -> None:
    """Let the event loop run everything that is ready, `count` times.

    What was written to a local socket is in the peer's by then, and read if the peer is on this loop.
    """
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], T]) -> T:
    """Let the event loop run until a condition holds; what it gave then."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s")
        await asyncio.sleep(0.005)
    return value


async def until_answered(question: Callable[[], Awaitable[T]]) -> T:
    """Ask again and again until the answer is true; that answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := await question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s, but {value!r}")
        await asyncio.sleep(0.01)
    return value


def wait_until(condition: Callable[[], T], *, explain: Callable[[], str] = str) -> T:
    """Wait, without an event loop, until a condition holds; what it gave then.

    Args:
        explain: What to say when it does not.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s: {explain()}")
        time.sleep(0.01)
    return value
