"""Documents and flags: those that a page names exist, and the tables of flags of other tools are true."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from flashctl.cli.options import ROLES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MOVING = "## Moving over from "
OF_OTHERS = {
    # of flashctl itself
    "--install-completion", "--version", "--help",
    # op-batcher
    "--throttle.additional-endpoints",
    # pip, npm, cast, forge, hardhat, pytest, git
    "--rpc-url", "--private-key", "--value", "--broadcast", "--network", "--create", "--prefix", "--no-save",
    "--ignore-scripts", "--async", "--fork-url", "--no-compile", "--slow",
}  # fmt: skip


def generator() -> Any:
    """`docs/generate.py` as a module."""
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flags() -> dict[str, dict[str, Any]]:
    """The flags of each role, all its commands together, with their descriptions."""
    found: dict[str, dict[str, Any]] = {role: {} for role in ROLES}
    for path, command in generator().commands():
        for parameter in command.params:
            for name in (*parameter.opts, *parameter.secondary_opts):
                found[path.split()[0]][name] = parameter
    return found


def named_flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w/-])(--[a-z][\w.-]*[a-z0-9])(?![\w-]|\*)", text))


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")]), ids=lambda path: path.name)
def test_flags_that_a_page_names_exist(page: Path, flags: dict[str, dict[str, Any]]) -> None:
    known = set().union(*flags.values())
    unknown = named_flags(page.read_text().split(MOVING)[0]) - known - OF_OTHERS
    assert not unknown, f"{page.name} names {sorted(unknown)}"


def rows_of_moving_over() -> list[Any]:
    rows = []
    for role in ROLES:
        page = DOCS / f"{role}.md"
        _, _, table = page.read_text().partition(MOVING)
        for line in table.splitlines():
            if line.startswith("| `--"):
                theirs, default, here = (cell.strip() for cell in line.strip("|").split("|"))
                rows.append(pytest.param(role, theirs, default, here, id=f"{role} {theirs[:40]}"))
    return rows


@pytest.mark.parametrize(("role", "theirs", "default", "here"), rows_of_moving_over())
def test_moving_over(
    role: str, theirs: str, default: str, here: str, flags: dict[str, dict[str, Any]]
) -> None:
    """`same`: it exists, with that default or the one named. `not there`: it does not. Else others do."""
    names, known = re.findall(r"`(--[^`]+)`", theirs), flags[role]
    assert named_flags(here) <= set(known)
    if here.startswith("not there"):
        assert not set(names) & set(known), "it is there by now"
    elif here.startswith("same"):
        assert set(names) <= set(known)
        (parameter,) = {id(known[name]): known[name] for name in names}.values()
        if parameter.name != "log_level":  # no default of its own: a service logs at info, a tool at warning
            assert shown(parameter.default) == (stated(here) or default), names
    else:
        assert not set(names) & set(known), "it is there under its own name"
        assert named_flags(here)


def stated(here: str) -> str | None:
    """The default that a cell names, as in `same; default X. And more`."""
    found = re.search(r"default (`[^`]+`|on|off)", here)
    return found[1] if found else None


def shown(value: Any) -> str:
    match value:
        case None | "":
            return ""
        case bool():
            return "on" if value else "off"
        case _:
            return f"`{value}`"


def default_ports(flags: dict[str, dict[str, Any]], role: str) -> set[int]:
    """The ports that a role opens, or begins with, unless told otherwise."""
    ports = set()
    for parameter in flags[role].values():
        if parameter.name.endswith("port") and isinstance(parameter.default, int):
            ports.add(parameter.default)
        elif parameter.name.endswith("_addr") and ":" in str(parameter.default):
            ports.add(int(parameter.default.rsplit(":", 1)[1]))
    return ports


def test_the_table_of_ports_is_true(flags: dict[str, dict[str, Any]]) -> None:
    table = (ROOT / "README.md").read_text().split("\n## Ports\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (\w+) \|", table, re.MULTILINE)
    told: dict[str, set[int]] = {}
    for ports, role in rows:
        told.setdefault(role, set()).update(int(port) for port in ports.split(","))
    fallback = told.pop("fallback")
    devnet = default_ports(flags, "devnet")
    assert fallback < devnet
    assert devnet == set().union(fallback, *told.values()) - {9000}
    for role, ports in told.items():
        own = default_ports(flags, role)
        assert own <= ports | {9090}, role  # boost's second metrics port, which is off
        assert ports <= own | devnet, role


def test_variables_of_tests_are_told_and_known() -> None:
    from flashctl.cli.environment import _OF_TESTS

    table = set(re.findall(r"`(FLASHCTL_\w+)`", (DOCS / "testing.md").read_text()))
    assert all(name.startswith(_OF_TESTS) for name in table), table
    assert all(any(name.startswith(prefix) for name in table) for prefix in _OF_TESTS)


METRIC = re.compile(
    r"\b(?:flashctl_defects|flashctl_loop|flashctl_builder_|rollup_boost_|websocket_proxy_|reth_flashblocks_)\w+"
)


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")]), ids=lambda path: path.name)
def test_metrics_that_a_page_names_exist(page: Path) -> None:
    known = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    for name in METRIC.findall(page.read_text()):
        assert re.sub("_(bucket|sum|count)$", "", name) in known, f"{page.name} names {name}"


def test_the_page_of_metrics_is_current() -> None:
    """Against /metrics of every role of a devnet, which it takes some seconds to run."""
    written = generator().PAGES["metrics.md"]()
    assert (DOCS / "metrics.md").read_text() == written, "docs/metrics.md is not current: run `make docs`"


def test_the_page_of_watch_has_every_event() -> None:
    from flashctl.watch.events import EVENT_NAMES

    table = (DOCS / "watch.md").read_text().split("## Events")[1].split("## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([\w-]+)`", "".join(rows))) == set(EVENT_NAMES)
