"""JSON-RPC errors: the codes, the exception that carries one, and what other failures turn into.

`RpcError` is both sides' view of one thing: a handler raises it and the server writes it; a client reads
it and raises it. So a role that relays calls passes errors on by not catching them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

from flashctl.core.net.upstream_errors import (
    InvalidAnswer,
    RefusedCredentials,
    TooManyInLine,
    Unreachable,
    UpstreamRefused,
    UpstreamTimedOut,
)
from flashctl.errors import (
    AuthError,
    DataError,
    Failed,
    FlashctlError,
    InvalidParams,
    IoError,
    ProtocolError,
    TimedOut,
    UsageError,
)

__all__ = [
    "ErrorCode",
    "RpcError",
    "error_object",
    "invalid_params",
    "invalid_request",
    "method_not_found",
    "reading_params",
    "rpc_error_for",
]


class ErrorCode(IntEnum):
    """Error codes of JSON-RPC 2.0, EIP-1474, execution-apis and the field's habits."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603

    SERVER_ERROR = -32000
    """What geth and reth answer for a refused transaction, a failed call and anything unclassified."""

    RESOURCE_NOT_FOUND = -32001
    RESOURCE_UNAVAILABLE = -32002
    TRANSACTION_REJECTED = -32003
    METHOD_NOT_SUPPORTED = -32004
    LIMIT_EXCEEDED = -32005

    EXECUTION_REVERTED = 3
    """A call that reverted; `data` is the revert output."""

    UNKNOWN_PAYLOAD = -38001
    INVALID_FORKCHOICE_STATE = -38002
    INVALID_PAYLOAD_ATTRIBUTES = -38003
    TOO_LARGE_REQUEST = -38004
    UNSUPPORTED_FORK = -38005


class RpcError(Failed):
    """A JSON-RPC error object, on its way to a caller or received from a server."""

    code: Final[int]
    message: Final[str]
    data: Final[Any]
    """Whatever JSON the error carries beside its message; None for nothing."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} (code {int(code)})")
        self.code = int(code)
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, Any]:
        """The `error` member of a response."""
        return error_object(self.code, self.message, self.data)


def error_object(code: int, message: str, data: Any = None) -> dict[str, Any]:
    """The `error` member of a response; `data` appears only when there is some."""
    error: dict[str, Any] = {"code": int(code), "message": message}
    if data is not None:
        error["data"] = data
    return error


def invalid_params(message: str) -> RpcError:
    """The parameters do not fit the method."""
    return RpcError(ErrorCode.INVALID_PARAMS, message)


def invalid_request(message: str) -> RpcError:
    """JSON, but not a request."""
    return RpcError(ErrorCode.INVALID_REQUEST, message)


def method_not_found(name: str) -> RpcError:
    """No such method here; the text is the one geth's clients match on."""
    return RpcError(ErrorCode.METHOD_NOT_FOUND, f"the method {name[:100]} does not exist/is not available")


def rpc_error_for(error: Exception) -> RpcError | None:
    """The JSON-RPC error for a handler's failure; None for an unexpected exception, which is a defect.

    A layer below raises its own errors, independent of JSON-RPC. Only the code that parses the caller's
    parameters reports them as invalid; other decoding failures concern data from elsewhere. Callers are
    untrusted: an error contains no address, no path, and of an upstream's answer only its own JSON-RPC error.
    """
    match error:
        case RpcError():
            return error
        case InvalidParams():
            return RpcError(ErrorCode.INVALID_PARAMS, str(error))
        case TooManyInLine():
            return RpcError(ErrorCode.LIMIT_EXCEEDED, error.public_text)
        case UpstreamTimedOut():
            return RpcError(ErrorCode.RESOURCE_UNAVAILABLE, error.public_text)
        case Unreachable() | UpstreamRefused() | InvalidAnswer():
            return RpcError(ErrorCode.SERVER_ERROR, error.public_text)
        case TimedOut():
            return RpcError(ErrorCode.RESOURCE_UNAVAILABLE, str(error))
        case AuthError():
            # Our credentials at an upstream, not the caller's: report the failure, nothing about the secret.
            return RpcError(ErrorCode.INTERNAL_ERROR, RefusedCredentials.public_text)
        case ProtocolError():
            return RpcError(ErrorCode.SERVER_ERROR, InvalidAnswer.public_text)
        case DataError() | UsageError() | IoError():
            return RpcError(ErrorCode.INTERNAL_ERROR, "internal error")
        case FlashctlError():
            return RpcError(ErrorCode.SERVER_ERROR, str(error))
        case _:
            return None


@contextmanager
def reading_params() -> Iterator[None]:
    """What cannot be decoded within is the caller's parameters: -32602 in the words of the error."""
    try:
        yield
    except DataError as error:
        raise InvalidParams(str(error), hint=error.hint) from None
