"""The house's own rules: which way imports point, and what the README promises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashctl.cli.options import ROLES as COMMANDS
from flashctl.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "flashctl"
README = (ROOT / "README.md").read_text()

ROLES = {"builder", "boost", "proxy", "rpc", "watch", "decode", "devnet"}
LAYERS = ("eth", "evm", "op")
"""Bottom up: each may import those before it."""

SHARED = {
    "core": {"eth", "op"},
    "chain": {"core", *LAYERS},
    "ethrpc": {"chain", "core", *LAYERS},
}
"""What lies between the layers and the roles, and what each may import."""

IO_MODULES = {"asyncio", "socket", "uvloop", "httpx", "httptools", "websockets", "uvicorn", "sqlite3"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if len(path.relative_to(PACKAGE).parts) > 1)


def allowed(part: str) -> set[str]:
    """The packages of flashctl that files of `part` may import."""
    if part in LAYERS:
        return {part, *LAYERS[: LAYERS.index(part)]}
    if part in SHARED:
        return {part, *SHARED[part]}
    if part == "cli":
        return {"cli", *SHARED, *LAYERS, *ROLES}
    return {part, *SHARED, *LAYERS}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0]
    for module in imports(path):
        root, *rest = module.split(".")
        if root == "flashctl" and rest and (PACKAGE / rest[0]).is_dir():
            assert rest[0] in allowed(part), f"{part} imports {module}"
        if part in LAYERS[:3]:
            assert root not in IO_MODULES, f"{part} does I/O: {module}"


def test_core_is_packages_and_output() -> None:
    modules = {path.stem for path in (PACKAGE / "core").glob("*.py")}
    assert modules == {"__init__", "output"}


def test_readme_starts_with_two_commands() -> None:
    """One runs the devnet, one passes the tests; both stand before the first section."""
    first_screen = README.split("\n## ")[0]
    commands = re.findall(r"^    (python3 -m venv .*)$", first_screen, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("flashctl devnet")
    assert commands[1].endswith("pytest")
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_readme_names_every_command_exit_code_and_profile() -> None:
    for name in COMMANDS:
        assert f"| `flashctl {name}` |" in README
    for code in ExitCode:
        assert re.search(rf"^\|.*\b{int(code)}\b.*\|", README, re.MULTILINE), code
    for profile in (ROOT / "profiles").glob("*.toml"):
        assert profile.stem in README


def test_what_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert target.startswith("http") or (ROOT / target).is_file(), target
