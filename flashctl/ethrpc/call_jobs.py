"""The methods that execute and forget, as jobs: their input, and what they answer.

A job is small, can be pickled, and has its parameters as JSON text, so that reading 100,000 overridden slots
is done where the job runs. `perform` runs one on a state (`call_source.RunState`), in a thread of
this process or in a worker: the answers are the same.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.transactions import AccessListEntry
from flashctl.ethrpc.call_params import InvalidCall, simulation_param
from flashctl.ethrpc.call_source import RunState
from flashctl.ethrpc.simulate_run import simulation_json
from flashctl.ethrpc.trace_params import TracerOptions
from flashctl.ethrpc.trace_run import trace_call, trace_transactions
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.tracers.tracer import Allowance, TraceTooLarge
from flashctl.op.call import (
    CallResult,
    ExecutionFailed,
    ExecutionReverted,
    Simulation,
    call_output,
    create_access_list,
    estimate_gas,
    prepare_call,
)
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.replay import BlockReplay
from flashctl.op.simulate import SimulationBase
from flashctl.op.simulation_plan import SimulationRefused
from flashctl.op.transaction import TransactionRejected

__all__ = [
    "CALL_FAILURES",
    "MAX_TRACE_BYTES",
    "CallFailure",
    "CallJob",
    "ExecutionJob",
    "Setting",
    "SimulateJob",
    "TraceBlockJob",
    "TraceCallJob",
    "failure_told",
    "params_text",
    "perform",
]

MAX_TRACE_BYTES: Final = 64 * 2**20
"""Of one answer: 200,000 instructions with ten words on the stack. The largest transactions of OP Mainnet
with their whole stack do not fit, nor into what a client wants to parse; `callTracer` has them in KBs."""

CALL_FAILURES: Final = (ExecutionFailed, ExecutionTimeout, TraceTooLarge)
CallFailure: TypeAlias = ExecutionFailed | ExecutionTimeout | TraceTooLarge
"""How an execution ends without an answer."""


class Setting:
    """The chain and the block that a call believes to be in. Pickled once, however many calls are in it, and
    read once by each worker: that is half of what shipping a small call costs otherwise."""

    __slots__ = ("_packed", "config", "context")

    def __init__(self, config: ChainConfig, context: BlockContext) -> None:
        self.config: Final = config
        self.context: Final = context
        self._packed: bytes | None = None

    def __reduce__(self) -> tuple[Callable[[bytes], Setting], tuple[bytes]]:
        if self._packed is None:
            self._packed = pickle.dumps((self.config, self.context))
        return _setting, (self._packed,)


@lru_cache(maxsize=64)
def _setting(packed: bytes) -> Setting:
    return Setting(*pickle.loads(packed))


class CallJob(NamedTuple):
    """eth_call, eth_estimateGas or eth_createAccessList."""

    method: str
    params: bytes
    """The JSON list; the block it names is that of `setting`."""
    setting: Setting
    gas_cap: int

    @property
    def likeness(self) -> Hashable:
        """The same call. Not all calls of a function: Multicall3's is called for everything."""
        return self.method, hash(self.params)


class SimulateJob(NamedTuple):
    """eth_simulateV1."""

    params: bytes
    """A list of the first parameter."""
    config: ChainConfig
    header: Header
    """Of the block that the simulated ones stand on."""
    gas_cap: int

    @property
    def likeness(self) -> Hashable:
        """All alike."""
        return "eth_simulateV1"


class TraceCallJob(NamedTuple):
    """debug_traceCall."""

    params: bytes
    """The list that eth_call would have: transaction, block, state overrides, block overrides."""
    setting: Setting
    gas_cap: int
    options: TracerOptions

    @property
    def likeness(self) -> Hashable:
        """All alike."""
        return "debug_traceCall"


class TraceBlockJob(NamedTuple):
    """debug_traceTransaction, debug_traceBlockBy*: some transactions of a block, in order."""

    setting: Setting
    parent_timestamp: int
    """Of the block before, seconds."""
    envelopes: tuple[TxEnvelope, ...]
    """All up to the last one traced."""
    first: int
    """Index of the first one traced."""
    options: TracerOptions
    is_single: bool
    """Whether the answer is one trace, or a list of them with their transactions' hashes."""

    @property
    def likeness(self) -> Hashable:
        """The same block, as far."""
        return "debug_trace", self.setting.context.number, len(self.envelopes)


