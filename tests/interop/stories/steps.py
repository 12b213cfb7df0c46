"""How a story in Python tells its steps: one line of JSON for each that passed, and for the one that did not
its name, what was expected and what was seen."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

RPC = os.environ["STORY_RPC"]
WS = os.environ["STORY_WS"]
KEY = os.environ["STORY_KEY"]
CHAIN_ID = int(os.environ["STORY_CHAIN_ID"])
PROBE = json.loads(Path(os.environ["STORY_PROBE"]).read_text())
GWEI = 10**9
ETHER = 10**18
REASON = "not today"


class Unexpected(Exception):
    """A step saw something else than it must."""


class Story:
    """The steps so far."""

    def __init__(self) -> None:
        self._preconfirmed = 0

    def count(self, block_hash: bytes | str) -> None:
        """Take note of a receipt; of a block that is not sealed yet the hash is not known."""
        number = int(block_hash, 16) if isinstance(block_hash, str) else int.from_bytes(block_hash, "big")
        self._preconfirmed += number == 0

    def run(self, *steps: Callable[[], None]) -> None:
        """Run functions, named after what they show, in their order."""
        for step in steps:
            name = step.__name__.replace("_", " ")
            try:
                step()
            except Unexpected as error:
                sys.exit(f"step {name}: {error}")
            except Exception:
                sys.exit(f"step {name}: {traceback.format_exc()}")
            print(json.dumps({"step": name, "preconfirmed": self._preconfirmed}), flush=True)


def expect(what: str, seen: object, expected: object) -> None:
    if seen != expected:
        raise Unexpected(f"{what}: expected {shown(expected)}, saw {shown(seen)}")


def shown(value: object) -> str:
    """Enough of a value; code is long."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def expect_text(what: str, seen: object, part: str) -> None:
    if part not in str(seen):
        raise Unexpected(f"{what}: expected {part!r} in it, saw {seen!s}")


def refusal(what: str, call: Callable[[], Any]) -> Exception:
    """What a call is refused with."""
    try:
        value = call()
    except Exception as error:
        return error
    raise Unexpected(f"{what}: expected an error, saw {value!r}")


def eventually(what: str, expected: object, seen: Callable[[], object]) -> None:
    """Ask often, for 30 s, until it is so."""
    deadline = time.monotonic() + 30
    while (value := seen()) != expected:
        if time.monotonic() > deadline:
            raise Unexpected(f"{what}: expected {expected!r} within 30 s, saw {value!r}")
        time.sleep(0.02)
