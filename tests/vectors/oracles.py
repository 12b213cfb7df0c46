"""Which implementations give the pack its expected values, and their versions."""

from __future__ import annotations

import json
import subprocess

from support.eels import oracle_python
from support.npm import node_modules

__all__ = ["eels_version", "npm_version"]


def eels_version() -> dict[str, str]:
    """EELS, as an entry of the manifest."""
    ask = "import importlib.metadata as m; print(m.version('ethereum-execution'))"
    done = subprocess.run([oracle_python(), "-c", ask], capture_output=True, text=True, check=True)
    return {"ethereum-execution": done.stdout.strip()}


def npm_version(*packages: str) -> dict[str, str]:
    """Packages of node_modules, as entries of the manifest."""
    return {
        package: json.loads((node_modules() / package / "package.json").read_text())["version"]
        for package in packages
    }
