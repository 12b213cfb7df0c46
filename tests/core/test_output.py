"""stdout: NDJSON line by line, escaped text, and a quiet end when the reader leaves."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from flashctl.core.output import Output, escape, wants_color


def test_json_is_one_object_a_line_with_bytes_as_hex() -> None:
    stream = io.BytesIO()
    Output(stream).json({"hash": b"\x01\x02", "n": 3})
    Output(stream).line("plain é")
    assert stream.getvalue() == b'{"hash":"0x0102","n":3}\n' + "plain é\n".encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("é ✓", "é ✓"), ("a\x1b[2Jb", r"a\x1b[2Jb"), ("\n\x9b\u202e", r"\n\x9b\u202e")],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_color_follows_the_flag_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert wants_color(io.StringIO(), "always") and not wants_color(io.StringIO())
    monkeypatch.delenv("NO_COLOR")
    assert not wants_color(io.StringIO())


def test_a_tail_that_waits_for_the_network_ends_when_its_reader_leaves() -> None:
    code = """
import asyncio
from flashctl.core.output import Output, when_reader_leaves
async def main():
    left = asyncio.Event()
    when_reader_leaves(left.set)
    Output().line("first")
    await left.wait()
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    assert process.wait(timeout=60) == 0
