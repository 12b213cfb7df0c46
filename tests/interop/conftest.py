"""One devnet for all tools: each has accounts of its own, none does anything that another could notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.devnet import Devnet, devnet


@pytest.fixture(scope="session")
def running() -> Iterator[Devnet]:
    with devnet() as started:
        started.fund_fresh_accounts(30)
        yield started
