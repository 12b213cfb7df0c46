"""JSON-RPC answers of builder and overlay, byte for byte what was recorded: order of fields, words of errors,
what each name of a block means. A change of an answer is a change of the record:

    cd tests && python -m support.recorded_answers
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from support.recorded_answers import builder_answers, overlay_answers, read_recorded

from flashctl.rpc.visibility import Latest


def compare(now: dict[str, Any], who: str) -> None:
    recorded = read_recorded(who)
    assert now.keys() == recorded.keys()
    changed = [key for key, answer in now.items() if orjson.dumps(answer) != orjson.dumps(recorded[key])]
    assert {key: now[key] for key in changed[:3]} == {key: recorded[key] for key in changed[:3]}, len(changed)
    assert not changed, f"the order of fields: {changed}"


def test_a_builder_s_chain() -> None:
    compare(asyncio.run(builder_answers()), "builder")


@pytest.mark.parametrize("latest", Latest)
def test_an_overlay(latest: Latest) -> None:
    compare(asyncio.run(overlay_answers(latest)), f"overlay, latest is {latest.value}")
