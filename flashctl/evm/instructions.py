"""The instructions that touch more than the stack: memory, storage, accounts, logs.

Both tiers call these, so gas and side effects have one definition. A compiled superblock pays its static gas
when it is left, not instruction by instruction; what it owes so far is `owed`, and functions that read the
state or the remaining gas take it into account, so that no state is read that the frame cannot pay for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from flashctl.eth.keccak import keccak256
from flashctl.evm.frame import Frame
from flashctl.evm.halts import GasOverflow, OutOfGas, ReturnDataOutOfBounds, WriteProtection
from flashctl.evm.state import EMPTY_ACCOUNT, Account, LogEntry

__all__ = [
    "ADDRESS_MASK",
    "SIGN_BIT",
    "WORD_MASK",
    "access_account",
    "access_code",
    "block_hash",
    "charge",
    "code_hash_of",
    "copy_memory",
    "copy_return_data",
    "copy_to_memory",
    "expand",
    "exponentiate",
    "keccak_memory",
    "keccak_pair",
    "keccak_word",
    "load_word",
    "log",
    "read_memory",
    "self_balance",
    "self_destruct",
    "shift_right_signed",
    "sign_extend",
    "signed",
    "signed_divide",
    "signed_modulo",
    "store_slot",
    "store_transient",
    "warm_slot",
]

WORD_MASK: Final = 2**256 - 1
ADDRESS_MASK: Final = 2**160 - 1
SIGN_BIT: Final = 2**255
MODULUS: Final = 2**256

COLD_ACCOUNT: Final = 2_600 - 100
"""EIP-2929, on top of the warm price that is part of the static gas."""
COLD_SLOT: Final = 2_100 - 100
SSTORE_SENTRY: Final = 2_300
"""SSTORE fails with no more gas than a stipend (EIP-2200), so a plain transfer cannot re-enter and write."""
SSTORE_SET: Final = 20_000
SSTORE_RESET: Final = 2_900
SSTORE_WARM: Final = 100
CLEAR_REFUND: Final = 4_800
"""For zeroing a slot (EIP-3529)."""
NEW_ACCOUNT: Final = 25_000
WORD_COPY: Final = 3
WORD_HASH: Final = 6
LOG_BYTE: Final = 8
EXPONENT_BYTE: Final = 50

HASHES_KEPT: Final = 1 << 15
"""Keys of mappings repeat: balances of the same pools and accounts. Answering from a dictionary takes 0.2
us, hashing 1.2 us with safe-pysha3 and 5 us with pycryptodome. About 8 MiB when full."""

_hashes: dict[bytes, int] = {}
_pair_hashes: dict[tuple[int, int], int] = {}

SMALL_MEMORY: Final = 512
"""Words of memory whose price is read from a table; nearly all frames stay below."""

MAX_MEMORY: Final = 2**64 - 32
"""Bytes of memory that 64 bits can count in whole words. No gas limit comes near."""

_GAS_OF_ALL_MEMORY: Final = 2 * (MAX_MEMORY >> 5)
"""The least that copying that much costs. Only a larger size makes a step cost more than this."""

_MEMORY_GAS: Final = tuple(3 * words + words * words // 512 for words in range(SMALL_MEMORY))


_log_entry: Final[Callable[[tuple[int, tuple[int, ...], bytes]], LogEntry]] = partial(tuple.__new__, LogEntry)
"""`LogEntry` without its constructor, which takes four times as long."""


# -- gas and memory


def charge(frame: Frame, amount: int) -> None:
    """Take gas from the frame."""
    frame.gas -= amount
    if frame.gas < 0:
        raise OutOfGas if amount < _GAS_OF_ALL_MEMORY else GasOverflow


def expand(frame: Frame, end: int) -> None:
    """Grow memory to hold `end` bytes, which is more than it does. The quadratic price is what bounds its
    size."""
    memory = frame.memory
    old = len(memory) >> 5
    words = (end + 31) >> 5
    if words < SMALL_MEMORY:
        frame.gas -= _MEMORY_GAS[words] - _MEMORY_GAS[old]
    else:
        frame.gas -= 3 * (words - old) + words * words // 512 - old * old // 512
    if frame.gas < 0:
        raise OutOfGas if end <= MAX_MEMORY else GasOverflow
    memory += bytes((words - old) << 5)


def read_memory(frame: Frame, offset: int, size: int) -> bytes:
    """A copy of a piece of memory; an empty piece expands nothing wherever it lies."""
    if not size:
        return b""
    end, memory = offset + size, frame.memory
    if end > len(memory):
        expand(frame, end)
    return bytes(memory[offset:end])


def copy_to_memory(frame: Frame, target: int, source_offset: int, size: int, source: bytes) -> None:
    """CALLDATACOPY, CODECOPY, EXTCODECOPY: zeros follow the end of the source."""
    if not size:
        return
    charge(frame, WORD_COPY * ((size + 31) >> 5))
    end = target + size
    if end > len(frame.memory):
        expand(frame, end)
    piece = source[source_offset : source_offset + size]
    frame.memory[target:end] = piece if len(piece) == size else piece.ljust(size, b"\0")


def copy_return_data(frame: Frame, target: int, source_offset: int, size: int) -> None:
    """RETURNDATACOPY: reading past the end is an error (EIP-211)."""
    if source_offset + size > len(frame.returned):
        raise ReturnDataOutOfBounds
    copy_to_memory(frame, target, source_offset, size, frame.returned)


def copy_memory(frame: Frame, target: int, source: int, size: int) -> None:
    """MCOPY (EIP-5656)."""
    if not size:
        return
    charge(frame, WORD_COPY * ((size + 31) >> 5))
    end = max(target, source) + size
    if end > len(frame.memory):
        expand(frame, end)
    memory = frame.memory
    memory[target : target + size] = memory[source : source + size]


def load_word(data: bytes, offset: int) -> int:
    """CALLDATALOAD: 32 bytes, zeros past the end."""
    return int.from_bytes(data[offset : offset + 32].ljust(32, b"\0"), "big")


def keccak_word(data: bytes) -> int:
    """Keccak-256 as a word, from a table if the input is the size of a mapping key."""
    if len(data) > 64:
        return int.from_bytes(keccak256(data), "big")
    word = _hashes.get(data)
    if word is None:
        if len(_hashes) >= HASHES_KEPT:
            _hashes.clear()
        word = _hashes[data] = int.from_bytes(keccak256(data), "big")
    return word


def keccak_pair(first: int, second: int) -> int:
    """Keccak-256 of two words, from a table: where a mapping keeps a key's value."""
    pair = (first, second)
    word = _pair_hashes.get(pair)
    if word is None:
        if len(_pair_hashes) >= HASHES_KEPT:
            _pair_hashes.clear()
        word = _pair_hashes[pair] = int.from_bytes(
            keccak256((first << 256 | second).to_bytes(64, "big")), "big"
        )
    return word


