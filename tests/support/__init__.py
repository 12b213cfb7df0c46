"""Shared test plumbing: where reference data lives and how a test asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
"""Reference data of other projects; never committed, so tests that need it skip without it."""


def fixture_path(name: str) -> Path:
    """The path of a file or folder of the reference data, or a skip that names what is absent."""
    path = FIXTURES / name
    if not path.exists():
        pytest.skip(f"reference data absent: shared/fixtures/{name}", allow_module_level=True)
    return path
