"""Speed of whole blocks: a builder's window of token transfers, and real blocks replayed from their witness.

    python bench/block.py                 both
    python bench/block.py --window        1,500 ERC-20 transfers: execute, receipts, roots, message
    python bench/block.py --replay        the recorded OP blocks, cold and warm (needs ../shared/fixtures)
    python bench/block.py --profile       where the window's time goes

Window: what one core does between two flashblocks. Senders and FastLZ sizes are known and the checks that
need no state are made, as they are after admission to the pool; garbage is collected as rarely as in a
service. Aim: 1,500 transfers within 150 ms.

Replay: "first" loads state and contracts from the witness, "cold" has the state but has seen none of the
code, "warm" is the 104th execution: what code costs that a chain keeps running. Garbage is collected as in a
service here too. Aims: a median of 80 Mgas/s warm, cold at most three times as long.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from flashctl.builder.payload.block_work import BuiltFlashblock
from flashctl.builder.payload.publisher import flashblock_of
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.core.flashblocks.wire import encode
from flashctl.core.service.garbage_collection import GC_THRESHOLDS
from flashctl.eth.blocks import Header
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, check_transaction, encode_transaction
from flashctl.evm import code
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.execution import BlockContext, BlockExecution, SealedBlock
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes, l1_attributes_deposit

ROOT = Path(__file__).resolve().parent.parent
TOKEN = 0x70_000
WINDOW = 1_500
AIM_MS = 150
HOLDERS = 10_000
clock = time.process_time
"""CPU time of this process: what one core spends, whatever else the machine does."""

REPLAYS = code.DEFAULT_HOT_AFTER + 4
"""A place is compiled when it has been entered so many times, so that is when everything a block runs is
compiled, also what it runs once.
"""


def token_world(genesis: World, senders: list[bytes]) -> World:
    """The devnet's state with a token that 10,000 accounts hold; `senders` are among them and have ether."""
    artifact = json.loads((ROOT / "bench/contracts/Token.json").read_text())
    token = bytes.fromhex(artifact["deployedBytecode"].removeprefix("0x"))
    holders = [*senders, *((index + 1).to_bytes(20, "big") for index in range(HOLDERS - len(senders)))]
    balances = {
        int.from_bytes(keccak256(holder.rjust(32, b"\0") + bytes(32)), "big"): 10**24 for holder in holders
    }
    accounts = {int.from_bytes(sender, "big"): Account(0, 10**20, keccak256(b"")) for sender in senders}
    accounts[TOKEN] = Account(1, 0, keccak256(token))
    return genesis.apply(StateDiff(accounts, {TOKEN: balances}, {keccak256(token): token}))


def token_transfer(config: ChainConfig, secret: bytes, nonce: int, to: bytes) -> TxEnvelope:
    data = bytes.fromhex("a9059cbb") + to.rjust(32, b"\0") + (10**18).to_bytes(32, "big")
    unsigned = FeeMarketTx(
        chain_id=config.chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=10**6,
        max_fee_per_gas=10**10,
        gas_limit=80_000,
        to=TOKEN.to_bytes(20, "big"),
        value=0,
        data=data,
        access_list=(),
        y_parity=0,
        r=0,
        s=0,
    )
    envelope = TxEnvelope.decode(encode_transaction(sign_transaction(unsigned, secret)))
    assert envelope.fastlz_size > 0  # known since admission, and so is that the transaction is well-formed
    check_transaction(envelope.tx, config.chain_id)
    envelope.checked_for = config.chain_id
    return envelope


class Window:
    """A block under construction on the devnet, and the transfers that the next flashblock will hold."""

    def __init__(self, size: int, windows: int) -> None:
        genesis = build_genesis(devnet_genesis(timestamp=1_800_000_000, gas_limit=10**9))
        self.config: ChainConfig = genesis.config
        self.parent: Header = genesis.block.header
        secrets = [index.to_bytes(32, "big") for index in range(1, size + 1)]
        addresses = [address_of_secret(secret) for secret in secrets]
        self.world = token_world(genesis.world, addresses)
        source = random.Random(1500)
        self.windows = [
            [token_transfer(self.config, secret, nonce, source.choice(addresses)) for secret in secrets]
            for nonce in range(windows)
        ]

    def open(self) -> BlockExecution:
        attributes = PayloadAttributes(
            timestamp=self.parent.timestamp + 2,
            prev_randao=bytes(32),
            fee_recipient=bytes.fromhex("4200000000000000000000000000000000000011"),
            gas_limit=10**9,
            parent_beacon_block_root=bytes(32),
            eip1559_params=bytes(8),
            min_base_fee=0,
        )
        context = BlockContext.from_attributes(self.config, self.parent, attributes)
        execution = BlockExecution(self.config, self.parent, context, self.world, lambda number: bytes(32))
        l1 = L1Attributes(1, 1_800_000_000, 10**9, bytes(32), 0, bytes(20), base_fee_scalar=1368)
        deposit = l1_attributes_deposit(l1, OpFork.JOVIAN)
        execution.execute(TxEnvelope(encode_transaction(deposit), deposit, deposit.sender))
        execution.seal()
        return execution


