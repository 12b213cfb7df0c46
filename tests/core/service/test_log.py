"""Log lines: fields in both formats, no forged lines, no floods."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from flashctl.core.service.log import configure_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("flashctl")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def logged(log_format: str, *records: tuple[int, str, dict[str, object]], level: str = "info") -> list[str]:
    stream = io.StringIO()
    configure_logging(level, log_format, stream=stream)  # type: ignore[arg-type]
    for number, message, fields in records:
        logging.getLogger("flashctl.boost.test").log(number, message, extra=fields)
    return stream.getvalue().splitlines()


def test_text_lines_carry_fields() -> None:
    (line,) = logged("text", (logging.INFO, "accepted", {"block": 3, "hash": b"\x01", "why": "a b"}))
    assert line.endswith('info    boost.test: accepted block=3 hash=0x01 why="a b"')


def test_json_lines_carry_fields() -> None:
    (line,) = logged("json", (logging.WARNING, "accepted", {"block": 3, "hash": b"\x01"}))
    entry = json.loads(line)
    assert entry["ts"].endswith("Z")
    assert {key: entry[key] for key in list(entry)[1:]} == {
        "level": "warning", "target": "boost.test", "msg": "accepted", "block": 3, "hash": "0x01",
    }  # fmt: skip


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_text_from_the_network_cannot_forge_a_line_or_drive_a_terminal(log_format: str) -> None:
    lines = logged(log_format, (logging.INFO, "peer says \n12:00 info: all fine \x1b[2J", {"x": "\r\n\x9b"}))
    assert len(lines) == 1 and "\x1b" not in lines[0] and "\x9b" not in lines[0]


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    log = logging.getLogger("flashctl.boost.test")
    with open(reading, "rb") as reader, open(writing, "w") as stream:
        configure_logging("info", stream=stream)
        assert reader.read(4096) == bytes(4096)
        for number in range(3):
            # The first fits in part: four pieces of 1,024 bytes and some.
            log.info("sealed " + "x" * 4080, extra={"block": number})
        assert reader.read(filled - 4096) == bytes(filled - 4096)
        log.info("sealed", extra={"block": 3})
        log.info("sealed", extra={"block": 4})
        lines = [reader.readline().decode() for _ in range(4)]
    assert "sealed x" in lines[0] and "block" not in lines[0]
    assert lines[1] == "(3 log lines lost: stderr was not read)\n"
    assert [line.split()[-1] for line in lines[2:]] == ["block=3", "block=4"]


def test_levels_filter_and_repeats_collapse() -> None:
    assert logged("text", (logging.DEBUG, "hidden", {})) == []
    assert len(logged("text", *[(logging.WARNING, "no base", {})] * 100)) == 5
    assert len(logged("text", *[(logging.INFO, "sealed", {})] * 100)) == 100
