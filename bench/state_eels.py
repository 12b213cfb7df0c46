"""The state root of EELS at the work of bench/state.py. Runs in an environment that has `ethereum-execution`.

Reads the number of accounts and the rounds of changes from stdin, as JSON; prints the seconds of each round
and the root after the last. A round sets its accounts and asks for the root, which EELS computes anew over
the whole state each time: it is written to be read.
"""

from __future__ import annotations

import json
import sys
import time

from ethereum.forks.prague import state as states
from ethereum.forks.prague.fork_types import Account, Address
from ethereum_types.numeric import U256, Uint


def set_account(state: states.State, address: int, nonce: int, balance: int) -> None:
    account = Account(Uint(nonce), U256(balance), b"")
    states.set_account(state, Address(address.to_bytes(20, "big")), account)


def main() -> None:
    request = json.load(sys.stdin)
    state = states.State()
    for address in range(request["accounts"]):
        set_account(state, address, 1, 10**18 + address)
    seconds: list[float] = []
    root = b""
    for changed in request["rounds"]:
        start = time.process_time()
        for address, nonce, balance in changed:
            set_account(state, address, nonce, balance)
        root = states.state_root(state)
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": seconds, "root": root.hex()}))


if __name__ == "__main__":
    main()
