"""The node as unmodified clients see it: `cast` and viem over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from support.devnet_chain import address, contract, encode_call, mine, open_devnet, sign
from support.npm import node_modules, npm_binary, require_node
from support.rpc_lab import ListPool

from flashctl.chain.chain import Chain
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.eth_api import EthApi
from flashctl.ethrpc.rpc_json import created_address

PROBE = contract("Probe")


async def automine(chain: Chain, pool: ListPool) -> None:
    """Put whatever waits into a block, as soon as something does."""
    arrived = asyncio.Event()
    pool.subscribe(lambda _: arrived.set())
    while True:
        await arrived.wait()
        arrived.clear()
        raws = [envelope.raw for envelope in pool.waiting.values()]
        pool.waiting.clear()
        if raws:
            mine(chain, raws)


def with_node(test: Callable[[RunningServer, Chain], Awaitable[None]]) -> None:
    """Run a test beside a served node that makes blocks of what it is sent."""

    async def body() -> None:
        chain, pool, methods = open_devnet(), ListPool(), Methods()
        EthApi(chain, pool).register(methods)
        server = await serve(methods, "127.0.0.1", 0)
        miner = asyncio.create_task(automine(chain, pool))
        try:
            await test(server, chain)
        finally:
            miner.cancel()
            await server.close()

    asyncio.run(body())


async def run(*command: str, fails: bool = False) -> str:
    """The output of a command; its error output if it is to fail (npm's wrapper of cast exits 0 anyway)."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(100):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert fails or process.returncode == 0, (command, out, err)
    return (err if fails else out).decode().strip()


def test_cast() -> None:
    program = npm_binary("cast")

    async def test(server: RunningServer, chain: Chain) -> None:
        async def cast(*arguments: str, fails: bool = False) -> str:
            # Options first: what follows `--create` is the constructor's.
            command, *rest = arguments
            return await run(program, command, "--rpc-url", server.url, *rest, fails=fails)

        async def send(*arguments: str) -> Any:
            secret = to_hex(DEVNET_ACCOUNTS[0].secret)
            return json.loads(await cast("send", "--private-key", secret, "--json", *arguments))

        to = to_hex(address(1))
        assert await cast("chain-id") == "901"
        assert (await send(to, "--value", "1ether"))["status"] == "0x1"
        assert await cast("balance", to) == str(10_001 * 10**18)
        deployed = await send("--create", to_hex(PROBE.creation_code))
        probe = deployed["contractAddress"]
        receipt = await send(probe, "increment()")
        assert len(receipt["logs"]) == 1
        assert await cast("call", probe, "count()(uint256)") == "1"
        assert await cast("receipt", receipt["transactionHash"], "status") == "true"
        assert (await cast("tx", receipt["transactionHash"], "to")).lower() == probe.lower()
        assert await cast("block-number") == str(chain.head.number)
        assert await cast("block", "latest", "--field", "hash") == to_hex(chain.head.hash)
        assert int(await cast("storage", probe, "0"), 16) == 1
        assert (await cast("code", probe)) == to_hex(PROBE.code)
        assert await cast("nonce", to_hex(address(0))) == "3"
        assert int(await cast("gas-price")) > 10**6
        assert int(await cast("estimate", probe, "increment()")) > 21_000
        assert probe.lower() in (await cast("logs", "--address", probe, "--from-block", "0")).lower()
        options = '{"tracer":"callTracer"}'
        traced = json.loads(await cast("rpc", "debug_traceTransaction", receipt["transactionHash"], options))
        assert (traced["to"], traced["gasUsed"]) == (probe, receipt["gasUsed"])
        proof = json.loads(await cast("proof", probe, "0"))
        assert proof["storageProof"][0]["value"] == "0x1"
        assert "execution reverted" in await cast("call", probe, "refuse(uint256)", "7", fails=True)

    with_node(test)


VIEM = """
import { createRequire } from "node:module";
const require = createRequire(MODULES + "/resolve-from-here.js");
const { createPublicClient, createWalletClient, http, webSocket, parseAbi } = require("viem");
const { privateKeyToAccount } = require("viem/accounts");
const [, , url, socket, key, probe, calldata] = process.argv;
const chain = {
  id: 901, name: "devnet", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [url] } },
  contracts: { multicall3: { address: "0xca11bde05977b3631167028862be2a173976ca11" } },
};
const account = privateKeyToAccount(key);
// viem gives up after ten seconds, which a busy machine may need.
const patient = http(url, { timeout: 90_000 });
const client = createPublicClient({ chain, transport: patient });
const wallet = createWalletClient({ chain, account, transport: patient });
const live = createPublicClient({ chain, transport: webSocket(socket) });
const blocks = [];
const unwatch = live.watchBlocks({ onBlock: (block) => blocks.push(block.number.toString()) });
const hash = await wallet.sendTransaction({ to: probe, data: calldata });
const receipt = await client.waitForTransactionReceipt({ hash, pollingInterval: 50 });
const abi = parseAbi(["function count() view returns (uint256)"]);
const question = { address: probe, abi, functionName: "count" };
const many = await client.multicall({ contracts: [question, question], allowFailure: false });
const block = await client.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true });
const fees = await client.estimateFeesPerGas();
const logs = await client.getLogs({ fromBlock: 0n, toBlock: "latest" });
// When the subscription begins is not told: blocks are made until one arrives.
while (blocks.length === 0) {
  await wallet.sendTransaction({ to: account.address });
  await new Promise((resolve) => setTimeout(resolve, 100));
}
unwatch();
console.log(JSON.stringify({
  status: receipt.status, counts: many.map(String), types: block.transactions.map((tx) => tx.type),
  logs: logs.length, fees: fees.maxFeePerGas > 0n, blocks: blocks.length,
}));
process.exit(0);
"""


def test_viem() -> None:
    node = require_node("viem")

    async def test(server: RunningServer, chain: Chain) -> None:
        deployed = mine(chain, [sign(1, 0, data=PROBE.creation_code, gas=2_000_000)])
        probe = created_address(deployed.envelopes[1], deployed.receipts[1])
        assert probe is not None
        shown = json.loads(
            await run(
                node,
                "--input-type=module",
                "-e",
                VIEM.replace("MODULES", json.dumps(str(node_modules().parent))),
                "--",
                "viem",
                server.url,
                server.websocket_url,
                to_hex(DEVNET_ACCOUNTS[0].secret),
                to_hex(probe),
                to_hex(encode_call(PROBE, "increment()")),
            )
        )
        assert shown["status"] == "success"
        assert shown["counts"] == ["1", "1"]
        assert shown["types"][1] == "eip1559"
        assert shown["logs"] == 1
        assert shown["blocks"] >= 1
        assert shown["fees"]

    with_node(test)
