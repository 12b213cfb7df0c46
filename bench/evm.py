"""Speed of the EVM: token transfers, an exchange, loops, cold contracts; and other EVMs at the same work.

    python bench/evm.py                              flashctl alone
    python bench/evm.py --peer /path/to/python ...   and every peer that those environments can import
    python bench/evm.py --profile                    where a token transfer's time goes

Peers (EELS `ethereum-execution`, py-evm, pyrevm) pin libraries that exclude each other, so each may live in
an environment of its own; `evm_peers.py` runs there on the same accounts and messages. Times are process
times, the best of several rounds. Aims: 45,000 ERC-20 calls a second on one core, a cold contract under 3
ms, 250 times EELS.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flashctl.eth.keccak import KECCAK_LIBRARY, keccak256
from flashctl.evm.code import CodeCache
from flashctl.evm.forks import PRAGUE
from flashctl.evm.machine import compiler_policy, default_policy, execute_message, interpreter_policy
from flashctl.evm.message import BlockEnv, Message, TxEnv
from flashctl.evm.precompiles import tables
from flashctl.evm.state import EMPTY_ACCOUNT, EmptyReader, JournaledState
from flashctl.evm.transaction import TxParams, run_transaction

FOLDER = Path(__file__).resolve().parent
RULES = PRAGUE.with_precompiles(tables.PRAGUE)
BLOCK = BlockEnv(1, 1_700_000_000, 10**9, 0, 0xC0, 0, 10)
TOKEN0, TOKEN1, PAIR, LOOPS = 0x70_001, 0x70_002, 0x70_003, 0x70_004
USERS = [int.from_bytes(keccak256(b"user %d" % index)[12:], "big") for index in range(200)]
ROUNDS = 7
CALL_GAS = 200_000
LOOP_GAS = 10**9


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Scene:
    """A state with the bench's contracts, and accounts that all hold tokens."""

    def __init__(self, codes: CodeCache | None = None) -> None:
        self.codes = CodeCache(RULES.instructions, default_policy()) if codes is None else codes
        self.state = JournaledState(EmptyReader())
        self.selectors: dict[str, bytes] = {}
        self.artifacts = {name: json.loads((FOLDER / f"contracts/{name}.json").read_text()) for name in NAMES}
        self.state.begin_transaction()
        for user in USERS:
            self.state.put_account(user, EMPTY_ACCOUNT._replace(balance=10**24))
        for address, name in ((TOKEN0, "Token"), (TOKEN1, "Token"), (PAIR, "Pair"), (LOOPS, "Loops")):
            self.put(address, name)
        self.state.finish_transaction()
        for token in (TOKEN0, TOKEN1):
            for user in (*USERS, PAIR):
                self.call(USERS[0], token, self.data("mint(address,uint256)", user, 10**20))
            for user in USERS:
                self.call(user, token, self.data("approve(address,uint256)", PAIR, 2**255))
        self.call(USERS[0], PAIR, self.data("initialize(address,address)", TOKEN0, TOKEN1))
        self.call(USERS[0], PAIR, self.data("sync()"))

    def put(self, address: int, name: str, tail: bytes = b"") -> None:
        artifact = self.artifacts[name]
        self.state.set_code(address, bytes.fromhex(artifact["deployedBytecode"][2:]) + tail)
        self.selectors |= {key: bytes.fromhex(value) for key, value in artifact["selectors"].items()}

    def data(self, signature: str, *arguments: int) -> bytes:
        return self.selectors[signature] + b"".join(word(argument) for argument in arguments)

    def call(self, caller: int, to: int, data: bytes, gas: int = CALL_GAS) -> int:
        """One message in a transaction of its own; returns the gas it used."""
        state = self.state
        state.begin_transaction()
        message = Message(caller, to, 0, data, gas)
        result = execute_message(state, BLOCK, TxEnv(caller), RULES, message, codes=self.codes)
        assert result.succeeded, result
        state.finish_transaction()
        return gas - result.gas_left

    def transact(self, sender: int, to: int, data: bytes) -> int:
        """A whole transaction without fees; returns the gas it used."""
        state = self.state
        state.begin_transaction()
        params = TxParams(sender, to, 0, data, CALL_GAS)
        outcome = run_transaction(state, BLOCK, RULES, params, codes=self.codes)
        assert outcome.succeeded, outcome
        state.finish_transaction()
        return outcome.gas_used

    def dump(self) -> dict[str, Any]:
        """All accounts, for a peer."""
        diff = self.state.changes()
        return {
            hex(address): {
                "nonce": account.nonce,
                "balance": account.balance,
                "code": self.state.code(account.code_hash).hex(),
                "storage": {hex(slot): hex(value) for slot, value in diff.storage.get(address, {}).items()},
            }
            for address, account in diff.accounts.items()
            if account is not None
        }


