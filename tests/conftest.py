"""What every test starts with."""

from __future__ import annotations

import pytest

from flashctl.core import defects


@pytest.fixture(autouse=True)
def no_defects() -> None:
    """Defects are counted for the whole process: each test begins with none."""
    defects.forget()
