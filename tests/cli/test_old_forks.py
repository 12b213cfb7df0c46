"""A genesis whose blocks are not executed is refused at start and by --check, by every role that executes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flashctl.chain.genesis import devnet_genesis
from flashctl.cli.app import main
from flashctl.errors import ExitCode
from flashctl.op.forks import OpFork
from flashctl.rpc.config import chain_config

ROLES = {
    "builder": ["--http.port", "0", "--authrpc.port", "0", "--flashblocks.port", "0"],
    "devnet": ["--any-ports"],
    "rpc": [
        "--flashblocks-url",
        "ws://127.0.0.1:1",
        "--upstream-rpc",
        "http://127.0.0.1:1",
        "--http.port",
        "0",
    ],
}


def genesis_of(folder: Path, fork: str, time: int) -> Path:
    """A devnet's that follows the rules of `fork` until `time`."""
    genesis = devnet_genesis(timestamp=1_700_000_000)
    config = genesis["config"]
    later = ("canyon", "ecotone", "fjord", "granite", "holocene", "isthmus", "jovian", "karst")
    for name in (*later, "shanghai", "cancun", "prague", "osaka"):
        config.pop(f"{name}Time", None)
    config["regolithTime"] = 0 if fork == "regolith" else time
    config["canyonTime"] = config["shanghaiTime"] = time
    path = folder / "genesis.json"
    path.write_text(json.dumps(genesis))
    return path


@pytest.mark.parametrize("fork", ["bedrock", "regolith"])
@pytest.mark.parametrize("checks", [True, False], ids=["check", "start"])
@pytest.mark.parametrize("role", ROLES)
def test_refused(
    role: str, checks: bool, fork: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = genesis_of(tmp_path, fork, 4_000_000_000)
    arguments = [role, *ROLES[role], "--genesis", str(genesis), *(["--check"] if checks else [])]
    assert main(arguments) == ExitCode.DATA
    error = capsys.readouterr().err
    assert f"blocks of {fork} are not executed; the first fork supported is canyon" in error
    assert "Traceback" not in error


def test_a_chain_whose_bedrock_is_past_may_be_followed(tmp_path: Path) -> None:
    genesis = genesis_of(tmp_path, "bedrock", 1_700_000_000 + 100)
    config = chain_config(None, genesis)
    assert config is not None and config.fork_at(1_800_000_000) is OpFork.CANYON
