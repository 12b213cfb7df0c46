"""Lets a service compute expensive precompile calls outside its interpreter process.

BLAKE2F, MODEXP and the BLS12-381 contracts come from libraries that keep Python's interpreter lock: one call
with 16 million gas holds every thread of the process for up to half a second, the event loop among them,
whatever thread it runs in. A service with a loop that must be on time installs a runner; where none is
installed (a command, a worker process) the call is computed where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

__all__ = ["DEAR_GAS", "RunApart", "install", "runner"]

DEAR_GAS: Final = 50_000
"""Price from which a call runs apart: at the worst 6 Mgas/s of these contracts some 8 ms, where the way there
and back costs 0.1."""

RunApart: TypeAlias = Callable[[Callable[[bytes], bytes], bytes, Callable[..., object]], bytes]
"""`run(compute, data, check)`: `compute(data)` elsewhere, calling `check(elsewhere_s=...)` every few
milliseconds, with the processor time spent there since the last time; raises what `compute` or `check`
raises. `compute` is a function of a module, found by its name there."""

_runner: RunApart | None = None


def install(run: RunApart | None) -> None:
    """Run expensive calls of the whole process by `run`; None runs them in place."""
    global _runner
    _runner = run


def runner() -> RunApart | None:
    """What was installed."""
    return _runner
