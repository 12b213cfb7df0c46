"""Reference data of other projects (test vectors, recorded blocks), which the repository does not contain.

`FLASHCTL_FIXTURES` names the folder; without it, `shared/fixtures` beside the repository. Tests reach the
data through this module only and skip, all for the same reason, where it is absent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["each_reference", "needs_reference", "optional_reference_path", "reference_path"]

_BESIDE: Final = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
_ROOT: Final = Path(os.environ.get("FLASHCTL_FIXTURES") or _BESIDE)
_REASON: Final = "no reference data of other projects here (FLASHCTL_FIXTURES, docs/testing.md)"


def optional_reference_path(name: str) -> Path | None:
    """The path of a file or folder of the reference data; None where it is absent."""
    path = _ROOT / name
    return path if path.exists() else None


def reference_path(name: str) -> Path:
    """The path of a file or folder of the reference data; the running test or module skips without it."""
    path = optional_reference_path(name)
    if path is None:
        pytest.skip(_REASON, allow_module_level=True)
    return path


needs_reference = pytest.mark.skipif(not _ROOT.is_dir(), reason=_REASON)
"""For tests, and modules, whose fixtures would fail without the data."""


def each_reference(cases: Callable[[], Iterable[Any]], *, names: int = 1) -> list[Any]:
    """Parameters of a test (that many names) read from the data; one skipped case where it is absent."""
    if _ROOT.is_dir():
        return list(cases())
    return [pytest.param(*[None] * names, marks=needs_reference, id="absent")]
