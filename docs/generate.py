"""Writes the documents that follow from the code: `make docs`, or `python docs/generate.py [NAME…]`.

    cli.md, environment.md    from the commands themselves
    metrics.md                from /metrics of every role of a running devnet

`tests/test_house.py` and `tests/test_docs.py` hold the committed files to what this writes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer.main

from flashctl.cli import environment
from flashctl.cli.options import ROLES, SERVICES
from flashctl.cli.values import make_plain

DOCS: Final = Path(__file__).parent

_GENERATED: Final = "<!-- Written by `make docs`; changes here are lost. -->"

_SHARED: Final = (
    "profile", "save_profile", "log_level", "log_format", "verbose", "quiet", "ready_fd", "check", "help",
)  # fmt: skip
"""Flags that every command, or every service, has; told once."""

_OF_EVERY_COMMAND: Final = (
    ("FLASHCTL_PROFILE", "`--profile` of any command; one without a table for it goes on with its defaults"),
    ("FLASHCTL_LOG", "`--log-level` of any command; services also read `LOG_LEVEL`"),
    ("LOG_FORMAT", "`--log-format` of a service"),
    ("NO_COLOR", "not empty: no colour, whatever `--color auto` finds"),
    ("CLICOLOR", "`0`: the same"),
)


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, *rows]
    shown = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]
    return "\n".join([shown[0], "|" + "---|" * len(head), *shown[1:]])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _codes(names: Iterable[str]) -> str:
    return ", ".join(_code(name) for name in names)


def _page(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


# -- commands and flags ---


def commands() -> Iterator[tuple[str, Any]]:
    """Every command as it is typed after `flashctl`, with typer's description of it, in the help's order."""
    for role in ROLES:
        app = importlib.import_module(f"flashctl.cli.{role}").app
        yield from _below(role, make_plain(typer.main.get_command(app)))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if not below:
        yield path, command
    for name, child in below.items():
        # The first is the command that a role runs when no other is named.
        yield from _below(path if name in ("run", path) else f"{path} {name}", child)


def flags(command: Any) -> Iterator[Any]:
    """The parameters of a command that its help shows and other commands do not share."""
    for parameter in command.params:
        if parameter.name not in (*_SHARED, "_context") and not getattr(parameter, "hidden", False):
            yield parameter


def cli_page() -> str:
    """Every command, flag and default."""
    parts = [
        "# Commands and flags",
        _GENERATED,
        "Every command takes the shared flags at the end. A flag can also be set by a variable of the\n"
        "[environment](environment.md), or by a key in the table `[ROLE]` of a profile. Precedence: flag,\n"
        "environment, profile, default.",
    ]
    shared: dict[str, Any] = {}
    for path, command in commands():
        shared |= {each.name: each for each in command.params if each.name in _SHARED}
        panels: dict[str, list[Any]] = {}
        for parameter in flags(command):
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "", []).append(parameter)
        parts += [f"## flashctl {path}", (command.help or ROLES[path]).strip().splitlines()[0]]
        for panel, members in panels.items():
            parts += [*([f"### {panel}"] if panel else []), _flag_table(members)]
    services = _codes(name for name in ROLES if name in SERVICES)
    parts += [
        "## Shared flags",
        f"`--ready-fd` and `--check` belong to services: {services}.",
        _flag_table([shared[name] for name in _SHARED if name in shared]),
    ]
    return _page(*parts)


def _flag_table(parameters: list[Any]) -> str:
    rows = ((_names(each), _default(each), getattr(each, "help", None) or "") for each in parameters)
    return _table(("flag", "default", ""), rows)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _code(parameter.metavar or parameter.name.upper())
    names = _codes((*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag or parameter.count else f"{names} {_code(parameter.metavar or 'TEXT')}"


def _default(parameter: Any) -> str:
    value = parameter.default
    if callable(value) or value is None or value == "" or getattr(parameter, "count", False):
        return ""
    if isinstance(value, bool):
        return ("on" if value else "off") if parameter.secondary_opts else ""
    return _code(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


# -- environment ---


def environment_page() -> str:
    """Every variable that something reads."""
    parts = [
        "# Environment variables",
        _GENERATED,
        "A variable sets the flag beside it unless the command line does; the elements of a list are\n"
        "separated by blanks. The key of a profile is the variable without `FLASHCTL_<ROLE>_`, in lower\n"
        "case. A variable that begins with `FLASHCTL_` and is not listed here is named in the log, with the\n"
        "nearest that is. Those of the tests are in [testing.md](testing.md).",
        _table(("variable", "sets"), ((_code(name), what) for name, what in _OF_EVERY_COMMAND)),
    ]
    for path, command in commands():
        options = [each for each in flags(command) if each.envvar and each.param_type_name == "option"]
        parts += [f"## flashctl {path}", _table(("variable", "also", "flag"), map(_variables, options))]
    parts += [
        "## Variables of the tools that flashctl replaces, without an effect here",
        "They are named in the log when a service finds them set.",
        "\n".join(f"- {role}: {_codes(names)}" for role, names in environment._OF_PEERS.items()),
    ]
    return _page(*parts)


def _variables(option: Any) -> tuple[str, str, str]:
    own, *others = [option.envvar] if isinstance(option.envvar, str) else option.envvar
    return _code(own), _codes(dict.fromkeys(others)), _code(option.opts[0])


# -- metrics ---

_SERVED_BY: Final = {"builder": "builder", "boost": "boost", "rpc": "rpc"}
"""Role to the endpoint of a devnet whose port has its /metrics."""

_LABELS_OF_WHAT_IS_RARE: Final = {
    "_duration": "status",
    "_duration_seconds": "status",
    "call_run_seconds": "lane", "call_wait_seconds": "lane", "calls": "outcome",
    "compression_ratio": "encoding", "connections_by_app": "app", "connections_ended": "cause",
    "defects": "where", "duration": "status", "ignored": "reason", "loop_turns_over_5ms": "cause",
    "retractions": "reason", "sequence_breaches": "cause", "transactions_left_out": "reason",
    "transactions_stopped": "fate", "unexpected_block_order": "kind",
}  # fmt: skip
"""The label of metrics that a devnet without faults may have no sample of, by the end of the name."""


def metrics_page() -> str:
    """Every metric that a role exposes."""
    parts = [
        "# Metrics",
        _GENERATED,
        "On `/metrics` of every role's port, in Prometheus' text format. Where a Rust tool has the metric,\n"
        "name and labels are its own, so that dashboards move over.",
    ]
    scraped = scrape()
    common = set.intersection(*({*families(text)} for text in scraped.values()))
    parts += ["## Of every service", _metric_table(families(scraped["builder"]), lambda name: name in common)]
    for role, text in scraped.items():
        parts += [f"## {role}", _metric_table(families(text), lambda name: name not in common)]
    return _page(*parts)


def scrape() -> Mapping[str, str]:
    """Role to its exposition, from a devnet that has sealed two blocks with transactions in them."""
    command = [sys.executable, "-m", "flashctl", "devnet", "--json", "--any-ports", "--tx-rate", "20"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as devnet,
    ):
        assert devnet.stdout is not None
        ready = json.loads(devnet.stdout.readline())
        for line in devnet.stdout:
            if json.loads(line).get("block", 0) >= 2:
                break
        try:
            pages = {role: _get(ready["endpoints"][name]) for role, name in _SERVED_BY.items()}
            pages["proxy"] = _metrics_of_a_proxy(ready["endpoints"]["stream"])
        finally:
            devnet.terminate()
    return {role: pages[role] for role in ("builder", "boost", "proxy", "rpc")}


def _metrics_of_a_proxy(stream: str) -> str:
    """Of one beside the devnet's own, which has no metrics port; its log says where it serves."""
    command = [
        sys.executable, "-m", "flashctl", "proxy", "--upstream-ws", stream, "--listen-addr", "127.0.0.1:0",
        "--metrics-addr", "127.0.0.1:0", "--log-format", "json",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as proxy:
        assert proxy.stderr is not None
        try:
            status = next(entry["status"] for line in proxy.stderr if "status" in (entry := json.loads(line)))
            _wait_for_messages(status)
            return _get(status)
        finally:
            proxy.terminate()


def _wait_for_messages(status: str) -> None:
    """Return when the proxy has heard of its upstream: some metrics are of the last message."""
    for _ in range(100):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{status}/readyz"):
            return
        time.sleep(0.1)
    raise TimeoutError("the proxy gets no messages from the devnet")


def _get(url: str) -> str:
    with urllib.request.urlopen(f"http://{urlsplit(url).netloc}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def families(exposition: str) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Name to type, labels, and help."""
    from prometheus_client.parser import text_string_to_metric_families

    found, all_of_them = {}, {each.name: each for each in text_string_to_metric_families(exposition)}
    for name, family in all_of_them.items():
        full = f"{name}_total" if f"# TYPE {name}_total " in exposition else name
        labels = {label for sample in family.samples for label in sample.labels} - {"le", "quantile"}
        if not family.samples:
            labels = {_rare_label(name)}
        found[full] = (family.type, tuple(sorted(labels)), family.documentation)
    return found


def _rare_label(name: str) -> str:
    for ending, label in _LABELS_OF_WHAT_IS_RARE.items():
        if name.removesuffix("_total").endswith(ending):
            return label
    raise LookupError(f"{name} has no sample on a devnet: say in _LABELS_OF_WHAT_IS_RARE which label it has")


def _metric_table(
    found: Mapping[str, tuple[str, tuple[str, ...], str]], wanted: Callable[[str], bool]
) -> str:
    rows = (
        (_code(name), kind, _codes(labels), text)
        for name, (kind, labels, text) in sorted(found.items())
        if wanted(name)
    )
    return _table(("metric", "type", "labels", ""), rows)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page, "environment.md": environment_page, "metrics.md": metrics_page,
}  # fmt: skip
"""File to what writes it."""


def main(names: Iterable[str]) -> None:
    """Write the pages of these names."""
    for name in names:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or PAGES)
