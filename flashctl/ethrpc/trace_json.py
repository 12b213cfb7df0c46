"""Traces as go-ethereum's JSON.

A struct log is written entry by entry while the transaction runs, which takes a third of the memory of the
objects; call trees may be deeper than any recursion, so they are written with a stack.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from flashctl.eth.hexdata import quantity, to_hex
from flashctl.evm.tracers.calls import CallNode, TracedLog
from flashctl.evm.tracers.prestate import StateDifference, TouchedAccount
from flashctl.evm.tracers.struct_log import StructLog
from flashctl.evm.tracers.tracer import Allowance, CallEnd
from flashctl.op.call import revert_reason

__all__ = ["StructLogText", "accounts_json", "call_tree_text", "difference_json"]

_CREATIONS: Final = ("CREATE", "CREATE2")


class StructLogText:
    """The `structLogs` of one transaction, as they grow."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._text = bytearray()

    def add(self, entry: StructLog) -> None:
        """Write one more.

        Raises:
            TraceTooLarge: The text has become too long.
        """
        written = _struct_log(entry)
        self._allowance.take(len(written) + 1)
        text = self._text
        if text:
            text += b","
        text += written.encode()

    def result(self, gas_used: int, failed: bool, returned: bytes) -> bytes:
        """The whole answer, the transaction having ended like this."""
        head = b'{"gas":%d,"failed":%s,"returnValue":"0x%s","structLogs":[' % (
            gas_used,
            b"true" if failed else b"false",
            returned.hex().encode(),
        )
        return b"".join((head, self._text, b"]}"))


def _struct_log(entry: StructLog) -> str:
    pc, op, gas, gas_cost, depth, refund, error, stack, memory, return_data, storage = entry
    text = f'{{"pc":{pc},"op":"{op}","gas":{gas},"gasCost":{gas_cost},"depth":{depth},"refund":{refund}'
    if error is not None:
        text += f',"error":"{error}"'
    if stack is not None:
        words = '","'.join(map(hex, stack))
        text += f',"stack":["{words}"]' if words else ',"stack":[]'
    if return_data:
        text += f',"returnData":"0x{return_data.hex()}"'
    if memory:
        words = '","0x'.join(memory[at : at + 32].hex() for at in range(0, len(memory), 32))
        text += f',"memory":["0x{words}"]'
    if storage:
        slots = ",".join(f'"0x{slot:064x}":"0x{value:064x}"' for slot, value in storage.items())
        text += f',"storage":{{{slots}}}'
    return text + "}"


def call_tree_text(top: CallNode) -> bytes:
    """What callTracer answers."""
    pieces: list[bytes] = []
    waiting: list[CallNode | bytes] = [top]
    while waiting:
        item = waiting.pop()
        if isinstance(item, bytes):
            pieces.append(item)
            continue
        fields = orjson.dumps(_call_fields(item))
        if not item.calls:
            pieces.append(fields)
            continue
        pieces += (fields[:-1], b',"calls":[')
        waiting.append(b"]}")
        for index, callee in enumerate(reversed(item.calls)):
            if index:
                waiting.append(b",")
            waiting.append(callee)
    return b"".join(pieces)


def _call_fields(node: CallNode) -> dict[str, Any]:
    call, end = node.call, node.end
    shown: dict[str, Any] = {"type": call.kind, "from": _address(call.caller), "gas": quantity(call.gas)}
    if end is not None:
        shown["gasUsed"] = quantity(end.gas_used)
    if call.kind not in _CREATIONS or end is None or end.error is None:
        shown["to"] = _address(call.to)
    shown["input"] = to_hex(call.data)
    if end is not None:
        shown |= _end_fields(end)
    if node.logs:
        shown["logs"] = [_log(log) for log in node.logs]
    if call.value is not None:
        shown["value"] = quantity(call.value)
    return shown


def _end_fields(end: CallEnd) -> dict[str, str]:
    shown: dict[str, str] = {}
    if end.output:
        shown["output"] = to_hex(end.output)
    if end.error is not None:
        shown["error"] = end.error
        reason = revert_reason(end.output) if end.is_revert else None
        if reason:
            shown["revertReason"] = reason
    return shown


def _log(log: TracedLog) -> dict[str, Any]:
    return {
        "address": _address(log.entry.address),
        "topics": [_word(topic) for topic in log.entry.topics],
        "data": to_hex(log.entry.data),
        "index": quantity(log.index),
        "position": quantity(log.position),
    }


def accounts_json(accounts: dict[int, TouchedAccount]) -> dict[str, Any]:
    """What prestateTracer answers: balances, and nonce, code and storage where there are any."""
    return {_address(address): _account(account) for address, account in accounts.items()}


def difference_json(difference: StateDifference) -> dict[str, Any]:
    """What prestateTracer answers in diff mode."""
    return {"post": accounts_json(difference.after), "pre": accounts_json(difference.before)}


def _account(account: TouchedAccount) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if account.balance is not None:
        shown["balance"] = quantity(account.balance)
    if account.code is not None:
        shown["code"] = to_hex(account.code)
    if account.nonce:
        shown["nonce"] = account.nonce
    if account.storage:
        shown["storage"] = {_word(slot): _word(value) for slot, value in account.storage.items()}
    return shown


def _address(address: int) -> str:
    return f"0x{address:040x}"


def _word(value: int) -> str:
    return f"0x{value:064x}"
