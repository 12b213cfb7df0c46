"""What the compiler generates, when, and how much of it is kept."""

from __future__ import annotations

import io
import keyword
import random
import tokenize

import pytest
from support.assembler import assemble
from support.evm_runs import BLOCK, CALLER, CONTRACT, PRAGUE_RULES, TIERS, run_code, state_with
from support.programs import program

from flashctl.evm.code import Code, CodeCache, TierPolicy
from flashctl.evm.forks import OSAKA, PRAGUE
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit import compiler
from flashctl.evm.jit.builder import SuperblockBuilder
from flashctl.evm.jit.compiler import compile_superblock
from flashctl.evm.jit.emitters import EMITTERS
from flashctl.evm.machine import compiler_policy, default_policy, execute_message
from flashctl.evm.message import Message, TxEnv

COUNTDOWN = assemble("PUSH2 1000 again: PUSH1 1 SWAP1 SUB DUP1 @again JUMPI STOP")


def source_of(raw: bytes, start: int = 0) -> str:
    builder = SuperblockBuilder(Code(raw, OSAKA.instructions, compiler_policy()), start)
    builder.build(EMITTERS)
    return builder.source()


def is_made_here(name: str) -> bool:
    """A local of the superblock: i0, v1, k2, or one of the few with a name of their own."""
    locals_ = {"f", "st", "mem", "e", "data", "slots", "blobs", "jumpdests", "_", "block"}
    return name in locals_ or (name[0] in "ivk" and name[1:].isdigit())


ATTRIBUTES = {
    "address",
    "append",
    "base_fee",
    "bit_length",
    "blob_base_fee",
    "blob_hashes",
    "block",
    "caller",
    "chain_id",
    "code",
    "coinbase",
    "data",
    "gas",
    "gas_limit",
    "gas_price",
    "get",
    "number",
    "origin",
    "output",
    "pop",
    "prev_randao",
    "raw",
    "returned",
    "slots",
    "state",
    "timestamp",
    "to_bytes",
    "transient",
    "tx",
    "value",
}


def test_source_holds_nothing_but_integers_and_our_own_names() -> None:
    """Bytecode is input from anybody; no byte of it may reach Python except as a formatted integer."""
    rng = random.Random(3)
    known = set(compiler._GLOBALS) | ATTRIBUTES | {"bytes", "len", "None", "pow", "range"}
    for _ in range(300):
        raw = program(rng) if rng.random() < 0.7 else rng.randbytes(200)
        for token in tokenize.generate_tokens(io.StringIO(source_of(raw)).readline):
            if token.type == tokenize.NUMBER:
                assert token.string.isdigit()
            elif token.type == tokenize.STRING:
                assert token.string == "'big'"
            elif token.type == tokenize.NAME:
                name = token.string
                assert keyword.iskeyword(name) or name in known or is_made_here(name), name


def test_a_loop_goes_round_inside_its_function() -> None:
    text = source_of(COUNTDOWN, 3)
    assert "for _ in TURNS" in text
    assert run_code(COUNTDOWN, "compiler").gas_left == run_code(COUNTDOWN, "interpreter").gas_left


def test_address_checks_make_masks_superfluous() -> None:
    mask = "PUSH20 " + str(2**160 - 1)
    text = source_of(assemble(f"CALLER {mask} AND PUSH1 0 SSTORE STOP"))
    assert "&" not in text
    checked = (
        f"PUSH1 0 CALLDATALOAD DUP1 {mask} AND DUP2 EQ @ok JUMPI INVALID ok: {mask} AND PUSH1 0 SSTORE STOP"
    )
    assert source_of(assemble(checked)).count("&") == 1


def test_the_same_key_is_hashed_once() -> None:
    key = "CALLER PUSH1 0 MSTORE PUSH1 3 PUSH1 32 MSTORE PUSH1 64 PUSH1 0 KECCAK256 "
    text = source_of(assemble(key + "SLOAD PUSH1 1 ADD " + key + "SSTORE STOP"))
    assert text.count("keccak_pair") == 1
    assert "mem[" not in text, "the scratch words are never looked at"


def test_a_pointer_may_hit_a_word_that_is_not_written_yet() -> None:
    """Stores at 64, then through a pointer that calldata gives, then loads both."""
    code = assemble(
        """
        PUSH1 7 PUSH1 64 MSTORE
        PUSH1 9 PUSH1 0 CALLDATALOAD MSTORE
        PUSH1 64 MLOAD PUSH1 0 CALLDATALOAD MLOAD
        PUSH1 0 MSTORE PUSH1 32 MSTORE PUSH1 64 PUSH1 0 RETURN
        """
    )
    for pointer in (0, 33, 63, 64, 65, 95, 96, 97, 128, 1000):
        data = pointer.to_bytes(32, "big")
        results = {tier: run_code(code, tier, data=data) for tier in ("interpreter", "compiler")}
        assert results["compiler"] == results["interpreter"], pointer


