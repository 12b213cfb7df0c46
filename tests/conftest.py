"""What every test starts with."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import HealthCheck, settings
from support.parallel import *  # noqa: F403  how the suite is spread over processes

from flashctl.core.service import defects
from flashctl.core.service.workers import process

# The machine may be busy with something else: how long an example takes says nothing about the code.
_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", _ANY_SPEED)
# The same examples on every run: a failure is due to the change at hand, and can be reproduced.
settings.register_profile("ci", _ANY_SPEED, derandomize=True, database=None, print_blob=True)
settings.register_profile("slow", _ANY_SPEED, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """What a process has one of begins anew with each test: the count of defects, the settings of the log."""
    defects.forget()
    log = logging.getLogger("flashctl")
    log.setLevel(logging.NOTSET)
    log.propagate = True
    log.handlers.clear()


@pytest.fixture(autouse=True)
def workers_at_our_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker at nice 10 gets next to nothing of a machine that others use up, and calls have a time-out."""
    monkeypatch.setattr(process, "NICE", 0)


_LEGIBLE = 60
"""Characters of a parameter that a test's name shows."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names that are equal in every process (pytest-xdist, --last-failed) and legible: no packed bytes."""
    if isinstance(val, bytes) and not (len(val) < _LEGIBLE and val.isascii() and val.decode().isprintable()):
        return argname
    if isinstance(val, str) and len(val) >= _LEGIBLE:
        return argname
    return None
