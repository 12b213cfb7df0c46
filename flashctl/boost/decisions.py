"""Which block getPayload returned and why: a record per block, for the log and for `--decisions FILE`."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson

from flashctl.errors import IoError

__all__ = ["Decision", "DecisionLog"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One answered getPayload. Field names are the keys in the file."""

    payload_id: str
    """The fallback's, which the consensus client uses."""

    builder_payload_id: str | None
    source: str
    """`builder` or `l2`."""

    reason: str
    via: str
    """Where a builder's block came from: `flashblocks`, `getPayload` or `rebuilt`; empty without one."""

    mode: str
    block_number: int
    block_hash: str
    transactions: int
    gas_used: int
    flashblocks: int
    """Published for this block."""

    builder_block_hash: str | None
    builder_gas_used: int | None
    l2_block_hash: str | None
    l2_gas_used: int | None
    kept_promises: bool
    """Whether every published transaction is in the block, in its place."""

    seconds: float
    """From the call to the answer."""


class DecisionLog:
    """Appends decisions to a file, one JSON object a line, flushed."""

    def __init__(self, path: Path | None) -> None:
        """Open `path` for appending; None writes no file.

        Raises:
            IoError: If it cannot be opened.
        """
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                raise IoError(f"cannot write decisions to {path}: {error.strerror}") from error

    def write(self, decision: Decision) -> None:
        """Append one decision.

        Raises:
            IoError: If writing fails.
        """
        if self._file is None:
            return
        line: dict[str, Any] = {"time": round(time.time(), 3), **asdict(decision)}
        try:
            self._file.write(orjson.dumps(line).decode() + "\n")
            self._file.flush()
        except OSError as error:
            raise IoError(f"cannot write decisions: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