def run_window(
    execution: BlockExecution, envelopes: list[TxEnvelope]
) -> tuple[float, float, float, SealedBlock]:
    """Seconds for execution with receipts, for the roots, for the message."""
    start = clock()
    for envelope in envelopes:
        execution.execute(envelope)
    executed = clock()
    sealed = execution.seal()
    rooted = clock()
    made = BuiltFlashblock(bytes(8), 1, sealed, tuple(envelopes), sealed.diff.accounts)
    encode(flashblock_of(made))
    return executed - start, rooted - executed, clock() - rooted, sealed


def measure_window(size: int, profiled: bool) -> None:
    window = Window(size, 8)
    execution = window.open()
    for envelopes in window.windows[:3]:
        run_window(execution, envelopes)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    profiler = cProfile.Profile()
    best: tuple[float, float, float] = (float("inf"), 0.0, 0.0)
    for envelopes in window.windows[3:]:
        if profiled:
            profiler.enable()
        executed, rooted, encoded, sealed = run_window(execution, envelopes)
        profiler.disable()
        assert all(result.receipt.succeeded for result in sealed.results)
        best = min(best, (executed, rooted, encoded), key=sum)
    total = sum(best)
    gas = sum(result.gas_used for result in sealed.results[-size:])
    print(
        f"window of {size:,} transfers: execute {best[0] * 1e3:.1f} + roots {best[1] * 1e3:.1f} + message "
        f"{best[2] * 1e3:.1f} = {total * 1e3:.1f} ms   {size / total:,.0f} transfers/s   "
        f"{gas / total / 1e6:.0f} Mgas/s   {size * 0.150 / total:,.0f} in {AIM_MS} ms (aim {WINDOW:,})"
    )
    if profiled:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)


def replay(name: str) -> tuple[float, float, float, int]:
    """Seconds for the first, a code-cold and a warm execution of a recorded block, and its gas."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support import op_blocks

    recorded = op_blocks.load(name)
    world = recorded.world()
    recover_all(recorded.block.transactions)  # loads libsecp256k1, which is no property of the block

    def run() -> float:
        start = clock()
        context = BlockContext.from_header(recorded.block.header)
        execution = BlockExecution(recorded.config, recorded.parent, context, world, recorded.ancestor_hash)
        for envelope in recover_all(recorded.block.transactions):
            execution.execute(envelope)
        sealed = execution.seal()
        assert sealed.hash == recorded.block.hash
        return clock() - start

    first = run()
    code._shared.clear()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    times = [run() for _ in range(REPLAYS)]
    return first, times[0], min(times[-3:]), recorded.block.header.gas_used


def measure_replay() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support import op_blocks

    rates: list[float] = []
    ratios: list[float] = []
    for name in op_blocks.names():
        # A process of its own, so that no block profits from what another compiled.
        command = [sys.executable, __file__, "--one", name]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        first, cold, warm, gas = map(float, line.split())
        rates.append(gas / warm / 1e6)
        ratios.append(cold / warm)
        print(
            f"{name:24} {gas / 1e6:6.2f} Mgas   first {first * 1e3:7.1f} ms   cold {cold * 1e3:7.1f} ms   "
            f"warm {warm * 1e3:7.1f} ms {gas / warm / 1e6:6.1f} Mgas/s   cold/warm {cold / warm:4.1f}"
        )
    print(
        f"median: {statistics.median(rates):.1f} Mgas/s warm (aim 80), "
        f"cold takes {statistics.median(ratios):.1f} times as long (aim 3)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--window", action="store_true", help="only the window of transfers")
    parser.add_argument("--replay", action="store_true", help="only the recorded blocks")
    parser.add_argument("--profile", action="store_true", help="profile the window")
    parser.add_argument("--size", type=int, default=WINDOW, help="transfers in the window")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*replay(options.one))
        return
    if not options.replay:
        measure_window(options.size, options.profile)
    if not (options.window or options.profile):
        measure_replay()


if __name__ == "__main__":
    main()
