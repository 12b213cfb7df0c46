"""How the whole suite is spread over worker processes (pytest-xdist).

A run of chosen files or tests stays in one process. The whole suite goes to one process more than there are
cores, since many tests wait: a file to a process, those that share a devnet to the same, the longest first.
What needs the machine for itself comes last, one test after another, when no other test runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_runtest_protocol",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
]

_ROOT: Final = Path(__file__).resolve().parents[2]

ALONE: Final = (
    "tests/soak/",
    "tests/devnet/test_heavy_callers.py",
    "tests/devnet/test_large_transactions.py",
    "tests/builder/test_call_workers.py",
    "tests/ethrpc/test_call_workers.py",
    "tests/rpc/test_pending_workers.py",
    "tests/core/service/workers/test_pool.py",
    "tests/proxy/test_soak.py",
)
"""About flashblocks made in time, or with call workers: those run at nice 10 and would get no turn."""

TOGETHER: Final = ("tests/interop/",)
"""Folders whose tests share a session's fixture that is worth sharing: one process runs them."""

FIRST: Final = (
    *TOGETHER,
    "tests/devnet/",
    "tests/chain/test_predeploys.py",
    "tests/evm/",
    "tests/watch/",
    "tests/cli/",
    "tests/boost/",
    "tests/chain/",
    "tests/op/",
)
"""What takes long, longest first: begun late, it would keep one process busy after the others."""

MOST: Final = 6
"""Processes: each collects all tests, which costs two seconds and 150 MB."""


def _is_alone(path: str) -> bool:
    return path.startswith(ALONE)


def _place(path: str) -> int:
    """Where a file stands in the order of the run."""
    if _is_alone(path):
        return len(FIRST) + 1
    return next((at for at, begin in enumerate(FIRST) if path.startswith(begin)), len(FIRST))


def _is_whole_suite(config: pytest.Config) -> bool:
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS or config.args == ["tests"]


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` in pyproject.toml comes to; 0 is this process."""
    if not _is_whole_suite(config) or config.option.collectonly:
        return 0
    return min(len(os.sched_getaffinity(0)) + 1, MOST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file to a process; files that belong together as if they were one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = str(super()._split_scope(nodeid))
            if _is_alone(path):
                return "alone"
            return next((begin for begin in TOGETHER if path.startswith(begin)), path)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in (*ALONE, *TOGETHER, *FIRST):
        if not (_ROOT / name).exists():
            raise pytest.UsageError(f"tests/support/parallel.py names {name}, which does not exist")
    if _is_worker(config) or _is_whole_suite(config):
        items.sort(key=lambda item: _place(_path(item)))


def _path(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]


_held: int | None = None
"""The lock file, while this process holds it."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
    """Tests beside one another share a lock, one that is alone has it for itself.

    Taken here, outside the limit on a test's time; kept between tests, since fixtures of a module live on.
    """
    global _held
    if not _is_worker(item.config):
        return (yield)
    alone = _is_alone(_path(item))
    if _held is None:
        _held = os.open(Path(item.config.option.basetemp).with_name("turns.lock"), os.O_CREAT | os.O_RDWR)
        fcntl.flock(_held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        return (yield)
    finally:
        if nextitem is None or _is_alone(_path(nextitem)) != alone:
            os.close(_held)
            _held = None
