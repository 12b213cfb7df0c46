"""The stepping tier: the same results as the others, and every instruction and call told as they happened."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from support.assembler import assemble
from support.eels import Oracle, oracle_python
from support.evm_runs import BLOCK, CALLER, CONTRACT, PRAGUE_RULES, state_with
from support.programs import make_case
from support.reference import reference_path
from support.spec_runs import RULES, Json, expected, run_case_on
from support.statetests import cases, pre_world, run_case

from flashctl.evm.code import CodeCache
from flashctl.evm.forks import CANCUN, InstructionSet
from flashctl.evm.frame import Frame
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.machine import execute_message
from flashctl.evm.message import Deadline, Message, MessageResult, TxEnv
from flashctl.evm.precompiles import tables
from flashctl.evm.state import JournaledState, LogEntry
from flashctl.evm.tracers.struct_log import StructLog, StructLogger, StructLogOptions
from flashctl.evm.tracers.tracer import Call, CallEnd, Tracer
from flashctl.evm.tracing import Stepper

EVERYTHING = StructLogOptions(memory=True, return_data=True)
CALLEE = CONTRACT + 1
NOTHING_THERE = 0xBEEF


@dataclass
class Recorder(Tracer):
    """Writes everything down."""

    steps: list[tuple[int, int, int]] = field(default_factory=list)
    """Depth, place, opcode."""
    costs: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ends: list[CallEnd] = field(default_factory=list)
    logs: list[tuple[LogEntry, int]] = field(default_factory=list)
    open: int = 0

    def step(self, frame: Frame, pc: int, opcode: int) -> None:
        assert frame.depth == self.open
        assert len(self.steps) == len(self.costs)
        self.steps.append((frame.depth, pc, opcode))

    def after(self, frame: Frame, gas_cost: int, error: str | None) -> None:
        self.costs.append(gas_cost)
        if error is not None:
            self.errors.append(error)

    def log(self, entry: LogEntry, index: int) -> None:
        self.logs.append((entry, index))

    def enter(self, call: Call) -> None:
        self.open += 1
        self.calls.append(call)

    def leave(self, end: CallEnd) -> None:
        self.open -= 1
        self.ends.append(end)


@dataclass(frozen=True)
class Traced:
    """A message under the recorder."""

    result: MessageResult
    told: Recorder
    end: CallEnd | None
    state: JournaledState


def trace(
    *codes: bytes, gas: int = 1_000_000, value: int = 0, creates: bytes | None = None, own_balance: int = 0
) -> Traced:
    """Call the first of these contracts, or create one from code."""
    state = state_with(*codes)
    state.begin_transaction()
    state.add_balance(CONTRACT, own_balance)
    state.finish_transaction()
    told = Recorder()
    stepper = Stepper(PRAGUE_RULES.instructions, told)
    to = CONTRACT if creates is None else None
    message = Message(CALLER, to, value, creates or b"", gas)
    result = execute_message(state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=stepper.codes)
    return Traced(result, told, stepper.finish(result.succeeded), state)


def call(
    kind: str, to: int, *, value: int | None = 0, gas: int = 50_000, in_size: int = 0, out_size: int = 0
) -> str:
    """A call instruction with its operands."""
    shown = "" if value is None else f"PUSH32 {value}"
    return f"PUSH2 {out_size} PUSH1 0 PUSH2 {in_size} PUSH1 0 {shown} PUSH20 {to} PUSH4 {gas} {kind} POP"


# -- against other implementations


def struct_logs(case: Json) -> tuple[Json, list[list[StructLog]]]:
    """What comes of a case, and the struct log of each of its transactions."""
    logs: list[list[StructLog]] = []

    def codes(instructions: InstructionSet) -> CodeCache:
        logs.append([])
        return Stepper(instructions, StructLogger(EVERYTHING, instructions, logs[-1].append)).codes

    return run_case_on(case, codes), logs


def same_step(theirs: Json, ours: StructLog, refunded: int) -> bool:
    """Whether EELS and we say the same of an instruction.

    Where it fails, EELS' cost is what the instruction asked for first, ours what it had asked for by then.
    """
    if (
        theirs["pc"] != ours.pc
        or int(theirs["gas"], 16) != ours.gas
        or theirs["depth"] != ours.depth
        or [int(word, 16) for word in theirs["stack"]] != list(ours.stack or ())
        or bytes.fromhex(theirs.get("memory", "0x")[2:]) != ours.memory
        or bytes.fromhex(theirs["returnData"][2:]) != ours.return_data
    ):
        return False
    if ours.error is not None:
        return "error" in theirs
    return int(theirs["gasCost"], 16) == ours.gas_cost and theirs["refund"] == ours.refund - refunded


@pytest.mark.parametrize("fork", RULES)
def test_every_instruction_is_what_the_specification_says(fork: str) -> None:
    """EELS counts what EIP-7702 gives back at the end, go-ethereum and we at the start."""
    wrong, count = [], 0
    with Oracle(oracle_python()) as oracle:
        for seed in range(40):
            case = make_case(seed, fork) | {"traced": True}
            oracle.ask(case)
            result, logs = struct_logs(case)
            right = oracle.answer()
            steps = [outcome.pop("steps", []) for outcome in right["outcomes"]]
            assert result == expected(right), seed
            for theirs, ours in zip(steps, logs, strict=True):
                refunded = ours[0].refund if ours else 0
                pairs = list(zip(theirs, ours, strict=True))
                count += len(pairs)
                wrong += [(seed, at) for at, pair in enumerate(pairs) if not same_step(*pair, refunded)]
    assert wrong == []
    assert count > 300


def test_state_tests_come_out_the_same_under_a_tracer() -> None:
    rules = CANCUN.with_precompiles(tables.CANCUN)
    short = [
        case
        for case in cases(reference_path("statetests/cancun-dev.jsonl.xz"))
        if case.tx.gas_limit < 1_000_000 and "vmPerformance" not in case.name
    ]
    wrong = []
    for case in random.Random(20).sample(short, 300):
        told = Recorder()
        stepper = Stepper(rules.instructions, told)
        result = run_case(case, rules, stepper.codes, pre_world(case.pre))
        if (result.root, result.logs_hash) != (case.expected_root, case.expected_logs):
            wrong.append(case.name)
        assert told.open == 0, case.name
        assert len(told.steps) == len(told.costs), case.name
        assert len(told.ends) == len(told.calls), case.name
    assert wrong == []


# -- calls without code, which the machine settles at once


def test_a_call_to_code_is_told_with_what_it_was_given_and_used() -> None:
    callee = assemble("PUSH1 7 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN")
    traced = trace(assemble(call("CALL", CALLEE, in_size=4, out_size=32) + " STOP"), callee)
    assert traced.told.calls == [Call("CALL", CONTRACT, CALLEE, 0, bytes(4), 50_000)]
    assert traced.told.ends == [CallEnd((7).to_bytes(32, "big"), 3 + 3 + 6 + 3 + 3, None)]
    depths = [depth for depth, _, _ in traced.told.steps]
    assert depths == [0] * 8 + [1] * 6 + [0] * 2
    assert traced.told.costs[7] == 2_600 + 3 + 50_000, "access, a word of memory, what was passed on"


def test_ether_for_an_account_without_code() -> None:
    """Its balance afterwards no longer covers the value: that is no refusal."""
    traced = trace(assemble(call("CALL", NOTHING_THERE, value=7) + " STOP"), own_balance=10)
    assert traced.told.calls == [Call("CALL", CONTRACT, NOTHING_THERE, 7, b"", 52_300)]
    assert traced.told.ends == [CallEnd(b"", 0, None)]
    assert traced.told.costs[7] == 2_600 + 9_000 + 25_000 + 50_000
    assert traced.state.get_account(NOTHING_THERE).balance == 7


@pytest.mark.parametrize("kind", ["CALL", "CALLCODE"])
def test_ether_that_is_not_there(kind: str) -> None:
    traced = trace(assemble(call(kind, CALLEE, value=11) + " STOP"), b"\x00", own_balance=10)
    assert [each.gas for each in traced.told.calls] == [52_300]
    assert traced.told.ends == [CallEnd(b"", 0, "insufficient balance for transfer")]


@pytest.mark.parametrize(
    ("gas", "in_size", "end"),
    [
        (50_000, 32, CallEnd(bytes(32), 18, None)),
        (17, 32, CallEnd(b"", 17, "out of gas")),
        (18, 32, CallEnd(bytes(32), 18, None)),
    ],
)
def test_a_precompile_is_a_call(gas: int, in_size: int, end: CallEnd) -> None:
    traced = trace(assemble(call("STATICCALL", 4, value=None, gas=gas, in_size=in_size) + " STOP"))
    assert traced.told.calls == [Call("STATICCALL", CONTRACT, 4, None, bytes(in_size), gas)]
    assert traced.told.ends == [end]
    assert traced.told.costs[6] == 100 + 3 + gas


def test_a_precompile_that_fails_takes_all_it_was_given() -> None:
    """All but a 64th, which its cost alone would not tell."""
    code = assemble(call("CALL", 9, value=1, gas=2**32 - 1, in_size=5, out_size=64) + " STOP")
    traced = trace(code, gas=100_000, own_balance=1)
    rest = 100_000 - 7 * 3 - 100 - 6 - 9_000 - 25_000
    given = rest - rest // 64
    assert traced.told.calls == [Call("CALL", CONTRACT, 9, 1, bytes(5), given + 2_300)]
    assert traced.told.ends == [CallEnd(b"", given + 2_300, "precompile failed")]
    assert traced.told.costs[7] == 100 + 6 + 9_000 + 25_000 + given


def test_calls_end_at_depth_1024() -> None:
    code = assemble(f"PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH1 0 PUSH20 {CONTRACT} GAS CALL STOP")
    traced = trace(code, gas=10**15)
    assert len(traced.told.calls) == 1_025
    assert traced.told.ends[0].error == "max call depth exceeded"
    assert {end.error for end in traced.told.ends[1:]} == {None}


# -- creations


def test_a_creation_is_told_with_its_code() -> None:
    init = assemble("PUSH1 1 PUSH1 0 RETURN")
    code = assemble(f"PUSH5 0x{init.hex()} PUSH1 0 MSTORE PUSH1 5 PUSH1 27 PUSH1 3 CREATE STOP")
    traced = trace(code, own_balance=3)
    made = traced.told.calls[0]
    assert made[:2] == ("CREATE", CONTRACT)
    assert (made.value, made.data) == (3, init)
    assert traced.told.ends == [CallEnd(b"\x00", 3 + 3 + 3 + 200, None)]
    assert traced.state.code_of(made.to) == b"\x00"
    assert traced.told.costs[6] == 32_000 + 2


def create2(init: bytes, value: int = 0) -> str:
    return (
        f"PUSH32 0x{init.ljust(32, bytes(1)).hex()} PUSH1 0 MSTORE "
        f"PUSH1 9 PUSH1 {len(init)} PUSH1 0 PUSH1 {value} CREATE2 POP"
    )


@pytest.mark.parametrize(
    ("init", "value", "error"),
    [
        ("PUSH1 0xef PUSH1 0 MSTORE8 PUSH1 1 PUSH1 0 RETURN", 0, "invalid code: must not begin with 0xef"),
        ("PUSH2 24577 PUSH1 0 RETURN", 0, "max code size exceeded"),
        ("PUSH2 24000 PUSH1 0 RETURN", 0, "contract creation code storage out of gas"),
        ("PUSH1 0 PUSH1 0 REVERT", 0, "execution reverted"),
        ("ADD", 0, "stack underflow (0 <=> 2)"),
        ("STOP", 9, "insufficient balance for transfer"),
        ("STOP", 0, None),
    ],
)
def test_creations_that_fail(init: str, value: int, error: str | None) -> None:
    traced = trace(assemble(create2(assemble(init), value) + " STOP"), gas=1_000_000)
    assert [end.error for end in traced.told.ends] == [error]
    assert traced.result.succeeded


def test_the_second_creation_at_an_address_fails_with_all_its_gas() -> None:
    one = create2(b"\x00")
    traced = trace(assemble(f"{one} {one} STOP"), gas=200_000)
    first, second = traced.told.calls
    assert first.gas > second.gas
    assert [end.error for end in traced.told.ends] == [None, "contract address collision"]
    assert traced.told.ends[1].gas_used == second.gas
    # One more for the STOP that the init code is.
    assert traced.told.costs[7] == traced.told.costs[17] == 32_000 + 2 + 6


def test_empty_init_code_has_no_instructions() -> None:
    traced = trace(assemble("PUSH1 0 PUSH1 0 PUSH1 0 CREATE STOP"))
    assert len(traced.told.steps) == 5
    assert traced.told.ends == [CallEnd(b"", 0, None)]


def test_a_transaction_that_creates_returns_its_code() -> None:
    traced = trace(creates=assemble("PUSH1 0xaa PUSH1 0 MSTORE8 PUSH1 1 PUSH1 0 RETURN"))
    assert traced.end == CallEnd(b"\xaa", 3 * 4 + 3 + 3 + 200, None)
    failed = trace(creates=assemble("PUSH1 0xef PUSH1 0 MSTORE8 PUSH1 1 PUSH1 0 RETURN"))
    assert failed.end == CallEnd(b"", 1_000_000, "invalid code: must not begin with 0xef")


# -- how frames end


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("PUSH1 3 JUMP", "invalid jump destination"),
        ("POP", "stack underflow (0 <=> 1)"),
        ("again: PUSH1 0 @again JUMP", "stack limit reached 1024 (1023)"),
        ("INVALID", "invalid opcode: INVALID"),
        ("PUSH1 1 PUSH1 0 PUSH1 0 RETURNDATACOPY", "return data out of bounds"),
        ("again: @again JUMP", "out of gas"),
        (f"PUSH8 {2**63} MLOAD", "out of gas"),
    ],
)
def test_halts_have_the_words_that_tools_know(code: str, error: str) -> None:
    traced = trace(assemble(code), gas=100_000)
    assert traced.told.errors == [error]
    assert traced.end == CallEnd(b"", 100_000, error)
    assert len(traced.told.costs) == len(traced.told.steps)
    assert max(traced.told.costs) < 2**64, "what a client's number holds"


def test_an_undefined_byte_is_named() -> None:
    assert trace(b"\x0c").told.errors == ["invalid opcode: opcode 0xc not defined"]


def test_writing_in_a_static_call() -> None:
    for write in ("PUSH1 1 PUSH1 0 SSTORE", call("CALL", 4, value=1), "PUSH1 0 PUSH1 0 PUSH1 0 CREATE"):
        traced = trace(assemble(call("STATICCALL", CALLEE, value=None) + " STOP"), assemble(write))
        assert traced.told.ends == [CallEnd(b"", 50_000, "write protection")]


def test_a_revert_is_no_error_of_its_instruction() -> None:
    traced = trace(assemble("PUSH1 9 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 REVERT"))
    assert traced.told.errors == []
    assert traced.end is not None
    assert traced.end.is_revert
    assert traced.end.output == (9).to_bytes(32, "big")


def test_selfdestruct_is_a_call() -> None:
    traced = trace(assemble(f"PUSH20 {NOTHING_THERE} SELFDESTRUCT"), own_balance=5)
    assert traced.told.calls == [Call("SELFDESTRUCT", CONTRACT, NOTHING_THERE, 5, b"", 0)]
    assert traced.told.ends == [CallEnd(b"", 0, None)]
    assert traced.told.costs == [3, 5_000 + 2_600 + 25_000]


def test_logs_are_counted_over_the_transaction() -> None:
    callee = assemble("PUSH1 0 PUSH1 0 LOG0 PUSH1 0 PUSH1 0 REVERT")
    code = assemble(f"PUSH1 0 PUSH1 0 LOG0 {call('CALL', CALLEE)} PUSH1 5 PUSH1 0 PUSH1 0 LOG1 STOP")
    traced = trace(code, callee)
    assert [(entry.address, entry.topics, index) for entry, index in traced.told.logs] == [
        (CONTRACT, (), 0),
        (CALLEE, (), 1),
        (CONTRACT, (5,), 1),
    ]


def test_an_endless_loop_meets_its_deadline() -> None:
    state = state_with(assemble("again: @again JUMP"))
    stepper = Stepper(PRAGUE_RULES.instructions, Recorder())
    message = Message(CALLER, CONTRACT, 0, b"", 10**15)
    with pytest.raises(ExecutionTimeout):
        execute_message(
            state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, deadline=Deadline(0.05), codes=stepper.codes
        )


# -- the struct logger


def struct_log_of(code: bytes, options: StructLogOptions) -> list[StructLog]:
    state = state_with(code)
    entries: list[StructLog] = []
    stepper = Stepper(
        PRAGUE_RULES.instructions, StructLogger(options, PRAGUE_RULES.instructions, entries.append)
    )
    message = Message(CALLER, CONTRACT, 0, b"", 100_000)
    execute_message(state, BLOCK, TxEnv(CALLER), PRAGUE_RULES, message, codes=stepper.codes)
    return entries


STORES = assemble("PUSH1 5 PUSH1 1 SSTORE PUSH1 2 SLOAD POP PUSH1 1 SLOAD PUSH1 0 PUSH1 1 SSTORE STOP")


def test_storage_is_what_was_seen_so_far() -> None:
    entries = struct_log_of(STORES, StructLogOptions())
    assert [entry.storage for entry in entries if entry.storage is not None] == [
        {1: 5},
        {1: 5, 2: 0},
        {1: 5, 2: 0},
        {1: 0, 2: 0},
    ]
    assert [entry.refund for entry in entries[-2:]] == [19_900, 19_900], "given at SSTORE itself"


def test_what_is_not_asked_for_is_left_out() -> None:
    entries = struct_log_of(STORES, StructLogOptions(stack=False, storage=False))
    assert {(entry.stack, entry.memory, entry.storage, entry.return_data) for entry in entries} == {
        (None, None, None, None)
    }


def test_a_limit_ends_the_log_not_the_execution() -> None:
    entries = struct_log_of(STORES, StructLogOptions(limit=3))
    assert [entry.op for entry in entries] == ["PUSH1", "PUSH1", "SSTORE"]
