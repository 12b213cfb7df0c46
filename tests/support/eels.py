"""EELS as an oracle: finds a Python that has it, and talks to `eels_worker` running there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Oracle", "oracle_python"]

WORKER = Path(__file__).with_name("eels_worker.py")


def oracle_python() -> str:
    """The interpreter named by FLASHCTL_EELS_PYTHON, else this one if it can import EELS, else a skip."""
    named = os.environ.get("FLASHCTL_EELS_PYTHON")
    if named:
        return named
    if importlib.util.find_spec("ethereum") is not None:
        return sys.executable
    pytest.skip(
        "no EELS: install ethereum-execution in any environment and set FLASHCTL_EELS_PYTHON to its python"
    )


class Oracle:
    """A worker process; ask it one case at a time, or several and collect the answers in order."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: dict[str, Any]) -> None:
        """Send a case; the answer comes from `answer`, in the order of questions."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The oldest answer not yet taken."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the EELS worker died; its traceback is on stderr")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
