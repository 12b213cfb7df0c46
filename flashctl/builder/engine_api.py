"""The Engine API as JSON-RPC methods: versions, forks and parameters around `ExecutionEngine`.

A method of the wrong version for a block's fork is refused with -38005, as op-geth does; which version a
fork uses is defined in `core.engine`. Only OP's range is served: getPayload and newPayload V1 ended with
Bedrock's first fork.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from flashctl import __version__
from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.chain.chain import ChainBlock
from flashctl.core.engine.payloads import (
    BlockHashMismatch,
    ForkchoiceState,
    PayloadStatus,
    PayloadValidity,
    attributes_from_json,
    envelope_to_json,
    forkchoice_version,
    get_payload_version,
    new_payload_version,
    payload_from_json,
    payload_id_from_json,
    payload_to_json,
)
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, invalid_params, reading_params
from flashctl.core.jsonrpc.methods import Handler, Methods, optional, required
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.execution import SealedBlock
from flashctl.op.forks import OpFork

__all__ = ["EngineApi"]

AT_ONCE: Final = 100
"""Transactions of a payload that is read or written on the event loop (1 ms); more go to a thread."""

MAX_BODIES: Final = 1024
"""Of one getPayloadBodies request (execution-apis shanghai.md asks for 32 at least)."""


class EngineApi:
    """Registers `engine_*` for one node."""

    def __init__(self, node: ExecutionEngine) -> None:
        self._node = node

    def register(self, methods: Methods) -> None:
        """Add every engine method to a table."""
        handlers: dict[str, Handler] = {
            "engine_getClientVersionV1": self._client_version,
            "engine_getPayloadBodiesByHashV1": self._bodies_by_hash,
            "engine_getPayloadBodiesByRangeV1": self._bodies_by_range,
        }
        for version in (1, 2, 3):
            handlers[f"engine_forkchoiceUpdatedV{version}"] = self._forkchoice(version)
        for version in (2, 3, 4):
            handlers[f"engine_newPayloadV{version}"] = self._new_payload(version)
        for version in (2, 3, 4, 5):
            handlers[f"engine_getPayloadV{version}"] = self._get_payload(version)
        names = sorted(handlers)

        async def capabilities(params: list[Any]) -> list[str]:
            return names

        handlers["engine_exchangeCapabilities"] = capabilities
        methods.register_all(handlers.items())

    def _forkchoice(self, version: int) -> Handler:
        async def handler(params: list[Any]) -> Any:
            with reading_params():
                state = ForkchoiceState.from_json(required(params, 0, "forkchoiceState"))
                given = optional(params, 1)
                attributes = attributes_from_json(given) if given is not None else None
            if attributes is not None:
                self._check_attributes(version, attributes)
            return (await self._node.forkchoice_updated(state, attributes)).to_json()

        return handler

    def _new_payload(self, version: int) -> Handler:
        async def handler(params: list[Any]) -> Any:
            payload = required(params, 0, "executionPayload")
            root, requests = None, None
            if version >= 3:
                if optional(params, 1):
                    raise invalid_params("an L2 block has no blobs, got versioned hashes")
                with reading_params():
                    root = parse_hex(required(params, 2, "parentBeaconBlockRoot"), size=32)
            if version >= 4:
                requests = required(params, 3, "executionRequests")
            self._check_version(version, new_payload_version(self._fork_of(payload)))
            with reading_params():
                try:
                    block = await self._node.payloads.in_thread(
                        partial(payload_from_json, payload, root, requests=requests)
                    )
                except BlockHashMismatch as error:
                    return PayloadStatus(PayloadValidity.INVALID, None, str(error)).to_json()
            return (await self._node.new_payload(block)).to_json()

        return handler

    def _get_payload(self, version: int) -> Handler:
        async def handler(params: list[Any]) -> Any:
            with reading_params():
                identity = payload_id_from_json(required(params, 0, "payloadId"))
            job = self._node.payloads.job(identity)
            if job is not None:
                fork = self._node.chain.config.fork_at(job.attributes.timestamp)
                self._check_version(version, get_payload_version(fork))
                await job.filled()
            sealed = self._node.get_payload(identity)
            if len(sealed.envelopes) <= AT_ONCE:
                return _envelope(sealed)
            return await self._node.payloads.in_thread(_envelope, sealed)

        return handler

    async def _block(self, payload: dict[str, Any], root: bytes | None, requests: Any) -> Block:
        transactions = payload.get("transactions")
        if isinstance(transactions, list) and len(transactions) <= AT_ONCE:
            return payload_from_json(payload, root, requests=requests)
        read = partial(payload_from_json, payload, root, requests=requests)
        return await self._node.payloads.in_thread(read)

    async def _client_version(self, params: list[Any]) -> Any:
        return [{"code": "FC", "name": "flashctl", "version": f"v{__version__}", "commit": "00000000"}]

    async def _bodies_by_hash(self, params: list[Any]) -> Any:
        hashes = required(params, 0, "hashes")
        if not isinstance(hashes, list):
            raise invalid_params("hashes is not a list")
        if len(hashes) > MAX_BODIES:
            raise RpcError(ErrorCode.TOO_LARGE_REQUEST, f"Too large request: at most {MAX_BODIES} bodies")
        with reading_params():
            wanted = [parse_hex(item, size=32) for item in hashes]
        return [_body(self._node.chain.block(block_hash)) for block_hash in wanted]

    async def _bodies_by_range(self, params: list[Any]) -> Any:
        with reading_params():
            start = parse_quantity(required(params, 0, "start"))
            count = parse_quantity(required(params, 1, "count"))
        if start < 1 or count < 1:
            raise invalid_params(f"invalid start or count, start: {start} count: {count}")
        if count > MAX_BODIES:
            raise RpcError(ErrorCode.TOO_LARGE_REQUEST, f"Too large request: at most {MAX_BODIES} bodies")
        chain = self._node.chain
        last = min(start + count - 1, chain.head.number)
        headers = [chain.header_by_number(number) for number in range(start, last + 1)]
        return [_body(chain.block(header.hash)) for header in headers if header is not None]

    def _check_attributes(self, version: int, attributes: PayloadAttributes) -> None:
        fork = self._node.chain.config.fork_at(attributes.timestamp)
        if version == 3 and attributes.parent_beacon_block_root is None:
            raise RpcError(
                ErrorCode.INVALID_PAYLOAD_ATTRIBUTES,
                "Invalid payload attributes: missing parentBeaconBlockRoot",
            )
        if version < 3 and attributes.parent_beacon_block_root is not None:
            raise RpcError(
                ErrorCode.INVALID_PAYLOAD_ATTRIBUTES,
                "Invalid payload attributes: unexpected parentBeaconBlockRoot",
            )
        # V2 also builds what V1 does; before Canyon clients use either (op-node does).
        wanted = forkchoice_version(fork)
        if version != wanted and not (version == 2 and not fork.has_withdrawals):
            raise _unsupported_fork()

    def _fork_of(self, payload: Any) -> OpFork:
        if not isinstance(payload, dict):
            raise invalid_params("payload is not an object")
        with reading_params():
            timestamp = parse_quantity(payload.get("timestamp", ""))
        return self._node.chain.config.fork_at(timestamp)

    def _check_version(self, version: int, wanted: int) -> None:
        if version != max(wanted, 2):
            raise _unsupported_fork()


def _envelope(sealed: SealedBlock) -> Any:
    """getPayload's answer; 3 us for each transaction in it."""
    return envelope_to_json(sealed.block, block_value=sum(result.tip for result in sealed.results))


def _unsupported_fork() -> RpcError:
    return RpcError(ErrorCode.UNSUPPORTED_FORK, "Unsupported fork")


def _body(block: ChainBlock | None) -> Any:
    if block is None:
        return None
    payload = payload_to_json(block.block)
    return {"transactions": payload["transactions"], "withdrawals": payload.get("withdrawals")}
