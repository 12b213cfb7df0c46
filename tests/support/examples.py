"""How many examples Hypothesis draws; `tests/conftest.py` registers the profiles."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(count: int) -> int:
    """`max_examples` of a test whose examples cost more, or less, than most; ten times that in `slow`."""
    return count * settings().max_examples // 100
