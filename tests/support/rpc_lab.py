"""Calling JSON-RPC methods without a socket, every answer held against the schema of execution-apis."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from support.reference import optional_reference_path

from flashctl.core.jsonrpc.errors import RpcError, rpc_error_for
from flashctl.core.jsonrpc.methods import Methods
from flashctl.errors import Failed
from flashctl.op.envelope import TxEnvelope


@cache
def schema() -> Any:
    """The validator of the reference data; None without it or without jsonschema."""
    path = optional_reference_path("execution-apis/tools/validate_io.py")
    if importlib.util.find_spec("jsonschema") is None or path is None:
        return None
    spec = importlib.util.spec_from_file_location("validate_io", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["validate_io"] = module
    spec.loader.exec_module(module)
    return module.Validator()


OP_FIELDS = (
    "l1GasPrice", "l1GasUsed", "l1Fee", "l1FeeScalar", "l1BaseFeeScalar", "l1BlobBaseFee",
    "l1BlobBaseFeeScalar", "operatorFeeScalar", "operatorFeeConstant", "daFootprintGasScalar",
    "depositNonce", "depositReceiptVersion",
)  # fmt: skip


def as_ethereum(value: Any) -> Any:
    """An answer without what OP nodes add to it, so that Ethereum's schema applies to the rest.

    Deposits among transactions are dropped, and a deposit's receipt passes for a type 2 receipt.
    """
    if isinstance(value, list):
        return [as_ethereum(item) for item in value if not (isinstance(item, dict) and "sourceHash" in item)]
    if not isinstance(value, dict):
        return value
    kept = {key: as_ethereum(item) for key, item in value.items() if key not in OP_FIELDS}
    if "cumulativeGasUsed" in kept:
        kept.pop("blobGasUsed", None)
        kept["type"] = "0x2" if kept["type"] == "0x7e" else kept["type"]
    return kept


def is_beyond_schema(shown: Any) -> bool:
    """Whether the schema has no word for an answer: a deposit, a waiting transaction (which every client
    shows without a block) alone or in a block being built, an empty list that two of its alternatives
    describe.
    """
    if not isinstance(shown, dict):
        return shown == []
    if any(isinstance(inner, dict) and is_beyond_schema(inner) for inner in shown.get("transactions") or ()):
        return True
    return "sourceHash" in shown or ("blockHash" in shown and shown["blockHash"] is None)


def plain(result: Any) -> Any:
    """An answer as it arrives: what a handler encoded itself, decoded."""
    if isinstance(result, orjson.Fragment):
        return orjson.loads(orjson.dumps(result))
    if isinstance(result, list) and result and isinstance(result[0], dict) and "txHash" in result[0]:
        return orjson.loads(orjson.dumps(result))
    return result


class Caller:
    """Calls methods as a client would, checking answers against the schema on the way."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def __call__(self, method: str, *params: Any) -> Any:
        handler = self._methods.find(method)
        assert handler is not None, f"no method {method}"
        try:
            result = plain(await handler(list(params)))
        except Exception as error:
            translated = rpc_error_for(error)
            if translated is None:
                raise
            raise translated from error
        validator = schema()
        if validator is not None and method in validator.methods:
            shown = as_ethereum(result)
            if not is_beyond_schema(shown):
                assert validator.result(method, shown) == [], (method, shown)
        return result

    async def error(self, method: str, *params: Any) -> RpcError:
        """The error that a call ends in."""
        try:
            result = await self(method, *params)
        except RpcError as error:
            return error
        raise AssertionError(f"{method} answered {result!r}")


def running(test: Callable[[], Any]) -> None:
    """Run an async test body."""
    asyncio.run(test())


class ListPool:
    """A pool that takes everything: transactions by sender in order of nonce."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, TxEnvelope] = {}
        self._listeners: list[Callable[[TxEnvelope], None]] = []

    def add(self, envelope: TxEnvelope) -> None:
        if envelope.hash in self.waiting:
            raise Failed("already known")
        self.waiting[envelope.hash] = envelope
        for listener in self._listeners:
            listener(envelope)

    async def submit(self, raw: bytes) -> TxEnvelope:
        envelope = TxEnvelope.decode(raw)
        if envelope.is_deposit:
            raise Failed("transaction type not supported")
        self.add(envelope)
        return envelope

    def get(self, tx_hash: bytes) -> TxEnvelope | None:
        return self.waiting.get(tx_hash)

    def given_up(self, tx_hash: bytes) -> str | None:
        return None

    def pending_nonce(self, address: bytes) -> int | None:
        nonces = [envelope.tx.nonce for envelope in self.waiting.values() if envelope.sender == address]  # type: ignore[union-attr]
        return max(nonces) + 1 if nonces else None

    def senders(self) -> list[bytes]:
        return list({envelope.sender for envelope in self.waiting.values()})

    def content_from(self, address: bytes) -> tuple[list[TxEnvelope], list[TxEnvelope]]:
        return [envelope for envelope in self.waiting.values() if envelope.sender == address], []

    def counts(self) -> tuple[int, int]:
        return len(self.waiting), 0

    def subscribe(self, callback: Callable[[TxEnvelope], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)


class ListSubscription:
    """A subscription that keeps what it is told."""

    def __init__(self) -> None:
        self.id = "0x" + "00" * 16
        self.closed = False
        self.heard: list[Any] = []
        self._callbacks: list[Callable[[], None]] = []

    def notify(self, result: Any) -> None:
        self.heard.append(result)

    def on_close(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def close(self) -> None:
        self.closed = True
        for callback in self._callbacks:
            callback()


def topics_of(logs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The topics of log objects."""
    return [list(log["topics"]) for log in logs]
