"""What `flashctl decode` was asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["DecodeConfig"]


class DecodeConfig(NamedTuple):
    """Every setting of one run."""

    inputs: Sequence[str] = ()
    """Hex, JSON, file names, `-` for stdin; the last one may be the name of a field."""
    kind: str | None = None
    json: bool = False
    fields: Sequence[str] = ()
    full: bool = False
    decimal: bool = False
    verify: bool = False
    senders: bool = True
    base_fee: int | None = None
    """Wei."""
    chain_id: int | None = None
    fork: str | None = None
    l1_base_fee: int | None = None
    """Wei; with the next three, prices transactions on L1."""
    blob_base_fee: int | None = None
    base_fee_scalar: int | None = None
    blob_base_fee_scalar: int | None = None
    abi: Sequence[Path] = ()
    signatures: Sequence[str] = ()
    blobs: Path | None = None
    """Folder to write the blobs of a sidecar to."""
    execute: Path | None = None
    """Witness to execute a block on."""
    chain: str | None = None
    """Built-in chain whose rules to execute with; with `genesis` None, the one the transactions name."""
    genesis: Path | None = None
    """genesis.json or rollup.json whose rules to execute with."""
    jobs: int | None = None
    """Processes for a batch; None chooses."""
    color: str = "auto"
