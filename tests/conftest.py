"""What every test starts with."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from flashctl.core.service import defects

# The machine may be busy with something else: how long an example takes says nothing about the code.
settings.register_profile("flashctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flashctl")


@pytest.fixture(autouse=True)
def no_defects() -> None:
    """Defects are counted for the whole process: each test begins with none."""
    defects.forget()