NAMES = ("Token", "Pair", "Loops")


def workloads(scene: Scene) -> dict[str, list[tuple[int, int, bytes, int]]]:
    """Messages as (caller, to, data, gas), by the name of the workload."""
    count = len(USERS)
    transfer, swap = "transfer(address,uint256)", "swap(uint256,uint256,bool,address)"
    return {
        "erc20": [
            (USERS[i], TOKEN0, scene.data(transfer, USERS[(7 * i + 1) % count], 5), CALL_GAS)
            for i in range(count)
        ],
        "swap": [
            (USERS[i], PAIR, scene.data(swap, 1000 + i, 0, i & 1, USERS[i]), CALL_GAS) for i in range(count)
        ],
        "hashing": [(USERS[0], LOOPS, scene.data("hash(uint256)", 2000), LOOP_GAS)],
        "compute": [(USERS[0], LOOPS, scene.data("compute(uint256)", 5000), LOOP_GAS)],
        "sorting": [(USERS[0], LOOPS, scene.data("sort(uint256)", 100), LOOP_GAS)],
    }


def best_of(rounds: int, run: Callable[[], int]) -> tuple[float, int]:
    """The least process time of a run, and what it returned."""
    best, gas = float("inf"), 0
    for _ in range(rounds):
        start = time.process_time()
        gas = run()
        best = min(best, time.process_time() - start)
    return best, gas


def measure(scene: Scene) -> dict[str, float]:
    """Calls per second of every workload on one scene, printed."""
    rates: dict[str, float] = {}
    for name, messages in workloads(scene).items():
        for _ in range(3):  # hot places are compiled before the clock starts
            for message in messages:
                scene.call(*message)
        seconds, gas = best_of(ROUNDS, lambda messages=messages: sum(scene.call(*m) for m in messages))  # type: ignore[misc]
        rates[name] = len(messages) / seconds
        print(f"  {name:10} {rates[name]:10,.0f} calls/s  {gas / seconds / 1e6:8.1f} Mgas/s")
    return rates


def measure_cold(count: int = 60) -> float:
    """Milliseconds for the first call of a contract that has not run before."""
    scene = Scene()
    calls = []
    for index in range(count):
        address = 0x80_000 + index
        scene.state.begin_transaction()
        scene.put(address, "Token", tail=b"\xfe" + word(index))
        scene.state.finish_transaction()
        calls.append((USERS[0], address, scene.data("mint(address,uint256)", USERS[0], 5)))
    start = time.process_time()
    for call in calls:
        scene.call(*call)
    return (time.process_time() - start) / count * 1e3


def peer_rates(python: str, request: str) -> dict[str, dict[str, float]]:
    """Calls per second by peer and workload, of the peers one environment has."""
    command = [python, str(FOLDER / "evm_peers.py")]
    done = subprocess.run(command, input=request, capture_output=True, text=True)
    if done.returncode:
        print(f"  {python}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def measure_peers(pythons: list[str], scene: Scene, own: dict[str, float]) -> None:
    request = json.dumps(
        {
            "accounts": scene.dump(),
            "workloads": {
                name: [(hex(caller), hex(to), data.hex(), gas) for caller, to, data, gas in messages]
                for name, messages in workloads(scene).items()
            },
        }
    )
    for python in pythons:
        for peer, rates in peer_rates(python, request).items():
            print(peer)
            for name, rate in rates.items():
                print(f"  {name:10} {rate:10,.1f} calls/s  flashctl is {own[name] / rate:8.1f} times as fast")


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument(
        "--peer", nargs="*", default=[], metavar="PYTHON", help="environments with other EVMs"
    )
    parser.add_argument("--profile", action="store_true", help="profile 2,000 token transfers and stop")
    options = parser.parse_args()
    scene = Scene()
    if options.profile:
        messages = workloads(scene)["erc20"] * 10
        with cProfile.Profile() as profile:
            for caller, to, data, _ in messages:
                scene.transact(caller, to, data)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    print(f"flashctl, interpreter only ({KECCAK_LIBRARY})")
    measure(Scene(CodeCache(RULES.instructions, interpreter_policy())))
    print("flashctl, compiled at first sight")
    measure(Scene(CodeCache(RULES.instructions, compiler_policy())))
    print("flashctl, as it runs")
    rates = measure(scene)
    erc20 = workloads(scene)["erc20"]
    seconds, _ = best_of(ROUNDS, lambda: sum(scene.transact(*message[:3]) for message in erc20))
    print(f"  {'erc20 tx':10} {len(erc20) / seconds:10,.0f} transactions/s, fees apart")
    print(f"  cold       {measure_cold():10.2f} ms for the first call of a contract never seen (aim 3)")
    measure_peers(options.peer, scene, rates)


if __name__ == "__main__":
    main()