def test_code_seen_once_is_not_compiled() -> None:
    compiled: list[int] = []

    def watch(code: Code, start: int) -> tuple[object, int, int]:
        compiled.append(start)
        return compile_superblock(code, start)

    policy = TierPolicy(interpret, watch, default_policy().hot_after)  # type: ignore[arg-type]
    codes = CodeCache(PRAGUE.instructions, policy)
    straight = assemble("PUSH1 1 PUSH1 0 SSTORE STOP")
    state = state_with(straight, COUNTDOWN)

    def call(to: int) -> None:
        execute_message(
            state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, Message(CALLER, to, 0, b"", 100_000), codes=codes
        )

    call(CONTRACT)
    assert compiled == []
    call(CONTRACT + 1)
    assert compiled == [3], "the loop became hot while it ran"
    for _ in range(policy.hot_after):
        call(CONTRACT)
    assert compiled == [3, 0]


def test_code_made_to_be_compiled_everywhere_is_interpreted_in_the_end() -> None:
    """2,000 places that all become hot, each the start of a long superblock."""
    code = Code(bytes.fromhex("5b3050") * 2_000 + b"\x00", PRAGUE.instructions, compiler_policy())
    compiled = 0
    for place in range(0, 6_000, 3):
        code.superblocks[place]
        if place not in code.superblocks:
            break
        compiled += 1
    assert 100 < compiled < 1_000


def test_the_cache_stays_within_its_bound() -> None:
    bound = 300_000
    codes = CodeCache(PRAGUE.instructions, compiler_policy(), bound)
    for index in range(200):
        raw = COUNTDOWN + index.to_bytes(2, "big") * 500
        state = state_with(raw)
        message = Message(CALLER, CONTRACT, 0, b"", 100_000)
        assert execute_message(state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=codes).succeeded
        assert codes.size <= bound
    assert 0 < codes.count < 200


def test_code_larger_than_the_cache_still_runs() -> None:
    codes = CodeCache(PRAGUE.instructions, compiler_policy(), 1_000)
    state = state_with(COUNTDOWN)
    message = Message(CALLER, CONTRACT, 0, b"", 100_000)
    assert execute_message(state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=codes).succeeded
    assert codes.size <= 1_000


def jumpdests_of(raw: bytes) -> set[int]:
    """As the Yellow Paper defines them (9.4.3): by walking over the code from its start."""
    found, at = set(), 0
    while at < len(raw):
        if raw[at] == 0x5B:
            found.add(at)
        at += raw[at] - 0x5E if 0x60 <= raw[at] < 0x80 else 1
    return found


@pytest.mark.parametrize(
    "alphabet",
    [
        (0x5B, 0x5B, 0x60, 0x61, 0x7F, 0x00),
        (0x5B, 0x5B, 0x5B, 0x7F),
        (0x5B, *range(0x5F, 0x80)),
        (0x5B, 0x5B, *range(256)),
    ],
    ids=["short and long pushes", "pushes that hide pushes", "nothing but pushes", "any byte"],
)
def test_jump_destinations_are_those_outside_push_data(alphabet: tuple[int, ...]) -> None:
    """Asked for in any order, also behind the end."""
    for seed in range(100):
        rng = random.Random(seed)
        raw = bytes(rng.choices(alphabet, k=rng.randrange(1_000)))
        code = Code(raw, PRAGUE.instructions, default_policy())
        places = list(range(len(raw) + 40))
        rng.shuffle(places)
        expected = jumpdests_of(raw)
        assert {place for place in places if code.is_jumpdest(place)} == expected
        assert code.jumpdests == expected


def test_decoding_notes_only_jump_destinations() -> None:
    """The interpreter learns some of them from where its blocks end."""
    rng = random.Random(11)
    for _ in range(200):
        raw = program(rng)
        codes = CodeCache(PRAGUE.instructions, TIERS["interpreter"])
        message = Message(CALLER, CONTRACT, 0, b"", 200_000)
        execute_message(state_with(raw), BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=codes)
        for code in codes._codes.values():
            assert code.jumpdests <= jumpdests_of(code.raw)
