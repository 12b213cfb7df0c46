"""Time of the state root after a window of changes, at several sizes of state, beside peers.

    python bench/state.py              10 k and 100 k accounts
    python bench/state.py --million    and 1 M (2 minutes, 650 MiB)
    python bench/state.py --profile    where the time goes at 100 k

Three cases: 500 changed accounts, 5,000, and 500 with 1,000 words of a token's 10,000. Times are of the
processor, so that other work on the machine counts less; the aims of 10, 15 and 22 ms are for the best run
of 500. Two peers make the same change, where they are installed: `trie.HexaryTrie` of the Ethereum
Foundation (`pip install trie`), in turns with us and up to 100 k accounts; and EELS, whose python
FLASHCTL_EELS_PYTHON names, at 10 k, where its root has to be ours. Beside them stands the floor, hashing the
changed nodes with the same library and doing nothing else.

The accounts are frozen out of the garbage collector, as a node does with the state that it starts from.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from flashctl.eth.keccak import EMPTY_CODE_HASH, KECCAK_LIBRARY, keccak256
from flashctl.eth.trie import EMPTY_ROOT
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World, encode_account

AIMS_MS = {10_000: 10, 100_000: 15, 1_000_000: 22}
"""For 500 changed accounts."""

TOKEN = 1 << 40
HOLDERS = 10_000
PEER_LIMIT = 100_000
"""Accounts up to which py-trie is built: more would take it minutes."""

EELS_LIMIT = 10_000
"""The same for EELS, which needs a second for a root at this size."""


def build(accounts: int) -> World:
    world = World.empty()
    # In pieces, so that the changes of a million accounts are not held at once.
    for start in range(0, accounts, 50_000):
        stop = min(accounts, start + 50_000)
        diff = StateDiff(
            {address: Account(1, 10**18 + address, EMPTY_CODE_HASH) for address in range(start, stop)}
        )
        world = world.apply(diff)
    return world


def with_token(world: World) -> World:
    holders = {slot: 10**18 + slot for slot in range(HOLDERS)}
    return world.apply(StateDiff({TOKEN: Account(1, 0, EMPTY_CODE_HASH)}, {TOKEN: holders}))


def changes(accounts: int, count: int, words: int, seed: int) -> StateDiff:
    source = random.Random(seed)
    chosen = source.sample(range(accounts), count)
    diff = StateDiff({address: Account(2, 10**19 + seed, EMPTY_CODE_HASH) for address in chosen})
    if words:
        diff.storage[TOKEN] = dict.fromkeys(source.sample(range(HOLDERS), words), 10**19 + seed)
    return diff


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


class Peer:
    """py-trie, which writes nodes to a dictionary; None of it is built where it is not installed."""

    def __init__(self, accounts: int) -> None:
        from trie import HexaryTrie

        self._trie = HexaryTrie({}, prune=False)
        self.apply(StateDiff({a: Account(1, 10**18 + a, EMPTY_CODE_HASH) for a in range(accounts)}))

    def apply(self, diff: StateDiff) -> bytes:
        with self._trie.squash_changes() as batch:
            for address, account in diff.accounts.items():
                if account is not None:
                    key = keccak256(address.to_bytes(20, "big"))
                    batch[key] = encode_account(account, EMPTY_ROOT)
        root: bytes = self._trie.root_hash
        return root


def peer_of(accounts: int) -> Peer | None:
    if accounts > PEER_LIMIT:
        return None
    try:
        return Peer(accounts)
    except ImportError:
        return None


def measure(world: World, accounts: int, count: int, words: int, runs: int, peer: Peer | None) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    nodes: list[bytes] = []
    for seed in range(runs):
        diff = changes(accounts, count, words, seed)
        ours.append(seconds(lambda diff=diff: world.apply(diff)))
        nodes = [raw for _, raw in world.apply(diff).new_nodes(world)]
        if peer is not None and not words and seed < 5:
            theirs.append(seconds(lambda diff=diff: peer.apply(diff)))
    floor = min(seconds(lambda: [keccak256(raw) for raw in nodes]) for _ in range(5))
    aim = f"aim {AIMS_MS[accounts]} ms" if count == 500 and not words else ""
    line = f"{accounts:>9,} accounts  {count:>5,} changed"
    line += f" + {words:,} words" if words else " " * 14
    line += f"  best {min(ours) * 1e3:6.1f}  median {statistics.median(ours) * 1e3:6.1f} ms  "
    line += f"{len(nodes):>6,} nodes  {min(ours) / floor:3.1f}x hashing  "
    if theirs:
        line += f"py-trie {statistics.median(theirs) / statistics.median(ours):4.1f}x as long  "
    print(line + aim, flush=True)


def measure_eels(accounts: int) -> None:
    """Time EELS at 500 changed accounts, and compare its root with ours after the same changes."""
    python = os.environ.get("FLASHCTL_EELS_PYTHON")
    if not python or accounts > EELS_LIMIT:
        return
    diffs = [changes(accounts, 500, 0, seed) for seed in range(3)]
    rounds = [
        [(address, account.nonce, account.balance) for address, account in diff.accounts.items() if account]
        for diff in diffs
    ]
    command = [python, str(Path(__file__).with_name("state_eels.py"))]
    request = json.dumps({"accounts": accounts, "rounds": rounds})
    answer = json.loads(
        subprocess.run(command, input=request, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    world = build(accounts)
    for diff in diffs:
        world = world.apply(diff)
    assert world.root.hex() == answer["root"]
    print(
        f"{accounts:>9,} accounts    500 changed                EELS  median "
        f"{statistics.median(answer['seconds']) * 1e3:6.0f} ms, and its root is ours"
    )


def profile(world: World, accounts: int) -> None:
    diffs = [changes(accounts, 500, 0, seed) for seed in range(20)]
    profiler = cProfile.Profile()
    profiler.enable()
    for diff in diffs:
        world.apply(diff)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--million", action="store_true", help="also at 1 M accounts")
    parser.add_argument(
        "--profile", action="store_true", help="profile 500 changes at 100 k accounts and end"
    )
    arguments = parser.parse_args()
    if arguments.profile:
        profile(build(100_000), 100_000)
        return
    short = bytes(100)
    rate = 10_000 / min(seconds(lambda: [keccak256(short) for _ in range(10_000)]) for _ in range(5))
    print(f"keccak by {KECCAK_LIBRARY}, {rate / 1e6:.2f} M short inputs a second on this machine now")
    for accounts in [10_000, 100_000] + [1_000_000] * arguments.million:
        start = time.perf_counter()
        world = with_token(build(accounts))
        print(f"{accounts:>9,} accounts  built in {time.perf_counter() - start:.1f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        peer = peer_of(accounts)
        gc.collect()
        gc.freeze()
        measure(world, accounts, 500, 0, 20, peer)
        measure(world, accounts, 500, 1_000, 20, None)
        measure(world, accounts, 5_000, 0, 5, peer)
        measure_eels(accounts)
        print(f"{'':>9}           {peak} MiB at its peak")


if __name__ == "__main__":
    main()
