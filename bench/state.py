"""Time of the state root after a window of changes, at several sizes of state.

    python bench/state.py              10 k and 100 k accounts
    python bench/state.py --million    and 1 M (2 minutes, 1 GiB)
    python bench/state.py --profile    where the time goes at 100 k

Every line gives the best of several runs, the aim for 500 changed accounts, and the ratio to an estimate
of the floor: the time that hashing the changed nodes alone takes with the same library. Aims: 10, 15 and
22 ms.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import resource
import time

from flashctl.eth.keccak import EMPTY_CODE_HASH, KECCAK_LIBRARY, keccak256
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World

AIMS_MS = {10_000: 10, 100_000: 15, 1_000_000: 22}
"""For 500 changed accounts."""


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


def changes(accounts: int, count: int, seed: int) -> StateDiff:
    chosen = random.Random(seed).sample(range(accounts), count)
    return StateDiff({address: Account(2, 10**19 + seed, EMPTY_CODE_HASH) for address in chosen})


def measure(world: World, accounts: int, count: int, runs: int) -> None:
    best = float("inf")
    nodes: list[bytes] = []
    for seed in range(runs):
        diff = changes(accounts, count, seed)
        start = time.perf_counter()
        after = world.apply(diff)
        best = min(best, time.perf_counter() - start)
        nodes = [raw for _, raw in after.new_nodes(world)]
    start = time.perf_counter()
    for raw in nodes:
        keccak256(raw)
    floor = time.perf_counter() - start
    aim = f"aim {AIMS_MS[accounts]} ms" if count == 500 else ""
    print(
        f"{accounts:>9,} accounts  {count:>5,} changed  {best * 1e3:7.1f} ms  {len(nodes):>6,} nodes  "
        f"{best / floor:4.1f}x hashing alone  {aim}"
    )


def profile(world: World, accounts: int) -> None:
    diffs = [changes(accounts, 500, seed) for seed in range(20)]
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
    print(f"keccak by {KECCAK_LIBRARY}")
    sizes = [10_000, 100_000] + [1_000_000] * arguments.million
    for accounts in sizes:
        start = time.perf_counter()
        world = build(accounts)
        print(f"{accounts:>9,} accounts  built in {time.perf_counter() - start:.1f} s")
        measure(world, accounts, 500, 20)
        measure(world, accounts, 5_000, 5)
        print(f"{'':>9}           peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
