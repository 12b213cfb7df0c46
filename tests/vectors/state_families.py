"""Programs for state tests, by family of instructions: small, written by name, each with a point.

A family is a function from a fork's name to cases of the form that `support.eels_worker` takes. Everything is
written out or follows from the seed; nothing is measured here, the oracle says what comes of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from support.assembler import assemble
from support.programs import make_case
from vectors.state_calls import access_lists, calls, collisions, creates, delegations, selfdestructs, validity
from vectors.state_precompiles import precompiles
from vectors.state_worlds import (
    ABSENT,
    COINBASE,
    CONTRACT,
    DELEGATED,
    HASHES,
    HELPER,
    HEX,
    NUMBERS,
    OTHER,
    SENDER,
    Named,
    account,
    address,
    call,
    cancun,
    case,
    keep,
    prague,
)

__all__ = ["FAMILIES", "FORKS"]

FORKS = ("shanghai", "cancun", "prague", "osaka")

# -- families


def arithmetic(fork: str) -> Iterator[Named]:
    pairs = list(itertools.product(NUMBERS, NUMBERS))
    binary = "ADD MUL SUB DIV SDIV MOD SMOD SIGNEXTEND LT GT SLT SGT EQ AND OR XOR BYTE SHL SHR SAR"
    for name in binary.split():
        yield name, case(fork, keep([f"{HEX[b]} {HEX[a]} {name}" for a, b in pairs]))
    for name in ("ISZERO", "NOT", *(("CLZ",) if fork == "osaka" else ())):
        yield name, case(fork, keep([f"{HEX[a]} {name}" for a in NUMBERS]))
    triples = list(itertools.product(NUMBERS[::2], NUMBERS[1::2], (0, 1, 31, 2**255, 2**256 - 1)))[::2]
    for name in ("ADDMOD", "MULMOD"):
        yield name, case(fork, keep([f"PUSH32 {hex(c)} {HEX[b]} {HEX[a]} {name}" for a, b, c in triples]))
    exponents = [
        f"{HEX[b]} {HEX[a]} EXP" for a, b in itertools.product(NUMBERS[:12:2] + NUMBERS[12:], NUMBERS)
    ]
    yield "EXP", case(fork, keep(exponents))


def stack(fork: str) -> Iterator[Named]:
    pushes = [f"PUSH{size} {hex(int.from_bytes(bytes(range(1, size + 1)), 'big'))}" for size in range(1, 33)]
    yield "PUSH", case(fork, keep(["PUSH0", "PC", "MSIZE", *pushes]))
    yield "PUSH cut off by the end of the code", case(fork, assemble("PUSH1 1 PUSH0 SSTORE") + b"\x7f\x01")
    words = " ".join(f"PUSH1 {number}" for number in range(1, 18))
    for depth in range(1, 17):
        store = "PUSH0 SSTORE PUSH1 1 SSTORE PUSH1 2 SSTORE"
        yield f"DUP{depth}", case(fork, f"{words} DUP{depth} {store}")
        yield f"SWAP{depth}", case(fork, f"{words} SWAP{depth} {store}")
        few = " ".join(["PUSH0"] * (depth - 1))
        yield f"DUP{depth} underflow", case(fork, f"{few} DUP{depth}")
        yield f"SWAP{depth} underflow", case(fork, f"{few} PUSH0 SWAP{depth}")
    for count in (1023, 1024, 1025):
        yield f"{count} words", case(fork, " ".join(["PUSH0"] * count) + " POP STOP")
    yield "loop to overflow", case(fork, "PUSH1 1 PUSH0 SSTORE top: PUSH0 @top JUMP")
    for name in ("ADD", "POP", "MSTORE", "SSTORE", "JUMP", "JUMPI", "CALL", "CREATE", "LOG4", "RETURN"):
        yield f"{name} underflow", case(fork, f"PUSH1 1 PUSH0 SSTORE {name}")


def memory(fork: str) -> Iterator[Named]:
    places = (0, 1, 31, 32, 33, 100, 1000)
    writes = " ".join(f"PUSH32 {hex(NUMBERS[-1] - place)} PUSH2 {place} MSTORE" for place in places)
    bytes_ = " ".join(f"PUSH2 {0x1234 ^ place} PUSH2 {place * 3} MSTORE8" for place in places)
    reads = " ".join(f"PUSH2 {place} MLOAD PUSH2 {place} SSTORE" for place in places)
    yield "MSTORE MLOAD", case(fork, f"{writes} {reads} MSIZE PUSH1 7 SSTORE")
    yield "MSTORE8", case(fork, f"{bytes_} {reads} MSIZE PUSH1 7 SSTORE")
    yield "MLOAD grows", case(fork, "PUSH1 33 MLOAD MSIZE PUSH0 SSTORE PUSH0 SSTORE")
    for offset in (2**20, 2**32, 2**64, 2**255):
        for name in ("MLOAD", "PUSH0 SWAP1 MSTORE", "PUSH0 SWAP1 MSTORE8", "PUSH1 1 SWAP1 KECCAK256",
                     "PUSH1 1 SWAP1 RETURN", "PUSH1 1 SWAP1 REVERT", "PUSH1 1 SWAP1 LOG0"):  # fmt: skip
            yield f"{name} at {offset:#x}", case(fork, f"PUSH32 {hex(offset)} {name}")
    yield (
        "no bytes anywhere",
        case(fork, f"PUSH0 {HEX[2**255]} KECCAK256 PUSH0 SSTORE PUSH0 {HEX[2**255]} PUSH0 CALLDATACOPY STOP"),
    )
    sizes = (0, 1, 31, 32, 33, 135, 136, 137, 500)
    yield "KECCAK256", case(fork, f"{writes} " + " ".join(
        f"PUSH2 {size} PUSH1 3 KECCAK256 PUSH2 {size} SSTORE" for size in sizes
    ))  # fmt: skip
    for source, to, size in itertools.product((0, 5, 64), (0, 3, 40), (0, 1, 32, 90)):
        if cancun(fork):
            copy = f"PUSH2 {size} PUSH2 {source} PUSH2 {to} MCOPY PUSH2 200 PUSH0 KECCAK256 PUSH0 SSTORE"
            yield f"MCOPY {source} {to} {size}", case(fork, f"{writes} {copy} MSIZE PUSH1 1 SSTORE")
    yield "MCOPY", case(fork, f"{HEX[2**64 - 1]} PUSH0 {HEX[2**255]} MCOPY")
    data = bytes(range(1, 100)).hex()
    for source, size in itertools.product((0, 1, 90, 99, 2**64, 2**255), (0, 1, 32, 100)):
        for name in ("CALLDATACOPY", "CODECOPY"):
            code = f"PUSH1 {size} PUSH32 {hex(source)} PUSH1 7 {name} PUSH1 150 PUSH0 KECCAK256 PUSH0 SSTORE"
            yield f"{name} {source:#x} {size}", case(fork, code, call(data=data))
    loads = [f"PUSH32 {hex(place)} CALLDATALOAD" for place in (0, 1, 67, 98, 99, 2**64, 2**256 - 1)]
    yield "CALLDATALOAD", case(fork, keep(loads), call(data=data))


def environment(fork: str) -> Iterator[Named]:
    plain = (
        "ADDRESS ORIGIN CALLER CALLVALUE CALLDATASIZE CODESIZE GASPRICE RETURNDATASIZE COINBASE TIMESTAMP NUMBER "
        "PREVRANDAO GASLIMIT CHAINID SELFBALANCE BASEFEE PC MSIZE GAS"
    ).split()
    new = ["BLOBBASEFEE", "PUSH0 BLOBHASH", f"{HEX[2**256 - 1]} BLOBHASH"] if cancun(fork) else []
    yield "surroundings", case(fork, keep([*plain, *new]), call(value=77, data="01020304"))
    for name in ("BLOBBASEFEE", "PUSH0 BLOBHASH", "PUSH0 CLZ", "PUSH0 TLOAD"):
        yield f"{name} alone", case(fork, f"PUSH1 1 PUSH0 SSTORE {name}")
    near = (0, 1, 99, 98, 100, 101, 355, 2**64, 2**256 - 1)
    yield "BLOCKHASH", case(fork, keep([f"PUSH32 {hex(number)} BLOCKHASH" for number in near]))
    others = (CONTRACT, HELPER, SENDER, OTHER, ABSENT, DELEGATED, COINBASE, 0, 1, 2**159, 1 << 200 | HELPER)
    code = [
        f"PUSH32 {hex(each)} {name}" for name in ("BALANCE", "EXTCODESIZE", "EXTCODEHASH") for each in others
    ]
    delegated = (
        {DELEGATED: account(3, 1, b"\xef\x01\x00" + HELPER.to_bytes(20, "big"))} if prague(fork) else {}
    )
    yield "accounts", case(fork, keep(code), more=delegated)
    prices = [f"GAS PUSH32 {hex(each)} {name} POP GAS SWAP1 SUB" for name in
              ("BALANCE", "EXTCODESIZE", "EXTCODEHASH") for each in others]  # fmt: skip
    yield "warm and cold", case(fork, keep(prices), more=delegated)
    for each, offset, size in itertools.product((HELPER, ABSENT, DELEGATED), (0, 5, 2**64), (0, 1, 64)):
        copy = f"PUSH1 {size} PUSH32 {hex(offset)} PUSH1 3 PUSH20 {hex(each)} EXTCODECOPY"
        code_ = f"{copy} PUSH1 96 PUSH0 KECCAK256 PUSH0 SSTORE"
        yield f"EXTCODECOPY {each:x} {offset:#x} {size}", case(fork, code_, more=delegated)
    called = f"PUSH0 PUSH0 PUSH0 PUSH0 PUSH20 {hex(HELPER)} GAS STATICCALL POP"
    for offset, size in (
        (0, 0),
        (0, 96),
        (5, 91),
        (96, 0),
        (97, 0),
        (0, 97),
        (2**255, 2**255),
        (1, 2**256 - 1),
    ):
        copy = f"PUSH32 {hex(size)} PUSH32 {hex(offset)} PUSH0 RETURNDATACOPY"
        code_ = f"{called} RETURNDATASIZE PUSH1 1 SSTORE {copy} PUSH1 96 PUSH0 KECCAK256 PUSH0 SSTORE"
        yield f"RETURNDATACOPY {offset:#x} {size:#x}", case(fork, code_)


def storage(fork: str) -> Iterator[Named]:
    """Every way from an original value over two writes, warm and cold, and what each costs (EIP-2200, 2929,
    3529)."""
    for original, first, second in itertools.product((0, 1, 2), repeat=3):
        for listed in (False, True):
            writes = (
                f"PUSH1 {first} PUSH1 9 SSTORE PUSH1 {second} PUSH1 9 SSTORE PUSH1 9 SLOAD PUSH1 1 SSTORE"
            )
            listing = [[address(CONTRACT), [9]]] if listed else []
            name = f"{original} {first} {second}{' listed' if listed else ''}"
            yield (
                name,
                case(fork, writes, call(access_list=listing), storage={9: original} if original else {}),
            )
    for gas in (2300, 2301, 5000, 5001, 20_000, 22_100, 22_106):
        code = f"PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 PUSH20 {hex(HELPER)} PUSH2 {gas} CALL PUSH0 SSTORE"
        helper = {HELPER: account(0, 1, assemble("PUSH1 1 PUSH1 1 SSTORE"))}
        yield f"write with {gas} gas", case(fork, code, more=helper)
    clear = " ".join(f"PUSH0 PUSH1 {slot} SSTORE" for slot in range(30))
    yield "refund above a fifth", case(fork, clear, storage=dict.fromkeys(range(30), 1))
    yield "written, then reverted", case(fork, f"{clear} PUSH0 PUSH0 REVERT", storage={0: 5})
    yield (
        "many slots",
        case(fork, "GAS PUSH0 SSTORE " + " ".join(f"PUSH2 {n * 37} SLOAD POP" for n in range(200))),
    )


def transient(fork: str) -> Iterator[Named]:
    if not cancun(fork):
        yield "unknown", case(fork, "PUSH1 1 PUSH0 TSTORE")
        return
    yield (
        "write and read",
        case(fork, "PUSH1 5 PUSH1 3 TSTORE PUSH1 3 TLOAD PUSH0 SSTORE PUSH1 4 TLOAD PUSH1 1 SSTORE"),
    )
    again = "PUSH0 TLOAD DUP1 PUSH0 SSTORE PUSH1 1 ADD PUSH0 TSTORE"
    yield "gone with its transaction", case(fork, again, call(), call(nonce=6))
    enter = "PUSH0 PUSH0 PUSH0 PUSH0 PUSH0 ADDRESS GAS CALL"
    yield "undone by a revert", case(
        fork, f"CALLVALUE @first JUMPI PUSH1 9 PUSH0 TSTORE PUSH0 PUSH0 REVERT first: {enter} PUSH1 1 SSTORE "
        "PUSH0 TLOAD PUSH0 SSTORE", call(value=1)
    )  # fmt: skip
    for kind in ("CALL", "CALLCODE", "DELEGATECALL", "STATICCALL"):
        value = "PUSH0" if kind in ("CALL", "CALLCODE") else ""
        code = f"PUSH1 2 PUSH0 TSTORE PUSH0 PUSH0 PUSH0 PUSH0 {value} PUSH20 {hex(HELPER)} GAS {kind} PUSH1 1 SSTORE "
        helper = {HELPER: account(0, 1, assemble("PUSH1 7 PUSH0 TSTORE"))}
        yield f"over {kind}", case(fork, f"{code} PUSH0 TLOAD PUSH0 SSTORE", more=helper)


def jumps(fork: str) -> Iterator[Named]:
    yield "forward", case(fork, "@on JUMP INVALID on: PUSH1 1 PUSH0 SSTORE")
    for word in (0, 1, 2, 2**255):
        yield (
            f"JUMPI {word:#x}",
            case(fork, f"PUSH32 {hex(word)} @on JUMPI PUSH1 7 PUSH0 SSTORE STOP on: PUSH1 9 PUSH0 SSTORE"),
        )
    for target in (0, 1, 4, 5, 6, 100, 2**16, 2**64 + 5, 2**255):
        yield f"JUMP {target:#x}", case(fork, f"PUSH1 1 PUSH0 SSTORE PUSH32 {hex(target)} JUMP")
        yield (
            f"JUMPI {target:#x} taken",
            case(fork, f"PUSH1 1 PUSH0 SSTORE PUSH1 1 PUSH32 {hex(target)} JUMPI"),
        )
        yield (
            f"JUMPI {target:#x} not taken",
            case(fork, f"PUSH0 PUSH32 {hex(target)} JUMPI PUSH1 1 PUSH0 SSTORE"),
        )
    yield "into the operand of a PUSH", case(fork, "PUSH1 4 JUMP PUSH1 0x5b PUSH1 1 PUSH0 SSTORE")
    for rounds in (1, 2, 50, 700):
        loop = (
            f"PUSH2 {rounds} top: DUP1 DUP1 MUL PUSH0 MLOAD ADD PUSH0 MSTORE PUSH1 1 SWAP1 SUB DUP1 @top JUMPI "
            "PUSH0 MLOAD PUSH0 SSTORE"
        )
        yield f"{rounds} rounds", case(fork, loop)
        yield f"{rounds} rounds without gas", case(fork, loop, call(gas=24_000))
    table = "PUSH0 CALLDATALOAD PUSH1 5 MUL @base ADD JUMP base: " + " ".join(
        f"JUMPDEST PUSH1 {n} @out JUMP" if n else "PUSH1 9 @out JUMP" for n in range(4)
    )
    for n in range(3):
        yield (
            f"computed {n}",
            case(fork, f"{table} out: PUSH0 SSTORE", call(data=n.to_bytes(32, "big").hex())),
        )


def logs(fork: str) -> Iterator[Named]:
    for topics, size in itertools.product(range(5), (0, 1, 32, 100)):
        words = " ".join(f"PUSH1 {0x70 + topic}" for topic in range(topics))
        yield (
            f"LOG{topics} of {size}",
            case(fork, f"{HEX[2**256 - 1]} PUSH1 4 MSTORE {words} PUSH1 {size} PUSH1 2 LOG{topics}"),
        )
    yield "undone", case(fork, "PUSH0 PUSH0 LOG0 PUSH0 PUSH0 REVERT")
    yield "in a static call", case(fork, "CALLVALUE @first JUMPI PUSH0 PUSH0 LOG0 STOP "
        "first: PUSH0 PUSH0 PUSH0 PUSH0 ADDRESS GAS STATICCALL PUSH0 SSTORE", call(value=1))  # fmt: skip


def halts(fork: str) -> Iterator[Named]:
    from flashctl.evm.forks import SHANGHAI

    for code in range(256):
        if code not in SHANGHAI.instructions.opcodes:
            yield (
                f"byte {code:#x}",
                case(fork, assemble("PUSH1 1 PUSH0 SSTORE PUSH0 PUSH0 PUSH0 PUSH0") + bytes((code,))),
            )
    yield "REVERT with data", case(fork, "PUSH1 9 PUSH0 MSTORE PUSH1 5 PUSH1 30 REVERT")
    yield "RETURN of much", case(fork, "PUSH3 100000 PUSH1 7 RETURN")
    yield "empty code", case(fork, b"", call(value=1))


def out_of_gas(fork: str) -> Iterator[Named]:
    """The same program, stopped by its gas in every part of it."""
    code = (
        f"{HEX[7]} PUSH1 64 MSTORE PUSH1 96 PUSH0 KECCAK256 PUSH0 SSTORE PUSH1 3 PUSH1 64 PUSH0 LOG1 "
        f"PUSH1 32 PUSH0 PUSH1 32 PUSH0 PUSH1 1 PUSH20 {hex(HELPER)} PUSH2 9000 CALL PUSH1 2 SSTORE "
        f"PUSH20 {hex(ABSENT)} BALANCE POP {HEX[255]} {HEX[31]} EXP PUSH1 3 SSTORE PUSH1 5 PUSH0 PUSH0 CREATE "
        "PUSH1 4 SSTORE PUSH1 40 PUSH0 PUSH1 200 CODECOPY"
    )
    for gas in (*range(21_000, 21_060, 3), *range(21_100, 60_000, 911), *range(60_000, 200_000, 4_001)):
        yield f"{gas}", case(fork, code, call(gas=gas), balance=5)


RANDOM_SEEDS = range(5_000, 5_120)


def random_programs(fork: str) -> Iterator[Named]:
    for seed in RANDOM_SEEDS:
        made = make_case(seed, fork)
        made["block"]["hashes"] = HASHES  # a hundred random ones would be most of the pack
        yield str(seed), made


FAMILIES: dict[str, Callable[[str], Iterator[Named]]] = {
    "arithmetic": arithmetic,
    "stack": stack,
    "memory": memory,
    "environment": environment,
    "storage": storage,
    "transient": transient,
    "jumps": jumps,
    "logs": logs,
    "calls": calls,
    "creates": creates,
    "collisions": collisions,
    "selfdestructs": selfdestructs,
    "halts": halts,
    "out-of-gas": out_of_gas,
    "access-lists": access_lists,
    "validity": validity,
    "delegations": delegations,
    "precompiles": precompiles,
    "random": random_programs,
}
