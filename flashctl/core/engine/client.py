"""Calls of the Engine API, typed.

Answers come back as the objects of `core.engine`, except payload envelopes: a caller of getPayload hands
the payload on to newPayload as it is, so it stays JSON and unknown fields survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flashctl.core.engine.payloads import (
    ForkchoiceResult,
    ForkchoiceState,
    InvalidEngineObject,
    PayloadStatus,
    attributes_to_json,
)
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.net.upstream_errors import InvalidAnswer
from flashctl.errors import DataError
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import PayloadAttributes

__all__ = ["EngineClient", "requests_of"]


class EngineClient(JsonRpcClient):
    """A JSON-RPC client of an execution client's engine port.

    Beside what `JsonRpcClient.call` raises, an answer of the wrong shape is an `InvalidAnswer`.
    """

    exact = True

    async def forkchoice_updated(
        self,
        state: ForkchoiceState,
        attributes: PayloadAttributes | None = None,
        *,
        version: int = 3,
        timeout_s: float | None = None,
    ) -> ForkchoiceResult:
        """Move the head, and with attributes start a build on it."""
        method = f"engine_forkchoiceUpdatedV{version}"
        wanted = None if attributes is None else attributes_to_json(attributes)
        answer = await self.call(method, [state.to_json(), wanted], timeout_s=timeout_s)
        try:
            return ForkchoiceResult.from_json(answer)
        except DataError as error:
            raise InvalidAnswer(f"{self.url} answered {method} with {error}") from None

    async def get_payload(
        self, payload_id: bytes, *, version: int, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The envelope of a payload being built: `executionPayload` and what goes with it."""
        method = f"engine_getPayloadV{version}"
        answer = await self.call(method, [to_hex(payload_id)], timeout_s=timeout_s)
        if not isinstance(answer, dict) or not isinstance(answer.get("executionPayload"), dict):
            raise InvalidAnswer(f"{self.url} answered {method} without a payload")
        return answer

    async def new_payload(
        self,
        payload: dict[str, Any],
        parent_beacon_block_root: bytes | None,
        *,
        version: int,
        requests: Sequence[Any] = (),
        timeout_s: float | None = None,
    ) -> PayloadStatus:
        """Have a payload executed and judged."""
        method = f"engine_newPayloadV{version}"
        params: list[Any] = [payload]
        if version >= 3:
            root = parent_beacon_block_root
            params += [[], to_hex(bytes(32) if root is None else root)]
        if version >= 4:
            params.append(list(requests))
        answer = await self.call(method, params, timeout_s=timeout_s)
        try:
            return PayloadStatus.from_json(answer)
        except InvalidEngineObject as error:
            raise InvalidAnswer(f"{self.url} answered {method} with {error}") from None

    async def exchange_capabilities(self, ours: Sequence[str]) -> list[str]:
        """The engine methods the other side has."""
        answer = await self.call("engine_exchangeCapabilities", [list(ours)])
        if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
            raise InvalidAnswer(f"{self.url} answered engine_exchangeCapabilities with something else")
        return answer


def requests_of(envelope: dict[str, Any]) -> list[Any]:
    """The execution requests beside a payload; empty where there are none."""
    requests = envelope.get("executionRequests")
    return requests if isinstance(requests, list) else []
