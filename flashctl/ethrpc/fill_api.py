"""`eth_fillTransaction`: the fields that a wallet leaves open, filled in before it signs.

viem asks for this before every transaction and takes nonce, fees and gas from the answer. So an overlay must
not pass it on: a node that does not know the stream would hand out nonces that are used up, and find no gas
for a call to a contract that is only preconfirmed. Everything is asked of the methods of the same server,
about `pending`, so that the answer is right wherever they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, reading_params
from flashctl.core.jsonrpc.methods import Handler, required
from flashctl.eth.hexdata import InvalidHex, parse_quantity, quantity, to_hex
from flashctl.eth.transactions import AccessListTx, LegacyTx, encode_transaction
from flashctl.ethrpc.block_tags import Tag
from flashctl.ethrpc.call_params import InvalidCall, simulated_call
from flashctl.ethrpc.rpc_json import transaction_json
from flashctl.op.envelope import TxEnvelope

__all__ = ["Ask", "FillApi"]

Ask = Callable[[str, list[Any]], Awaitable[Any]]
"""The answer of a method of the server this is part of."""

BASE_FEE_MARGIN: Final = 2
"""The fee cap leaves room for the base fee to double: geth's choice, eight full blocks on Ethereum."""

_PENDING: Final = Tag.PENDING.value
_NO_SENDER: Final = "0x" + "00" * 20
_OF_A_BLOCK: Final = ("blockHash", "blockNumber", "blockTimestamp", "transactionIndex")


class FillApi:
    """See the module docstring."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_fillTransaction", self.fill

    async def fill(self, params: list[Any]) -> dict[str, Any]:
        fields = required(params, 0, "transaction")
        if not isinstance(fields, Mapping):
            raise InvalidCall("invalid argument 0: a transaction is an object")
        # At once: behind an overlay each of them may be a journey to the node.
        nonce, fees, chain_id = await asyncio.gather(
            self._nonce(fields), self._fees(fields), self._number("eth_chainId")
        )
        filled = {**fields, **fees, "nonce": nonce}
        call = simulated_call(filled, chain_id=chain_id)
        if call.tx.to is None and not call.tx.data:
            raise InvalidCall("contract creation without any data provided")
        if not call.has_gas:
            filled["gas"] = quantity(await self._number("eth_estimateGas", filled, _PENDING))
            call = simulated_call(filled, chain_id=chain_id)
        raw = encode_transaction(call.tx)
        return {"raw": to_hex(raw), "tx": _unsigned_json(TxEnvelope(raw, call.tx, call.sender))}

    async def _nonce(self, fields: Mapping[str, Any]) -> Any:
        if fields.get("nonce") is not None:
            return fields["nonce"]
        sender = fields.get("from") or _NO_SENDER
        return quantity(await self._number("eth_getTransactionCount", sender, _PENDING))

    async def _fees(self, fields: Mapping[str, Any]) -> dict[str, str]:
        """The fee fields that are not given; their sanity is checked with the words that geth has for it."""
        if fields.get("gasPrice") is not None:
            if fields.get("authorizationList") is not None:
                raise InvalidCall("both gasPrice and authorizationList specified")
            if not _given(fields["gasPrice"]):
                raise InvalidCall("gasPrice must be non-zero after london fork")
            return {}
        given_tip, given_cap = fields.get("maxPriorityFeePerGas"), fields.get("maxFeePerGas")
        if given_cap is None:
            tip, base_fee = await asyncio.gather(self._tip(given_tip), self._base_fee())
            cap = tip + BASE_FEE_MARGIN * base_fee
        else:
            tip, cap = await self._tip(given_tip), _given(given_cap)
        if not cap:
            raise InvalidCall("maxFeePerGas must be non-zero")
        if cap < tip:
            raise InvalidCall(f"maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")
        return {"maxPriorityFeePerGas": quantity(tip), "maxFeePerGas": quantity(cap)}

    async def _tip(self, given: Any) -> int:
        return await self._number("eth_maxPriorityFeePerGas") if given is None else _given(given)

    async def _base_fee(self) -> int:
        block = await self._ask("eth_getBlockByNumber", [_PENDING, False])
        return _answered(
            "eth_getBlockByNumber", block.get("baseFeePerGas") if isinstance(block, dict) else None
        )

    async def _number(self, method: str, *params: Any) -> int:
        return _answered(method, await self._ask(method, list(params)))


def _given(value: Any) -> int:
    """A number of the caller's."""
    with reading_params():
        return parse_quantity(value)


def _answered(method: str, answer: Any) -> int:
    """A number that a method said; behind an overlay any node may have said it."""
    try:
        return parse_quantity(answer)
    except InvalidHex:
        raise RpcError(ErrorCode.SERVER_ERROR, f"{method} answers no number") from None


def _unsigned_json(envelope: TxEnvelope) -> dict[str, Any]:
    """The transaction object without its block, and without the single price that only old types have: who
    copies all fields would name both."""
    shown = transaction_json(envelope)
    omitted = _OF_A_BLOCK if isinstance(envelope.tx, LegacyTx | AccessListTx) else (*_OF_A_BLOCK, "gasPrice")
    return {name: value for name, value in shown.items() if name not in omitted}
