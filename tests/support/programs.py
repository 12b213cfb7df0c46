"""Random programs and transactions, made to go far: operands that mean something, jumps that land, calls
that arrive.

Everything follows from the seed. A case is a small world (contracts that know each other's addresses, plain
accounts, a delegated one) and one to three transactions of every type on it, with gas that often runs out
in the middle.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["make_case"]

SENDERS = [0x5E0000 + i for i in range(3)]
CONTRACTS = [0xC00000000000000000000000000000000000 + i for i in range(4)]
DELEGATED = 0xDE1E
EMPTY = 0xE0E0
ABSENT = 0xAB5E17
COINBASE = 0xC01BA5E
PRECOMPILES = [*range(1, 0x12), 0x100]
CHAIN_ID = 10

BINARY = [*range(0x01, 0x08), 0x0B, *range(0x10, 0x15), *range(0x16, 0x19), *range(0x1A, 0x1E)]
SURROUNDINGS = [0x30, 0x32, 0x33, 0x34, 0x36, 0x38, 0x3A, 0x3D, *range(0x41, 0x49), 0x4A, 0x58, 0x59, 0x5A]
INTERESTING = [
    0,
    1,
    2,
    3,
    31,
    32,
    33,
    64,
    255,
    256,
    2**64 - 1,
    2**128,
    2**160 - 1,
    2**255,
    2**256 - 1,
    2**255 - 1,
]

Item = bytes | tuple[str, int]
"""Code, or the definition or the use of a label."""


class Program:
    """Code under construction; `depth` is a guess at how much is on the stack."""

    def __init__(self, rng: random.Random, level: int = 0) -> None:
        self.rng = rng
        self.level = level
        self.items: list[Item] = []
        self.depth = 0
        self.labels = 0

    def op(self, *codes: int) -> None:
        self.items.append(bytes(codes))

    def push(self, value: int) -> None:
        size = max((value.bit_length() + 7) // 8, 1)
        if value == 0 and self.rng.random() < 0.5:
            self.op(0x5F)
        else:
            self.items.append(bytes((0x5F + size,)) + value.to_bytes(size, "big"))
        self.depth += 1

    def label(self) -> int:
        self.labels += 1
        return self.labels - 1

    def here(self, label: int) -> None:
        self.items.append(("here", label))

    def push_label(self, label: int) -> None:
        self.items.append(("push", label))
        self.depth += 1

    def assemble(self) -> bytes:
        offsets: dict[int, int] = {}
        at = 0
        for item in self.items:
            if isinstance(item, bytes):
                at += len(item)
            elif item[0] == "here":
                offsets[item[1]] = at
                at += 1
            else:
                at += 3
        out = bytearray()
        for item in self.items:
            if isinstance(item, bytes):
                out += item
            elif item[0] == "here":
                out.append(0x5B)
            else:
                out += b"\x61" + offsets.get(item[1], 0xFFFF).to_bytes(2, "big")
        return bytes(out)

    # -- pieces

    def number(self) -> int:
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(INTERESTING)
        if kind < 0.7:
            return rng.randrange(300)
        return rng.getrandbits(rng.choice((8, 32, 64, 160, 256)))

    def address(self) -> int:
        rng = self.rng
        pools = (CONTRACTS, CONTRACTS, PRECOMPILES, SENDERS, [DELEGATED, EMPTY, ABSENT, COINBASE])
        return rng.choice(rng.choice(pools))

    def offset(self) -> int:
        rng = self.rng
        if rng.random() < 0.02:
            return rng.choice((2**32, 2**64, 2**255, 10**6))
        return rng.choice((0, 0, 1, 31, 32, 64, 64, 96, 100, rng.randrange(400)))

    def push_offset(self) -> None:
        """An offset, often one that only execution tells."""
        self.push(self.offset())
        kind = self.rng.random()
        if kind < 0.25:
            self.op(0x34, 0x34, 0x18, 0x01)  # CALLVALUE, CALLVALUE, XOR, ADD
        elif kind < 0.35:
            self.op(0x35)  # CALLDATALOAD
            self.push(0xFF)
            self.op(0x16)
            self.depth -= 1

    def buffer(self) -> None:
        """A piece of memory behind a pointer, written, read, hashed and logged, as compilers of languages
        do."""
        rng = self.rng
        self.push_offset()
        for _ in range(rng.randrange(1, 6)):
            kind = rng.randrange(6)
            if kind < 2:
                self.push(self.number())
                self.op(0x81, 0x52)  # DUP2, MSTORE
                self.depth -= 1
            elif kind == 2:
                self.push(rng.choice((1, 32, 32, 64)))
                self.op(0x81, 0x01)  # DUP2, ADD: a pointer further on
            elif kind == 3:
                self.op(0x80, 0x51)  # DUP1, MLOAD
                self.depth += 1
                self.check_result()
            elif kind == 4:
                self.push(rng.choice((32, 64)))
                self.op(0x81, 0x20)  # DUP2, KECCAK256
                self.check_result()
            else:
                self.push(rng.choice((0, 32, 64, 96)))
                self.op(0x51)
                self.check_result()
        if rng.random() < 0.5:
            self.op(0x80, 0x90, 0x03)  # DUP1, SWAP1, SUB: the difference of two pointers
            self.check_result()

    def size(self) -> int:
        rng = self.rng
        if rng.random() < 0.02:
            return rng.choice((2**32, 2**255, 10**5))
        return rng.choice((0, 0, 1, 4, 32, 32, 64, 96, 128, 192, 213, rng.randrange(300)))

    def step(self) -> None:
        pieces = (
            (self.arithmetic, 24),
            (self.juggle, 10),
            (self.memory, 14),
            (self.buffer, 6),
            (self.storage, 12),
            (self.surroundings, 6),
            (self.accounts, 5),
            (self.call, 9),
            (self.create, 4),
            (self.branch, 8),
            (self.loop, 3),
            (self.computed_jump, 2),
            (self.log, 3),
            (self.check_result, 5),
            (self.junk, 1),
            (self.end, 1),
        )
        self.rng.choices([piece for piece, _ in pieces], [weight for _, weight in pieces])[0]()

    def arithmetic(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.15:
            self.operands(3)
            self.op(rng.choice((0x08, 0x09)))
            self.depth -= 2
        elif kind < 0.3:
            self.operands(1)
            self.op(rng.choice((0x15, 0x19, 0x1E if rng.random() < 0.3 else 0x15)))
        elif kind < 0.35:
            self.push(rng.choice((0, 1, 2, 10, 255, 256, 2**64, 2**255)))
            self.push(self.number())
            self.op(0x0A)
            self.depth -= 1
        else:
            self.operands(2)
            if rng.random() < 0.3:
                self.push(rng.choice((0, 1, 8, 31, 32, 96, 160, 255, 256)))
            self.op(rng.choice(BINARY))
            self.depth -= 1

    def operands(self, count: int) -> None:
        for _ in range(count):
            if self.depth < count or self.rng.random() < 0.5:
                self.push(self.number())

    def juggle(self) -> None:
        rng = self.rng
        depth = max(self.depth, 1)
        kind = rng.random()
        if kind < 0.45:
            self.op(0x7F + min(rng.randrange(1, depth + 2), 16))
            self.depth += 1
        elif kind < 0.8:
            self.op(0x8F + min(rng.randrange(1, depth + 1), 16))
        elif self.depth:
            self.op(0x50)
            self.depth -= 1

    def memory(self) -> None:
        rng = self.rng
        kind = rng.randrange(8)
        if kind < 3:
            self.operands(1)
            self.push_offset()
            self.op(rng.choice((0x52, 0x52, 0x53)))
            self.depth -= 2
        elif kind == 3:
            self.push_offset()
            self.op(0x51)
        elif kind == 4:
            self.push(self.size())
            self.push_offset()
            self.op(0x20)
            self.depth -= 1
        elif kind == 5:
            self.push(self.offset() if rng.random() < 0.8 else self.number())
            self.op(0x35)
        elif kind == 6:
            for value in (self.size(), self.offset(), self.offset()):
                self.push(value)
            self.op(rng.choice((0x37, 0x39, 0x5E, 0x5E)))
            self.depth -= 3
        else:
            self.push(rng.choice((0, 0, 1, 32)))
            self.push(0)
            self.push_offset()
            self.op(0x3E)
            self.depth -= 3

    def storage(self) -> None:
        rng = self.rng
        key = rng.choice((0, 0, 1, 1, 2, self.number()))
        kind = rng.randrange(6)
        if kind < 2:
            self.push(rng.choice((0, 0, 1, 2, self.number())))
            self.push(key)
            self.op(0x55)
            self.depth -= 2
        elif kind < 4:
            self.push(key)
            self.op(0x54)
        elif kind == 4:
            self.push(self.number())
            self.push(key)
            self.op(0x5D)
            self.depth -= 2
        else:
            self.push(key)
            self.op(0x5C)

    def surroundings(self) -> None:
        if self.rng.random() < 0.2:
            self.push(self.rng.choice((0, 99, 90, 100, 101, self.number())))
            self.op(self.rng.choice((0x40, 0x49)))
        else:
            self.op(self.rng.choice(SURROUNDINGS))
            self.depth += 1

    def accounts(self) -> None:
        rng = self.rng
        if rng.random() < 0.2:
            for value in (self.size(), self.offset(), self.offset(), self.address()):
                self.push(value)
            self.op(0x3C)
            self.depth -= 4
        else:
            self.push(self.address() | (rng.getrandbits(96) << 160 if rng.random() < 0.1 else 0))
            self.op(rng.choice((0x31, 0x3B, 0x3F)))

    def call(self) -> None:
        rng = self.rng
        kind = rng.choice((0xF1, 0xF1, 0xF1, 0xF2, 0xF4, 0xF4, 0xFA))
        for _ in range(2):  # result, input
            self.push(self.size())
            self.push_offset()
        if kind in (0xF1, 0xF2):
            self.push(rng.choice((0, 0, 0, 1, 1000, 10**30)))
        self.push(self.address())
        if rng.random() < 0.6:
            self.op(0x5A)
            self.depth += 1
        else:
            self.push(rng.choice((0, 100, 2300, 10_000, 50_000, 2**255)))
        self.op(kind)
        self.depth -= 6 if kind in (0xF1, 0xF2) else 5

    def create(self) -> None:
        rng = self.rng
        if self.level >= 2:
            return
        code = init_code(rng, self.level + 1)
        for start in range(0, len(code), 32):
            self.push(int.from_bytes(code[start : start + 32].ljust(32, b"\0"), "big"))
            self.push(start)
            self.op(0x52)
            self.depth -= 2
        if rng.random() < 0.5:
            self.push(rng.choice((0, 0, 1)))
            self.push(len(code))
            self.push(0)
            self.push(rng.choice((0, 0, 1, 10**30)))
            self.op(0xF5)
            self.depth -= 3
        else:
            self.push(len(code) if rng.random() < 0.95 else 50_000)
            self.push(0)
            self.push(rng.choice((0, 0, 1)))
            self.op(0xF0)
            self.depth -= 2
        if rng.random() < 0.5:  # call what was created
            self.op(0x80)
            self.depth += 1
            for _ in range(5):
                self.push(0)
            self.op(0x85, 0x5A, 0xF1, 0x50, 0x50)
            self.depth -= 6

    def branch(self) -> None:
        skip = self.label()
        self.operands(1)
        if self.rng.random() < 0.5:
            self.op(0x80, 0x15)
            self.depth += 1
        self.push_label(skip)
        self.op(0x57)
        self.depth -= 2
        before = self.depth
        for _ in range(self.rng.randrange(1, 4)):
            self.step()
        self.here(skip)
        self.depth = min(before, self.depth)

    def loop(self) -> None:
        head = self.label()
        self.push(self.rng.choice((1, 2, 3, 5, 40, 80)))
        self.here(head)
        depth = self.depth
        for _ in range(self.rng.randrange(0, 3)):
            self.step()
        while self.depth > depth:
            self.op(0x50)
            self.depth -= 1
        while self.depth < depth:
            self.push(1)
        self.push(1)
        self.op(0x90, 0x03, 0x80)
        self.push_label(head)
        self.op(0x57)
        self.depth = depth

    def computed_jump(self) -> None:
        target = self.label()
        self.push(self.rng.choice((0, 0, 0, 1)))
        self.op(0x54)
        self.push(0)
        self.op(0x02)
        self.push_label(target)
        self.op(0x01, 0x56)
        self.depth -= 3
        self.here(target)

    def log(self) -> None:
        topics = self.rng.randrange(5)
        self.operands(topics)
        self.push(self.size())
        self.push_offset()
        self.op(0xA0 + topics)
        self.depth -= topics + 2

    def check_result(self) -> None:
        """Make the top of the stack visible in the state."""
        self.operands(1)
        self.push(self.rng.randrange(8))
        self.op(0x55)
        self.depth -= 2

    def junk(self) -> None:
        self.op(self.rng.randrange(256))

    def end(self) -> None:
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            self.push(rng.choice((*CONTRACTS, *SENDERS, ABSENT, EMPTY)) if rng.random() < 0.8 else 1)
            self.op(0xFF)
        elif kind == 1:
            self.op(0x30, 0xFF)
        else:
            self.push(self.size())
            self.push_offset()
            self.op(rng.choice((0xF3, 0xF3, 0xFD)))
        self.depth = 0


def program(rng: random.Random, level: int = 0) -> bytes:
    """The code of a contract."""
    made = Program(rng, level)
    for _ in range(rng.choice((2, 5, 10, 20, 40) if level == 0 else (1, 3, 6))):
        made.step()
    if rng.random() < 0.7:
        made.end()
    return made.assemble()


def init_code(rng: random.Random, level: int) -> bytes:
    """Code that does something and returns a contract, usually."""
    body = program(rng, level + 1)
    deployed = (
        program(rng, level + 1)[:120] if rng.random() < 0.9 else rng.choice((b"", b"\xef\x00", b"\x00" * 40))
    )
    if rng.random() < 0.3:
        return body
    # PUSH2 size, DUP1, PUSH2 offset, PUSH0, CODECOPY, PUSH0, RETURN
    prefix = Program(rng, level + 1)
    for _ in range(rng.randrange(3)):
        prefix.arithmetic() if rng.random() < 0.5 else prefix.storage()
    start = prefix.assemble()
    size = len(deployed).to_bytes(2, "big")
    offset = (len(start) + 11).to_bytes(2, "big")
    return start + b"\x61" + size + b"\x80\x61" + offset + b"\x5f\x39\x5f\xf3" + deployed


def make_case(seed: int, fork: str) -> dict[str, Any]:
    """The request for the oracle: `fork` is "shanghai", "cancun", "prague" or "osaka"."""
    rng = random.Random(f"{fork}-{seed}")
    accounts: dict[str, Any] = {}

    def put(
        address: int, nonce: int, balance: int, code: bytes = b"", storage: dict[int, int] | None = None
    ) -> None:
        accounts[address.to_bytes(20, "big").hex()] = {
            "nonce": nonce,
            "balance": balance,
            "code": code.hex(),
            "storage": {hex(slot): hex(value) for slot, value in (storage or {}).items()},
        }

    for sender in SENDERS:
        put(sender, rng.choice((0, 0, 1, 7)), 10**24)
    for contract in CONTRACTS:
        storage = {slot: rng.choice((1, 2, 2**255)) for slot in range(3) if rng.random() < 0.5}
        # Nonce 1 from the start: an empty account that has storage exists nowhere (EIP-161).
        put(contract, 1, rng.choice((0, 0, 5000)), program(rng), storage)
    delegates = fork in ("prague", "osaka")
    if delegates and rng.random() < 0.7:
        target = rng.choice((*CONTRACTS, *CONTRACTS, 4, DELEGATED, ABSENT))
        put(DELEGATED, 1, 1000, b"\xef\x01\x00" + target.to_bytes(20, "big"))
    nonces = {sender: accounts[sender.to_bytes(20, "big").hex()]["nonce"] for sender in SENDERS}
    transactions = [_transaction(rng, nonces, delegates) for _ in range(rng.choice((1, 1, 2, 3)))]
    hashes = [rng.randbytes(32).hex() for _ in range(100)]
    block = {
        "chain_id": CHAIN_ID,
        "number": 100,
        "timestamp": 1_700_000_000,
        "gas_limit": 100_000_000,
        "base_fee": 7,
        "coinbase": COINBASE.to_bytes(20, "big").hex(),
        "prev_randao": rng.randbytes(32).hex(),
        "hashes": hashes,
    }
    return {"fork": fork, "block": block, "accounts": accounts, "transactions": transactions}


def _gas_limit(rng: random.Random) -> int:
    """Mostly small: the oracle runs half a million gas a second, and endless loops use all they get."""
    kind = rng.random()
    if kind < 0.9:
        return int(10 ** rng.uniform(4.33, 5.3))
    if kind < 0.98:
        return int(10 ** rng.uniform(5.3, 6.0))
    return rng.choice((21_000, 2**24, 2**24 + 1))


def _transaction(rng: random.Random, nonces: dict[int, int], delegates: bool) -> dict[str, Any]:
    kind = rng.choice((0, 1, 2, 2, 4, 4) if delegates else (0, 1, 2, 2))
    sender = rng.choice(SENDERS)
    creates = kind != 4 and rng.random() < 0.12
    to = rng.choice(
        (*CONTRACTS, *CONTRACTS, DELEGATED, DELEGATED, *SENDERS, rng.choice(PRECOMPILES), ABSENT, EMPTY)
    )
    if creates:
        data = init_code(rng, 0)
    else:
        data = rng.randbytes(rng.choice((0, 0, 4, 36, 68, 213, 500))) if rng.random() < 0.8 else bytes(300)
    gas = _gas_limit(rng)
    if gas >= 2**24:
        creates, to = False, EMPTY
    nonce = nonces[sender]
    if gas >= 21_000 + 16 * len(data):
        nonces[sender] += 1
    item: dict[str, Any] = {
        "type": kind,
        "chain_id": CHAIN_ID,
        "sender": sender.to_bytes(20, "big").hex(),
        "nonce": nonce,
        "to": None if creates else to.to_bytes(20, "big").hex(),
        "value": rng.choice((0, 0, 0, 1, 10**18)),
        "data": data.hex(),
        "gas": gas,
        "price": rng.choice((7, 7, 10, 1000)),
        "access_list": [],
        "authorizations": [],
    }
    if kind and rng.random() < 0.5:
        item["access_list"] = [
            (
                rng.choice((*CONTRACTS, ABSENT, DELEGATED, 1, COINBASE)).to_bytes(20, "big").hex(),
                [rng.randrange(4) for _ in range(rng.randrange(4))],
            )
            for _ in range(rng.randrange(1, 4))
        ]
    if kind == 4:
        item["authorizations"] = [
            _authorization(rng, nonces, sender) for _ in range(rng.choice((1, 1, 2, 4)))
        ]
    return item


def _authorization(rng: random.Random, nonces: dict[int, int], sender: int) -> tuple[int, str, int, str]:
    authority = rng.choice((*SENDERS, DELEGATED, DELEGATED, ABSENT, EMPTY, CONTRACTS[0], 0))
    nonce = {**nonces, DELEGATED: 1}.get(authority, 0) + (1 if authority == sender else 0)
    if rng.random() < 0.15:
        nonce += rng.choice((1, 2**64 - 1 - nonce))
    target = rng.choice((*CONTRACTS, *CONTRACTS, 0, 1, DELEGATED, ABSENT))
    chain_id = rng.choice((0, CHAIN_ID, CHAIN_ID, CHAIN_ID, 11))
    return chain_id, target.to_bytes(20, "big").hex(), nonce, hex(authority)
