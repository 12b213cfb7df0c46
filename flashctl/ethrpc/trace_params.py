"""The options object of `debug_trace*`, from JSON: which tracer, what it shows, how long it may take.

Pure. https://geth.ethereum.org/docs/interacting-with-geth/rpc/ns-debug, `TraceConfig` of execution-apis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from flashctl.errors import InvalidParams
from flashctl.evm.tracers.calls import CallTracerOptions
from flashctl.evm.tracers.prestate import PrestateOptions
from flashctl.evm.tracers.struct_log import StructLogOptions

__all__ = ["InvalidTraceConfig", "TraceConfig", "TracerOptions", "trace_config"]

TracerOptions: TypeAlias = StructLogOptions | CallTracerOptions | PrestateOptions
"""One class for each tracer."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_MAX_DURATION_CHARACTERS: Final = 40


class InvalidTraceConfig(InvalidParams):
    """Options that make no sense or that no tracer here has; the text is the message of the error."""


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """What one request asks for."""

    options: TracerOptions
    seconds: float | None = None
    """Wall time; None for the usual."""
    state_overrides: Any = None
    block_overrides: Any = None
    """JSON as it came; `debug_traceCall` only."""


def trace_config(fields: object, *, index: int) -> TraceConfig:
    """Read the options object; None stands for the struct logger as it is.

    Args:
        fields: The parameter as JSON.
        index: Its position among the parameters, for messages.

    Raises:
        InvalidTraceConfig: If an option is malformed, or the tracer is not one of these.
    """
    if fields is None:
        return TraceConfig(StructLogOptions())
    if not isinstance(fields, Mapping):
        raise InvalidTraceConfig(f"invalid argument {index}: trace options are an object")
    if fields.get("txIndex") is not None:
        raise InvalidTraceConfig(f"invalid argument {index}: txIndex is not supported, name a block")
    return TraceConfig(
        _tracer(fields), _timeout(fields), fields.get("stateOverrides"), fields.get("blockOverrides")
    )


def _tracer(fields: Mapping[str, Any]) -> TracerOptions:
    name = fields.get("tracer") or None
    config = fields.get("tracerConfig") or {}
    if not isinstance(config, Mapping):
        raise InvalidTraceConfig("tracerConfig is an object")
    match name:
        case None:
            return StructLogOptions(
                memory=_flag(fields, "enableMemory"),
                stack=not _flag(fields, "disableStack"),
                storage=not _flag(fields, "disableStorage"),
                return_data=_flag(fields, "enableReturnData"),
                limit=_limit(fields),
            )
        case "callTracer":
            return CallTracerOptions(_flag(config, "onlyTopCall"), _flag(config, "withLog"))
        case "prestateTracer":
            return PrestateOptions(
                _flag(config, "diffMode"),
                not _flag(config, "disableCode"),
                not _flag(config, "disableStorage"),
            )
        case _:
            shown = name[:40] if isinstance(name, str) else type(name).__name__
            raise InvalidTraceConfig(
                f"tracer {shown!r} is not supported: callTracer, prestateTracer or none (struct logger)"
            )


def _flag(fields: Mapping[str, Any], key: str) -> bool:
    value = fields.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidTraceConfig(f"{key}: expected true or false")


def _limit(fields: Mapping[str, Any]) -> int:
    value = fields.get("limit")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidTraceConfig("limit: expected a number of steps")
    return value


def _timeout(fields: Mapping[str, Any]) -> float | None:
    """A duration as Go writes it: `5s`, `300ms`, `1m30s`."""
    text = fields.get("timeout")
    if text is None:
        return None
    if (
        not isinstance(text, str)
        or len(text) > _MAX_DURATION_CHARACTERS
        or _DURATION.sub("", text)
        or not text
    ):
        raise InvalidTraceConfig(f"timeout: invalid duration {str(text)[:_MAX_DURATION_CHARACTERS]!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
