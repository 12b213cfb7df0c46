"""The house's own rules: which way imports point, and what the README promises."""

from __future__ import annotations

import ast
import importlib
import importlib.util
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
    "ethrpc": {"core", *LAYERS},
    "remote": {"core", *LAYERS},
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


MAX_ARGUMENTS = 6
MAX_FIELDS = 12

WIDE = {
    "Header": "RLP's order of fields: EIP-4844, EIP-4788, EIP-7685",
    "BlobTx": "RLP's order of fields: EIP-4844",
    "SetCodeTx": "RLP's order of fields: EIP-7702",
    "L1Attributes": "the fields of L1Block.setL1BlockValues, packed in this order",
    "Frame": "an EVM call frame, made for every call: no part of it is passed on alone",
    "Round": "all state of one payload, which one object owns",
    "Decision": "one line of the decision log, flat as it is written",
    "PendingBlock": "a block of a fork of the overlay, replaced as a whole",
    "StreamOptions": "independent options of one connection; callers set one to three, by name",
    "RpcLimits": "independent bounds of one server; callers set one or two, by name",
    "JsonRpcClient": "a URL and independent options of a transport, by name, as httpx.Client has them",
    "HubMessage": "made for every message: a part of its own would be one more allocation",
}
"""Classes with more arguments or fields than others may have, and why."""


def width(cls: ast.ClassDef) -> tuple[int, int]:
    """The arguments of a class's own constructor, and its fields if it is a dataclass."""
    arguments = 0
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = node.args
            arguments = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1
    is_data = any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list)
    lines = [node for node in cls.body if isinstance(node, ast.AnnAssign)]
    stated = [node for node in lines if not ast.unparse(node.annotation).startswith("ClassVar")]
    return arguments, len(stated) if is_data else 0


def test_constructors_and_configs_are_a_few_named_parts() -> None:
    found: dict[str, tuple[int, int]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                arguments, stated = width(node)
                if arguments > MAX_ARGUMENTS or stated > MAX_FIELDS:
                    found[node.name] = arguments, stated
    assert found.keys() <= WIDE.keys(), found
    assert WIDE.keys() <= found.keys(), "excepted without need"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    named = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in named.items()}


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among `known` that a file imports, wherever in it and for whatever purpose."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            found |= inside if len(inside) == len(node.names) else inside | {node.module or ""}
    return found & known.keys()


def test_no_import_cycles() -> None:
    """Inside packages neither, and not under TYPE_CHECKING: what two modules share lies below both."""
    known = modules()
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    while leaves := {name for name, below in graph.items() if not below & graph.keys()}:
        for name in leaves:
            del graph[name]
    while tops := graph.keys() - {name for below in graph.values() for name in below}:
        for name in tops:
            del graph[name]
    assert not graph, {name: below & graph.keys() for name, below in graph.items()}


MAY_SLEEP = {
    "boost/test_boost_service.py": "a fallback that takes longer to validate than other calls may",
    "cli/test_secrets.py": "a few attempts at an upstream that is not there, which shows in nothing",
    "core/hub/test_clients.py": "a client that sends its handshake a byte at a time",
    "core/jsonrpc/test_http_slow_readers.py": "a client that reads slowly",
    "core/service/test_loop_turns.py": "what holds up the loop, and the quiet before and after it",
    "core/service/test_side_process.py": "others have the processor for longer than a budget of work",
    "ethrpc/test_live_api.py": "time in which a timer would look, and there is none",
    "interop/stories/steps.py": "runs with other interpreters, and waits as support/waiting.py does",
    "proxy/test_soak.py": "the pace of a soak",
    "proxy/test_weaknesses.py": "the kernel begins to stamp packets some moments after it is asked",
    "rpc/test_bad_node.py": "a node that answers slowly",
    "soak/test_damaged_upstreams.py": "the length of a soak",
    "soak/test_hostile_clients.py": "the pace of a soak",
    "support/hand_started.py": "waits for blocks, with a limit of its own",
    "support/hostile_clients.py": "the pace of hostile clients",
    "support/node_relay.py": "latency and hanging are its faults",
    "support/onlooker.py": "the pace of its calls",
    "support/relay_command.py": "runs until it is ended",
    "support/soak_lab.py": "the pace of an observer",
    "support/stream_relay.py": "latency is its fault",
    "support/toy_worker.py": "a job that hangs",
    "support/waiting.py": "where waiting is done",
    "support/watch_lab.py": "pauses of a scripted stream",
    "watch/test_recordings_are_kept.py": "nothing tells when a writer has come to wait for its pipe",
}
"""Files of tests that pause for a time, and why each does; elsewhere tests wait for what they need."""

MAY_READ_A_CLOCK = {
    "builder/test_job.py": "a job's clock, made to run faster",
    "core/hub/test_clients.py": "the time of a sweep is an argument",
    "core/jsonrpc/test_server.py": "holds the loop for a part of a slice",
    "core/net/test_fast_receive.py": "sets when a ping is due",
    "interop/stories/steps.py": "the limit of its waiting",
    "rpc/test_bad_streams.py": "sets when the node was behind",
    "support/onlooker.py": "prints how long calls took",
    "support/soak_lab.py": "prints how long getPayload took",
    "support/stream_injector.py": "the pace of what it injects",
    "support/waiting.py": "the limit of its waiting",
}
"""Files of tests that read a steady clock; how long something takes is for `bench/` to measure."""


def has_call(path: Path, names: set[str]) -> bool:
    """Whether a file calls a function of such a name; `sleep(0)`, a turn of the loop, does not count."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in names and [ast.unparse(argument) for argument in node.args] != ["0"]:
                return True
    return False


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        ({"sleep"}, MAY_SLEEP),
        ({"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}, MAY_READ_A_CLOCK),
    ],
    ids=["pauses", "clocks"],
)
def test_tests_wait_for_things_and_not_for_times(names: set[str], listed: dict[str, str]) -> None:
    """A pause that is long enough on one machine is too short on another, and too long on all others."""
    folder = ROOT / "tests"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if has_call(path, names)}
    assert found == listed.keys(), "use tests/support/waiting.py, or say here why not"


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


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, as forges write them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.name)
def test_what_documents_link_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


def test_every_document_is_linked_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in DOCUMENTS:
        name = page.name if page.parent.name == "docs" else f"../{page.name}"
        assert f"({name})" in index or page.name in ("index.md", "README.md"), (
            f"{name} is not in docs/index.md"
        )


@pytest.mark.parametrize("name", ["cli.md", "environment.md"])
def test_generated_documents_are_current(name: str) -> None:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = (ROOT / "docs" / name).read_text()
    assert written == generator.PAGES[name](), f"docs/{name} is not current: run `make docs` and commit it"


def resolve(name: str) -> object:
    """What `module:symbol` names; a symbol may be an attribute of another, or a field of a dataclass."""
    module, _, symbol = name.partition(":")
    found: object = importlib.import_module(module)
    for part in symbol.split(".") if symbol else ():
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.name)
def test_symbols_that_documents_name_exist(page: Path) -> None:
    """`flashctl.package.module:Symbol`, wherever a page says where something is."""
    for name in re.findall(r"`(flashctl(?:\.\w+)+(?::[\w.]+)?)`", page.read_text()):
        try:
            resolve(name)
        except (ImportError, AttributeError) as error:
            pytest.fail(f"{page.name} names {name}: {error}")
    for path in re.findall(r"`((?:flashctl|tests|bench|docs|profiles)/[\w/.]+)`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
