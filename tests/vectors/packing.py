"""How the pack is written: JSON Lines in xz, and a manifest that says what each file is and who answered.

The bytes of a file follow from its cases alone: keys sorted, no times, no paths. Compression is that of the
liblzma that made it, so a file made again is compared by its content, `content_sha256`, not by its bytes.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MANIFEST", "PACK", "Json", "Kind", "as_read", "content_digest", "write"]

PACK = Path(__file__).with_name("pack")
MANIFEST = PACK / "manifest.json"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One file of the pack."""

    name: str
    """The file is `<name>.jsonl.xz`."""
    about: str
    """One sentence for the manifest."""
    cases: Iterable[Json]
    oracles: dict[str, str]
    """Version of each implementation that gave the expected values; empty for golden ones of our own."""


def _lines(cases: Iterable[Json]) -> bytes:
    return b"".join(
        json.dumps(case, sort_keys=True, separators=(",", ":")).encode() + b"\n" for case in cases
    )


def as_read(case: Json) -> Json:
    """A case as it comes back from a file: without tuples, and its keys text."""
    read: Json = json.loads(json.dumps(case))
    return read


def content_digest(cases: Iterable[Json]) -> str:
    """The digest of cases as a file of the pack holds them."""
    return hashlib.sha256(_lines(cases)).hexdigest()


def write(kind: Kind) -> Json:
    """Write a file of the pack and its entry in the manifest; returns the entry."""
    cases = list(kind.cases)
    content = _lines(cases)
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    PACK.mkdir(exist_ok=True)
    (PACK / f"{kind.name}.jsonl.xz").write_bytes(packed)
    entry: Json = {
        "about": kind.about,
        "cases": len(cases),
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "content_sha256": hashlib.sha256(content).hexdigest(),
        "oracles": kind.oracles,
    }
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    manifest[kind.name] = entry
    MANIFEST.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return entry