def keccak_memory(frame: Frame, offset: int, size: int) -> int:
    """KECCAK256."""
    frame.gas -= WORD_HASH * ((size + 31) >> 5)
    if frame.gas < 0:
        raise OutOfGas
    return keccak_word(read_memory(frame, offset, size))


# -- arithmetic that is more than one expression


def signed(word: int) -> int:
    """The word in two's complement."""
    return word - MODULUS if word & SIGN_BIT else word


def signed_divide(dividend: int, divisor: int) -> int:
    """SDIV: rounds towards zero, where Python rounds down."""
    if not divisor:
        return 0
    a, b = signed(dividend), signed(divisor)
    quotient = abs(a) // abs(b)
    return (-quotient if (a < 0) != (b < 0) else quotient) & WORD_MASK


def signed_modulo(dividend: int, divisor: int) -> int:
    """SMOD: takes the sign of the dividend."""
    if not divisor:
        return 0
    a = signed(dividend)
    remainder = abs(a) % abs(signed(divisor))
    return (-remainder if a < 0 else remainder) & WORD_MASK


def sign_extend(byte: int, word: int) -> int:
    """SIGNEXTEND: repeats the sign of the number that ends at `byte`, counted from the lowest."""
    if byte > 30:
        return word
    bits = 8 * byte + 8
    low = word & ((1 << bits) - 1)
    return low | (WORD_MASK >> bits << bits) if low >> (bits - 1) else low


def shift_right_signed(shift: int, word: int) -> int:
    """SAR (EIP-145)."""
    return (signed(word) >> min(shift, 256)) & WORD_MASK


def exponentiate(frame: Frame, base: int, exponent: int) -> int:
    """EXP: 50 gas for every byte of the exponent (EIP-160)."""
    frame.gas -= EXPONENT_BYTE * ((exponent.bit_length() + 7) >> 3)
    if frame.gas < 0:
        raise OutOfGas
    return pow(base, exponent, MODULUS)


# -- storage