ExecutionJob: TypeAlias = CallJob | SimulateJob | TraceCallJob | TraceBlockJob


def params_text(params: list[Any]) -> bytes:
    """Parameters as JSON text.

    Raises:
        InvalidCall: If they are nested deeper than any that make sense.
    """
    try:
        return orjson.dumps(params)
    except orjson.JSONEncodeError:
        raise InvalidCall("invalid argument 0: nested too deeply") from None


def perform(job: ExecutionJob, state: RunState, deadline: Deadline) -> Any:
    """What the method answers, to be written as JSON.

    Raises:
        ExecutionFailed, ExecutionTimeout, TraceTooLarge: If there is no answer; `failure_told` has the words.
        DataError, RpcError: If the parameters make no sense.
    """
    match job:
        case CallJob():
            return _call(job, state, deadline)
        case SimulateJob(params, config, header, gas_cap):
            base = SimulationBase(config, header, state.reader, state.ancestor_hash, state.world)
            return simulation_json(base, orjson.loads(params)[0], gas_cap, deadline)
        case TraceCallJob(params, setting, gas_cap, options):
            simulation = _simulation(params, setting, gas_cap)
            prepared = prepare_call(simulation, state.reader, state.ancestor_hash)
            return trace_call(prepared, options, Allowance(MAX_TRACE_BYTES), deadline)
        case TraceBlockJob():
            return _trace_block(job, state, deadline)


def _call(job: CallJob, state: RunState, deadline: Deadline) -> Any:
    asked = _simulation(job.params, job.setting, job.gas_cap), state.reader, state.ancestor_hash, deadline
    match job.method:
        case "eth_call":
            return to_hex(call_output(*asked))
        case "eth_estimateGas":
            return quantity(estimate_gas(*asked))
        case "eth_createAccessList":
            return _access_list_json(*create_access_list(*asked))
        case other:
            raise AssertionError(f"no call: {other}")


def _simulation(params: bytes, setting: Setting, gas_cap: int) -> Simulation:
    return simulation_param(orjson.loads(params), setting.config, setting.context, gas_cap=gas_cap)


def _trace_block(job: TraceBlockJob, state: RunState, deadline: Deadline) -> Any:
    setting = job.setting
    replay = BlockReplay(
        setting.config, setting.context, job.parent_timestamp, state.reader, state.ancestor_hash
    )
    allowance = Allowance(MAX_TRACE_BYTES)
    try:
        traces = trace_transactions(replay, job.envelopes, job.first, job.options, allowance, deadline)
    except TransactionRejected as error:
        raise ExecutionFailed(f"the block does not execute: {error}") from None
    if job.is_single:
        return traces[0]
    return [
        {"txHash": to_hex(envelope.hash), "result": trace}
        for envelope, trace in zip(job.envelopes[job.first :], traces, strict=True)
    ]


def failure_told(error: CallFailure) -> RpcError:
    """How a failed execution answers: code 3 with the revert's data, a refused simulation with the code of
    the rule, everything else with -32000."""
    match error:
        case ExecutionReverted():
            return RpcError(ErrorCode.EXECUTION_REVERTED, str(error), to_hex(error.data))
        case ExecutionTimeout():
            return RpcError(ErrorCode.SERVER_ERROR, f"execution aborted (timeout = {error.budget_s:g}s)")
        case SimulationRefused():
            return RpcError(error.code, str(error))
        case TraceTooLarge():
            return RpcError(ErrorCode.TRANSACTION_REJECTED, f"response too large: {error}")
        case _:
            return RpcError(ErrorCode.SERVER_ERROR, str(error))


def _access_list_json(entries: tuple[AccessListEntry, ...], result: CallResult) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "accessList": [_entry_json(entry) for entry in entries],
        "gasUsed": quantity(result.gas_used),
    }
    return shown if result.succeeded else shown | {"error": result.halt_reason or "execution reverted"}


def _entry_json(entry: AccessListEntry) -> dict[str, Any]:
    return {"address": to_hex(entry.address), "storageKeys": [to_hex(key) for key in entry.storage_keys]}
