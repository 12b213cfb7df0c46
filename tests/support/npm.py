"""Where interop tests find the tools that come from npm; they are never dependencies of the product."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

__all__ = ["node_modules", "npm_binary", "require_node"]

_INSTALL = "npm install --prefix . --no-save --ignore-scripts <package>"


def node_modules() -> Path:
    """The folder that npm installed into: beside the tests, or what FLASHCTL_NODE_MODULES names."""
    beside = Path(__file__).resolve().parents[2] / "node_modules"
    return Path(os.environ.get("FLASHCTL_NODE_MODULES", beside))


def npm_binary(name: str) -> str:
    """The path of a command that an npm package brought, or a skip that says how to get it."""
    path = node_modules() / ".bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed; {_INSTALL}")
    return str(path)


def require_node(*packages: str) -> str:
    """The path of node, if it and the packages are here; else a skip."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    for package in packages:
        if not (node_modules() / package).exists():
            pytest.skip(f"npm package {package} is not installed; {_INSTALL}")
    return node
