"""Every instrument is written to somewhere: a metric that is never set says something untrue."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "flashctl"
MAKERS = {"counter", "gauge", "histogram", "summary", "distribution"}
WRITES = r"(?:\.labels\([^)]*\))?\s*\.(?:inc|dec|set|observe|set_function|labels)\("


def instruments() -> dict[str, str]:
    """Attribute that holds an instrument to the file that makes it."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            made_by = node.value.func
            name = made_by.attr if isinstance(made_by, ast.Attribute) else getattr(made_by, "id", "")
            for target in node.targets:
                if name in MAKERS and isinstance(target, ast.Attribute):
                    found[target.attr] = str(path.relative_to(PACKAGE))
    return found


def test_every_instrument_is_written_to() -> None:
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    made = instruments()
    assert {"reconnects", "blocks_created", "gas_delta", "_outcomes"} <= set(made)
    silent = [f"{path}: {name}" for name, path in made.items() if not re.search(rf"\.{name}{WRITES}", code)]
    assert not silent, silent
