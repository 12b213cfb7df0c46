"""Whether failures leave cycles behind: services collect those rarely, and what hangs on one may be large."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_cycles"]


@contextmanager
def no_cycles() -> Iterator[None]:
    """Fails if the block leaves a cycle that is garbage and has an error in it."""
    gc.collect()
    gc.disable()
    found: list[BaseException] = []
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [each for each in gc.garbage if isinstance(each, BaseException)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    shown = [(type(error).__name__, str(error)[:80]) for error in found]
    found.clear()
    gc.collect()
    assert not shown, f"{len(shown)} errors in cycles, the first {shown[0]}"