def warm_slot(frame: Frame, slot: int, owed: int) -> int:
    """SLOAD of a slot that is not warm."""
    state = frame.state
    if not state.is_listed(frame.address, slot):
        frame.gas -= COLD_SLOT
    if frame.gas < owed:
        raise OutOfGas
    return state.warm_slot(frame.address, slot)


def store_slot(frame: Frame, slot: int, value: int, owed: int) -> None:
    """SSTORE, priced by the original, the present and the new value (EIP-2200, 2929, 3529)."""
    if frame.is_static:
        raise WriteProtection
    if frame.gas - owed <= SSTORE_SENTRY:
        raise OutOfGas
    state, slots = frame.state, frame.slots
    current = slots.get(slot)
    if current is None:
        if not state.is_listed(frame.address, slot):
            frame.gas -= COLD_SLOT + SSTORE_WARM
        current = state.warm_slot(frame.address, slot)
    if value == current:
        charge(frame, SSTORE_WARM)
        return
    original = frame.originals.get(slot, 0)
    if current == original:
        frame.gas -= SSTORE_RESET if original else SSTORE_SET
        if frame.gas < 0:
            raise OutOfGas
        if original and not value:
            state.refund += CLEAR_REFUND
    else:
        charge(frame, SSTORE_WARM)
        if original:
            if not current:
                state.refund -= CLEAR_REFUND
            elif not value:
                state.refund += CLEAR_REFUND
        if value == original:
            state.refund += SSTORE_RESET - SSTORE_WARM if original else SSTORE_SET - SSTORE_WARM
    state.undo.append((slots, slot, current))
    slots[slot] = value


def store_transient(frame: Frame, slot: int, value: int) -> None:
    """TSTORE (EIP-1153)."""
    if frame.is_static:
        raise WriteProtection
    frame.state.write_transient(frame.address, slot, value)


# -- accounts and the block


def access_account(frame: Frame, address: int, owed: int) -> Account:
    """An account by address, paying for a cold one: BALANCE and the first step of the others."""
    state = frame.state
    if not state.mark(state.warm, address):
        frame.gas -= COLD_ACCOUNT
    if frame.gas < owed:
        raise OutOfGas
    return state.get_account(address)


def access_code(frame: Frame, address: int, owed: int) -> bytes:
    """The code at an address: EXTCODESIZE, EXTCODECOPY. A delegation designator is returned as it is
    (EIP-7702)."""
    code_hash = access_account(frame, address, owed).code_hash
    if code_hash == EMPTY_ACCOUNT.code_hash:
        return b""
    return frame.context.codes.get(code_hash, frame.state.code).raw


def code_hash_of(frame: Frame, address: int, owed: int) -> int:
    """EXTCODEHASH: zero for an empty account (EIP-1052)."""
    account = access_account(frame, address, owed)
    return 0 if account == EMPTY_ACCOUNT else int.from_bytes(account.code_hash, "big")


def self_balance(frame: Frame) -> int:
    """SELFBALANCE, in wei. Overridden balances can add up to more than a word: they wrap, as in BALANCE."""
    return frame.state.get_account(frame.address).balance & WORD_MASK


def block_hash(frame: Frame, number: int) -> int:
    """BLOCKHASH: of the last 256 blocks, else zero."""
    block = frame.block
    return block.block_hash(number) if block.number - 256 <= number < block.number else 0


def log(frame: Frame, offset: int, size: int, *topics: int) -> None:
    """LOG0 to LOG4."""
    if frame.is_static:
        raise WriteProtection
    charge(frame, LOG_BYTE * size)
    frame.state.logs.append(_log_entry((frame.address, topics, read_memory(frame, offset, size))))


def self_destruct(frame: Frame, beneficiary: int, owed: int) -> None:
    """SELFDESTRUCT: sends the balance; deletes the contract where the fork still does (EIP-6780)."""
    if frame.is_static:
        raise WriteProtection
    state, address = frame.state, frame.address
    if not state.mark(state.warm, beneficiary):
        frame.gas -= COLD_ACCOUNT + SSTORE_WARM
    if frame.gas < owed:
        raise OutOfGas
    balance = self_balance(frame)
    if balance and state.get_account(beneficiary) == EMPTY_ACCOUNT:
        frame.gas -= NEW_ACCOUNT
        if frame.gas < owed:
            raise OutOfGas
    deletes = frame.context.rules.selfdestruct_deletes_any or address in state.created
    if beneficiary != address:
        state.transfer(address, beneficiary, balance)
    elif deletes:
        state.add_balance(address, -balance)
    if not balance:
        state.touch(beneficiary)
    if deletes:
        state.mark(state.destroyed, address)
