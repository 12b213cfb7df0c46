"""Tools that know nothing of preconfirmations, as they are: on the devnet's port where `latest` is the
preconfirmed block, and on the one that shows nothing before it is sealed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.devnet import Devnet, rpc
from support.npm import node_modules, npm_binary, require_node

HERE = Path(__file__).parent
PROBE = HERE.parent / "contracts" / "Probe.json"
PORTS = ("rpc", "rpc_sealed")
ONE_ETHER = 10**18
STRANGER = "0x00000000000000000000000000000000000{:05x}"
TIMEOUT_S = 240

COUNTER = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;
contract Counter {
    uint256 public number;
    constructor(uint256 first) { number = first; }
    function increment() external { number += 1; }
}
"""

SCRIPT = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;
import {Counter} from "../src/Counter.sol";
interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
    function envAddress(string calldata) external returns (address);
}
contract Use {
    Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    function run() external {
        Counter counter = Counter(vm.envAddress("COUNTER"));
        uint256 before = counter.number();
        vm.startBroadcast();
        Counter another = new Counter(before);
        counter.increment();
        another.increment();
        vm.stopBroadcast();
        require(counter.number() == before + 1 && another.number() == before + 1);
    }
}
"""

SOLC = """#!/usr/bin/env node
// solc's npm package, called as the native compiler is.
const { createRequire } = require('node:module')
const solc = createRequire(process.env.FLASHCTL_NODE_MODULES + '/')('solc')
if (process.argv.includes('--version')) console.log(`solc\\nVersion: ${solc.version()}`)
else process.stdout.write(solc.compile(require('node:fs').readFileSync(0, 'utf8')))
"""


def ran(*command: str, cwd: Path | None = None, **variables: str) -> str:
    """What a tool prints, if it is content."""
    environment = {**os.environ, "FLASHCTL_NODE_MODULES": str(node_modules()), **variables}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, cwd=cwd
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def last_line(text: str) -> Any:
    return json.loads(text.splitlines()[-1])


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("provider", ["json", "browser"])
def test_ethers(running: Devnet, port: str, provider: str) -> None:
    _, key = running.fresh_account()
    node = require_node("ethers")
    told = ran(node, str(HERE / "stock_ethers.mjs"), running.url(port), key, str(PROBE), provider)
    assert last_line(told) == {"count": 4}


@pytest.mark.parametrize("port", PORTS)
def test_viem(running: Devnet, port: str) -> None:
    _, key = running.fresh_account()
    chain = str(running.ready["chain_id"])
    told = ran(require_node("viem"), str(HERE / "stock_viem.mjs"), running.url(port), chain, key, str(PROBE))
    assert last_line(told) == {"count": 4}


@pytest.mark.parametrize("port", PORTS)
def test_cast(running: Devnet, port: str) -> None:
    """cast signs with the latest nonce, as soon as it has a receipt."""
    index = 4 + PORTS.index(port)
    sender, key = running.fresh_account()
    cast, url = npm_binary("cast"), running.url(port)
    code = json.loads(PROBE.read_text())["bytecode"]
    to = STRANGER.format(index)

    def send(*arguments: str, status: str = "0x1") -> Any:
        told = ran(cast, "send", "--rpc-url", url, "--private-key", key, "--json", *arguments)
        assert json.loads(told)["status"] == status
        return json.loads(told)

    probe = send("--create", code)["contractAddress"]
    for round_ in range(1, 4):
        receipt = send(probe, "increment()")
        assert ran(cast, "call", "--rpc-url", url, probe, "count()(uint256)").strip() == str(round_)
        send("--value", "1ether", to)
        assert int(ran(cast, "balance", "--rpc-url", url, to)) == round_ * ONE_ETHER
        assert rpc(url, "eth_getBlockByNumber", receipt["blockNumber"], False) is not None
    head = rpc(url, "eth_blockNumber")
    assert int(head, 16) >= int(receipt["blockNumber"], 16)
    counts = {rpc(url, "eth_getTransactionCount", sender, *at) for at in ([], ["latest"], [head])}
    assert counts == {"0x7"}
    refused = send(probe, "refuse(uint256)", "7", "--gas-limit", "200000", status="0x0")
    call = {"from": sender, "to": probe, "data": "0x" + _selector("refuse(uint256)") + f"{7:064x}"}
    with pytest.raises(AssertionError, match="revert"):
        rpc(url, "eth_call", call, refused["blockNumber"])


@pytest.mark.parametrize("port", PORTS)
def test_forge(running: Devnet, port: str, tmp_path: Path) -> None:
    """forge create, then forge script on what it made, twice, back to back."""
    forge = npm_binary("forge")
    require_node("solc")
    _, key = running.fresh_account()
    for name, text in {
        "foundry.toml": '[profile.default]\nlibs = []\nsolc = "./solc"\n',
        "src/Counter.sol": COUNTER,
        "script/Use.s.sol": SCRIPT,
        "solc": SOLC,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "solc").chmod(0o755)
    sending = ("--broadcast", "--rpc-url", running.url(port), "--private-key", key)
    made = ran(
        forge,
        "create",
        "src/Counter.sol:Counter",
        *sending,
        "--json",
        "--constructor-args",
        "7",
        cwd=tmp_path,
    )
    counter = json.loads(made[made.index("{") :])["deployedTo"]
    for _ in range(2):
        told = ran(forge, "script", "script/Use.s.sol:Use", *sending, cwd=tmp_path, COUNTER=counter)
        assert "ONCHAIN EXECUTION COMPLETE & SUCCESSFUL" in told
    number = rpc(running.url(port), "eth_getStorageAt", counter, "0x0", "latest")
    assert int(number, 16) == 9


@pytest.mark.parametrize("port", PORTS)
def test_hardhat(running: Devnet, port: str, tmp_path: Path) -> None:
    hardhat = npm_binary("hardhat")
    require_node("hardhat", "@nomicfoundation/hardhat-ethers", "ethers")
    _, key = running.fresh_account()
    settings = {
        "defaultNetwork": "devnet",
        "networks": {"devnet": {"url": running.url(port), "accounts": [key]}},
        "solidity": "0.8.20",
    }
    (tmp_path / "package.json").write_text('{"name": "stock", "private": true}')
    (tmp_path / "node_modules").symlink_to(node_modules())
    (tmp_path / "hardhat.config.js").write_text(
        f"require('@nomicfoundation/hardhat-ethers')\nmodule.exports = {json.dumps(settings)}\n"
    )
    (tmp_path / "use.js").write_text((HERE / "stock_hardhat.cjs").read_text())
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "use.js").write_text((HERE / "stock_hardhat_test.cjs").read_text())
    variables = {
        "PROBE_JSON": str(PROBE), "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true", "HOME": str(tmp_path),
    }  # fmt: skip
    devnet = ("--no-compile", "--network", "devnet")
    told = ran(hardhat, "run", *devnet, "use.js", cwd=tmp_path, **variables)
    assert last_line(told) == {"done": True}
    assert "3 passing" in ran(hardhat, "test", *devnet, cwd=tmp_path, **variables)


def _selector(signature: str) -> str:
    selector: str = json.loads(PROBE.read_text())["selectors"][signature]
    return selector
