"""The snippets of docs/apps.md, run as they stand against a devnet; only port and account are the test's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.devnet import Devnet, devnet
from support.npm import node_modules, npm_binary, require_node

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS: dict[str, str] = dict(
    re.findall(
        r"^```\w+ (\S+)\n(.*?)^```$", (ROOT / "docs" / "apps.md").read_text(), re.MULTILINE | re.DOTALL
    )
)
ONE_ETHER = 10**18
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@pytest.fixture(scope="module")
def running() -> Iterator[Devnet]:
    with devnet() as started:
        yield started


def written(name: str, folder: Path, running: Devnet, account: int) -> Path:
    """A snippet as a file, with the devnet's ports and an account of its own."""
    text = SNIPPETS[name]
    for port, endpoint in (("8545", "rpc"), ("8546", "rpc_sealed")):
        text = text.replace(f"127.0.0.1:{port}", running.url(endpoint).removeprefix("http://"))
    assert "127.0.0.1:85" not in re.sub(r"127\.0\.0\.1:(\d{5})", "", text)
    file = folder / name
    file.write_text(text.replace(KEY, running.account(account)[1]))
    return file


def output(*command: str, folder: Path, **variables: str) -> list[str]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=folder, env={**os.environ, **variables}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


def in_node(name: str, folder: Path, running: Devnet, account: int, *packages: str) -> list[str]:
    node = require_node(*packages)
    (folder / "node_modules").symlink_to(node_modules())
    return output(node, str(written(name, folder, running, account)), folder=folder)


def test_viem(running: Devnet, tmp_path: Path) -> None:
    told = in_node("viem.mjs", tmp_path, running, 0, "viem")
    assert told[0] in (
        "success preconfirmed",
        "success sealed",
    )  # the last flashblock of a block is soon sealed
    assert told[1] == f"{ONE_ETHER}n"


def test_viem_in_one_request(running: Devnet, tmp_path: Path) -> None:
    assert in_node("viem-sync.mjs", tmp_path, running, 1, "viem") == ["success"]


def test_wagmi(running: Devnet, tmp_path: Path) -> None:
    assert in_node("wagmi.mjs", tmp_path, running, 2, "viem", "@wagmi/core") == ["success true"]


def test_ethers(running: Devnet, tmp_path: Path) -> None:
    *rounds, total = in_node("ethers.mjs", tmp_path, running, 3, "ethers")
    assert [line.split()[0] for line in rounds] == ["1"] * 3
    assert "1 preconfirmed" in rounds
    assert total == f"{3 * ONE_ETHER}n"


def test_web3(running: Devnet, tmp_path: Path) -> None:
    python = os.environ.get("FLASHCTL_WEB3_PYTHON", str(ROOT / ".venv-web3/bin/python"))
    if not Path(python).exists():
        pytest.skip("web3.py is not installed; FLASHCTL_WEB3_PYTHON names a Python that has it")
    file = written("web3.py", tmp_path, running, 4).rename(tmp_path / "snippet.py")
    told = output(python, str(file), folder=tmp_path)
    assert told[0] in ("1 preconfirmed", "1 sealed")
    assert told[1] == str(ONE_ETHER)


def test_hardhat(running: Devnet, tmp_path: Path) -> None:
    hardhat = npm_binary("hardhat")
    require_node("hardhat", "@nomicfoundation/hardhat-ethers", "ethers")
    (tmp_path / "package.json").write_text('{"name": "app", "private": true}')
    (tmp_path / "node_modules").symlink_to(node_modules())
    for name in ("hardhat.config.js", "hardhat-send.js"):
        written(name, tmp_path, running, 5)
    quiet = {"HARDHAT_DISABLE_TELEMETRY_PROMPT": "true", "HOME": str(tmp_path)}
    assert (
        output(hardhat, "run", "--no-compile", "hardhat-send.js", folder=tmp_path, **quiet)[-3:] == ["1"] * 3
    )


def test_foundry(running: Devnet, tmp_path: Path) -> None:
    path = f"{Path(npm_binary('cast')).parent}{os.pathsep}{os.environ['PATH']}"
    file = written("foundry.sh", tmp_path, running, 6)
    *rounds, balance = output("sh", str(file), folder=tmp_path, PATH=path)
    assert rounds == ['"status":"0x1"'] * 3
    assert int(balance.split()[0]) >= 3 * ONE_ETHER


def test_every_snippet_is_run() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{name}"' in text for name in SNIPPETS if name != "foundry.toml")
    assert SNIPPETS
