"""One devnet for all tools: each has accounts of its own, none does anything that another could notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.devnet import Devnet, devnet


@pytest.fixture(scope="session")
def running() -> Iterator[Devnet]:
    with devnet() as started:
        started.fund_fresh_accounts(32)
        yield started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """node and cast take their time to start, on a busy machine a minute."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(300))
