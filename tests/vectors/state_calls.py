"""Programs for state tests: calls, creation, deletion, and what a transaction itself may be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from support.assembler import assemble
from vectors.state_worlds import (
    ABSENT,
    CHAIN_ID,
    CODED,
    COINBASE,
    CONTRACT,
    DELEGATED,
    FAILER,
    HELPER,
    HEX,
    OTHER,
    REVERTER,
    SENDER,
    SUICIDE,
    Named,
    account,
    address,
    call,
    case,
    keep,
    prague,
)

__all__ = ["access_lists", "calls", "collisions", "creates", "delegations", "selfdestructs", "validity"]


def calls(fork: str) -> Iterator[Named]:
    delegated = {
        DELEGATED: account(3, 1, b"\xef\x01\x00" + HELPER.to_bytes(20, "big")),
        DELEGATED + 1: account(3, 1, b"\xef\x01\x00" + (DELEGATED + 1).to_bytes(20, "big")),
        DELEGATED + 2: account(3, 1, b"\xef\x01\x00" + (4).to_bytes(20, "big")),
    } if prague(fork) else {}  # fmt: skip
    targets = {"helper": HELPER, "reverter": REVERTER, "failer": FAILER, "absent": ABSENT, "account": OTHER,
               "identity": 4, "self": CONTRACT, **{f"delegated {n}": a for n, a in enumerate(delegated)}}  # fmt: skip
    for kind, (name, target) in itertools.product(
        ("CALL", "CALLCODE", "DELEGATECALL", "STATICCALL"), targets.items()
    ):
        has_value = kind in ("CALL", "CALLCODE")
        for value in (0, 1, 10**6) if has_value else (0,):
            for gas in ("GAS", "PUSH1 100", "PUSH2 5000", HEX[2**255]):
                amount = f"PUSH4 {value}" if has_value else ""
                invoke = f"PUSH1 64 PUSH0 PUSH1 32 PUSH1 32 {amount} PUSH20 {hex(target)} {gas} {kind}"
                after = "PUSH0 SSTORE RETURNDATASIZE PUSH1 1 SSTORE PUSH0 MLOAD PUSH1 2 SSTORE PUSH1 32 MLOAD PUSH1 3 SSTORE"
                # Calling itself must end: with data, which the inner call gets, it stops.
                code = f"CALLDATASIZE @end JUMPI {HEX[2**160 - 1]} PUSH1 32 MSTORE {invoke} {after} end: STOP"
                yield f"{kind} {name} {value} {gas}", case(fork, code, balance=100, more=delegated)
    forbidden = ("PUSH0 PUSH0 SSTORE", "PUSH0 PUSH0 LOG0", "PUSH0 PUSH0 PUSH0 CREATE", "PUSH0 PUSH0 PUSH0 PUSH0 CREATE2",
                 "PUSH0 SELFDESTRUCT", "PUSH0 PUSH0 PUSH0 PUSH0 PUSH1 1 PUSH1 4 GAS CALL",
                 "PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 PUSH1 4 GAS CALL", "PUSH0 PUSH0 TSTORE", "PUSH0 TLOAD")  # fmt: skip
    for inner in forbidden:
        static = {HELPER: account(5, 1, assemble(inner))}
        outer = f"PUSH0 PUSH0 PUSH0 PUSH0 PUSH20 {hex(HELPER)} GAS STATICCALL PUSH1 1 ADD PUSH0 SSTORE"
        yield f"static: {inner}", case(fork, outer, more=static)
    yield (
        "itself until the gas ends",
        case(
            fork,
            "PUSH0 SLOAD PUSH1 1 ADD PUSH0 SSTORE PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 ADDRESS GAS CALL",
            call(gas=3_000_000),
        ),
    )
    if fork != "osaka":  # EIP-7825 leaves too little gas to get there
        yield (
            "1024 deep",
            case(
                fork,
                "PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 ADDRESS GAS CALL PUSH0 MSTORE PUSH1 32 PUSH0 LOG0",
                call(gas=2**45),
            ),
        )
    for size in (0, 1, 64, 10_000):
        code = f"PUSH2 {size} PUSH0 PUSH2 {size} PUSH0 PUSH0 PUSH20 {hex(HELPER)} GAS CALL MSIZE PUSH0 SSTORE"
        yield f"buffers of {size}", case(fork, code)


def creates(fork: str) -> Iterator[Named]:
    bodies = {
        "nothing": "",
        "a byte": "PUSH1 1 PUSH0 MSTORE8 PUSH1 1 PUSH0 RETURN",
        "EF": "PUSH1 0xEF PUSH0 MSTORE8 PUSH1 1 PUSH0 RETURN",
        "revert": "PUSH1 1 PUSH0 SSTORE PUSH1 32 PUSH0 REVERT",
        "failure": "PUSH1 1 PUSH0 SSTORE INVALID",
        "largest": "PUSH2 24576 PUSH0 RETURN",
        "too large": "PUSH2 24577 PUSH0 RETURN",
        "storage": "PUSH1 1 PUSH0 SSTORE PUSH1 2 PUSH1 1 SSTORE PUSH1 3 PUSH0 RETURN",
        "gone at once": "PUSH1 7 SELFDESTRUCT",
        "its address": "ADDRESS PUSH0 MSTORE PUSH1 32 PUSH0 RETURN",
    }
    for (name, body), value, kind in itertools.product(bodies.items(), (0, 9, 10**9), ("CREATE", "CREATE2")):
        init = assemble(body)
        place = f"PUSH{len(init)} {hex(int.from_bytes(init, 'big'))} PUSH0 MSTORE" if init else ""
        salt = "PUSH1 5" if kind == "CREATE2" else ""
        make = f"{salt} PUSH1 {len(init)} PUSH1 {32 - len(init)} PUSH4 {value} {kind}"
        code = (
            f"{place} {make} DUP1 PUSH0 SSTORE EXTCODEHASH PUSH1 1 SSTORE RETURNDATASIZE PUSH1 2 SSTORE "
            f"{make} PUSH1 3 SSTORE"
        )
        yield f"{kind} {name} {value}", case(fork, code, call(gas=8_000_000), balance=20)
    for name, body in bodies.items():
        init = assemble(body).hex()
        yield f"transaction {name}", case(fork, b"", call(to=None, data=init, value=3, gas=6_000_000))
        yield f"transaction {name}, little gas", case(fork, b"", call(to=None, data=init, gas=60_000))
    for size in (49_152, 49_153):
        yield (
            f"CREATE of {size} bytes",
            case(fork, f"PUSH3 {size} PUSH0 PUSH0 CREATE PUSH0 SSTORE", call(gas=5_000_000)),
        )
        yield f"transaction of {size} bytes", case(fork, b"", call(to=None, data="00" * size, gas=10**7))
    top = {HELPER: account(0, 2**64 - 1, assemble("PUSH0 PUSH0 PUSH0 CREATE PUSH0 SSTORE"))}
    code = f"PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 PUSH20 {hex(HELPER)} GAS CALL PUSH0 SSTORE"
    yield "with the last nonce", case(fork, code, more=top)
    yield "CREATE2 of huge size", case(fork, f"PUSH0 {HEX[2**255]} PUSH0 PUSH0 CREATE2 PUSH0 SSTORE")


def collisions(fork: str) -> Iterator[Named]:
    """Creation on an address that has a nonce or code fails and takes all its gas (EIP-684)."""
    from flashctl.evm.calls import create_address

    target = create_address(CONTRACT, 1)
    for name, there in {
        "nonce": account(0, 1), "code": account(0, 0, b"\x00"), "balance": account(5), "both": account(1, 1, b"\x00")
    }.items():  # fmt: skip
        code = "PUSH0 PUSH0 PUSH1 2 CREATE PUSH0 SSTORE GAS PUSH1 1 SSTORE"
        yield f"on {name}", case(fork, code, call(gas=300_000), balance=10, more={target: there})
        sent = create_address(SENDER, 5)
        yield (
            f"transaction on {name}",
            case(fork, b"", call(to=None, data="00", gas=100_000), more={sent: there}),
        )


def selfdestructs(fork: str) -> Iterator[Named]:
    for name, heir in {"absent": ABSENT, "helper": HELPER, "itself": CONTRACT, "sender": SENDER, "precompile": 2,
                       "coinbase": COINBASE}.items():  # fmt: skip
        for balance in (0, 50):
            yield f"to {name}, {balance} wei", case(fork, f"PUSH20 {hex(heir)} SELFDESTRUCT", balance=balance)
            yield (
                f"to {name}, {balance} wei, twice",
                case(
                    fork, f"PUSH20 {hex(heir)} SELFDESTRUCT", call(), call(nonce=6, value=4), balance=balance
                ),
            )
    init = assemble("PUSH1 1 PUSH0 SSTORE PUSH2 0x33FF PUSH0 MSTORE PUSH1 2 PUSH1 30 RETURN")
    push = f"PUSH{len(init)} {hex(int.from_bytes(init, 'big'))} PUSH0 MSTORE"
    made = f"{push} PUSH1 {len(init)} PUSH1 {32 - len(init)} PUSH1 7 CREATE DUP1 PUSH0 SSTORE"
    enter = "PUSH0 PUSH0 PUSH0 PUSH0 PUSH1 3 DUP6 GAS CALL"
    yield "of what was created before", case(fork, f"{made} {enter} PUSH1 1 SSTORE", balance=100)
    yield (
        "of what was created, and money after",
        case(fork, f"{made} {enter} POP {enter} PUSH1 1 SSTORE", balance=100),
    )
    yield "undone", case(fork, f"{made} {enter} PUSH0 PUSH0 REVERT", balance=100)
    victim = f"PUSH20 {hex(ABSENT)} PUSH0 MSTORE PUSH0 PUSH0 PUSH1 32 PUSH0 PUSH1 1 PUSH20 {hex(SUICIDE)} GAS CALL PUSH0 SSTORE"
    yield "of another", case(fork, f"{victim} {victim}", balance=100)


def access_lists(fork: str) -> Iterator[Named]:
    code = keep([f"GAS PUSH1 {slot} SLOAD POP GAS SWAP1 SUB" for slot in (0, 1, 1, 2)]
                + [f"GAS PUSH20 {hex(a)} BALANCE POP GAS SWAP1 SUB" for a in (HELPER, ABSENT, COINBASE, SENDER, 1, 0x100)])  # fmt: skip
    me, helper, absent = address(CONTRACT), address(HELPER), address(ABSENT)
    for name, listing in {
        "none": [], "own slots": [[me, [0, 1, 2]]], "twice": [[me, [1]], [me, [1, 1]], [helper, []]],
        "absent": [[absent, [5]]], "precompile": [[address(1), [0]], [address(0x100), []]],
        "many": [[address(0xF00 + n), list(range(n))] for n in range(20)],
    }.items():  # fmt: skip
        for kind in (1, 2):
            yield f"type {kind} {name}", case(fork, code, call(type=kind, access_list=listing))


def validity(fork: str) -> Iterator[Named]:
    """Transactions at the edge of what may be included at all."""
    data = {"zeros": "00" * 100, "ones": "01" * 100, "mixed": "0001" * 300}
    for name, text in data.items():
        body = bytes.fromhex(text)
        zeros = body.count(0)
        usual = 21_000 + 4 * zeros + 16 * (len(body) - zeros)
        floor = 21_000 + 10 * zeros + 40 * (len(body) - zeros)
        for gas in (usual - 1, usual, usual + 1, floor - 1, floor, floor + 1, floor + 50_000):
            yield f"{name} with {gas}", case(fork, "PUSH1 1 PUSH0 SSTORE", call(data=text, gas=gas))
            yield (
                f"{name} to an account with {gas}",
                case(fork, b"", call(data=text, gas=gas, to=address(OTHER))),
            )
    for gas in (53_000, 53_001, 53_002, 53_201, 53_203, 55_000):
        yield f"creation with {gas}", case(fork, b"", call(to=None, data="00", gas=gas))
    for nonce in (4, 5, 6):
        yield f"nonce {nonce}", case(fork, b"", call(nonce=nonce, gas=21_000))
    yield (
        "all the money",
        case(fork, b"", call(sender=address(OTHER), nonce=0, gas=21_000, value=10**18 - 210_000)),
    )
    yield (
        "one wei short",
        case(fork, b"", call(sender=address(OTHER), nonce=0, gas=21_000, value=10**18 - 209_999)),
    )
    sender = {CODED: account(10**20, 0, b"\x00")}
    yield "sender with code", case(fork, b"", call(sender=address(CODED), nonce=0), more=sender)
    for gas in (2**24 - 1, 2**24, 2**24 + 1):
        yield f"{gas} gas", case(fork, b"", call(gas=gas))
    yield (
        "sender is the coinbase",
        case(
            fork,
            "PUSH1 1 PUSH0 SSTORE",
            call(sender=address(COINBASE), nonce=0),
            more={COINBASE: account(10**20)},
        ),
    )
    yield "to itself", case(fork, b"", call(to=address(SENDER), value=10**20))
    for price in (7, 8, 10**9):
        yield f"price {price}", case(fork, b"", call(price=price), call(price=price, type=0, nonce=6))


def delegations(fork: str) -> Iterator[Named]:
    """EIP-7702: who may delegate, to what, and what a call to such an account does."""
    if not prague(fork):
        return
    code = f"PUSH1 32 PUSH0 PUSH0 PUSH0 PUSH1 1 PUSH20 {hex(OTHER)} GAS CALL PUSH0 SSTORE PUSH0 MLOAD PUSH1 1 SSTORE"
    writer = {
        HELPER: account(0, 1, assemble("CALLER PUSH0 SSTORE ADDRESS PUSH1 1 SSTORE CODESIZE PUSH1 2 SSTORE"))
    }
    lists: dict[str, list[tuple[int, str, int, str]]] = {
        "valid": [(CHAIN_ID, address(HELPER), 0, hex(OTHER))],
        "any chain": [(0, address(HELPER), 0, hex(OTHER))],
        "another chain": [(11, address(HELPER), 0, hex(OTHER))],
        "wrong nonce": [(CHAIN_ID, address(HELPER), 1, hex(OTHER))],
        "last nonce": [(CHAIN_ID, address(HELPER), 2**64 - 1, hex(OTHER))],
        "no signer": [(CHAIN_ID, address(HELPER), 0, hex(0))],
        "signer with code": [(CHAIN_ID, address(HELPER), 1, hex(REVERTER))],
        "absent signer": [(CHAIN_ID, address(HELPER), 0, hex(ABSENT))],
        "sender": [(CHAIN_ID, address(HELPER), 6, hex(SENDER))],
        "twice": [(CHAIN_ID, address(HELPER), 0, hex(OTHER)), (CHAIN_ID, address(REVERTER), 1, hex(OTHER))],
        "set and cleared": [(CHAIN_ID, address(HELPER), 0, hex(OTHER)), (CHAIN_ID, address(0), 1, hex(OTHER))],
        "to a precompile": [(CHAIN_ID, address(4), 0, hex(OTHER))],
        "to itself": [(CHAIN_ID, address(OTHER), 0, hex(OTHER))],
        "to an account": [(CHAIN_ID, address(ABSENT), 0, hex(OTHER))],
        "many": [(CHAIN_ID, address(HELPER), n, hex(OTHER)) for n in range(20)],
    }  # fmt: skip
    for name, authorizations in lists.items():
        for to in (CONTRACT, OTHER):
            item = call(type=4, to=address(to), value=2, authorizations=authorizations, gas=1_500_000)
            after = call(nonce=7 if name == "sender" else 6, to=address(OTHER), data="01")
            yield f"{name}, called at {to:x}", case(fork, code, item, after, balance=10, more=writer)
    item = call(type=4, authorizations=lists["valid"])
    for gas in (45_999, 46_000, 46_001, 50_000, 70_000):
        yield f"valid with {gas}", case(fork, code, item | {"gas": gas}, balance=10, more=writer)
    chained = {DELEGATED: account(0, 1, b"\xef\x01\x00" + OTHER.to_bytes(20, "big"))}
    yield (
        "a chain of delegations",
        case(fork, code, item, call(nonce=6, to=address(DELEGATED)), more=chained | writer),
    )
    yield "a delegated sender", case(fork, code, call(sender=address(DELEGATED), nonce=1),
                                     more={DELEGATED: account(10**20, 1, b"\xef\x01\x00" + HELPER.to_bytes(20, "big"))})  # fmt: skip
