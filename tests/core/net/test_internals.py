"""Names of uvicorn, websockets and typer that they do not document and that flashctl builds on.

A release that renames one of them would show as a connection that hangs; here it fails by the name. Then: see
what took its place, adapt the one module that uses it, and raise the cap in pyproject.toml.
"""

from __future__ import annotations

import inspect

import pytest
import typer.core
from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.messages import Assembler
from websockets.protocol import Protocol
from websockets.streams import StreamReader

USED = {
    # flashctl/core/jsonrpc/protocols.py
    HttpToolsProtocol: (
        "_should_upgrade _unset_keepalive_if_required client connections expect_100_continue flow"
        " handle_websocket_upgrade headers loop on_headers_complete on_message_complete parser scope"
        " send_400_response timeout_keep_alive_handler transport url"
    ),
    RequestResponseCycle: (
        "disconnected keep_alive message_event on_response response_complete response_started"
        " waiting_for_100_continue"
    ),
    WebSocketsSansIOProtocol: (
        "client close_sent conn disconnected frames handle_parser_exception keepalive_timeout loop run_asgi"
        " scope transport writable"
    ),
    # flashctl/core/jsonrpc/listener.py
    Server: "capture_signals config main_loop server_state servers shutdown started",
    # flashctl/core/net/fast_receive.py, which falls back to the library's own way without them
    ClientConnection: "acknowledge_pings protocol recv_messages send_context transport",
    Assembler: "frames",
    Protocol: "close_sent current_size reader state",
    StreamReader: "buffer",
    # flashctl/cli/verbs.py, help.py
    typer.core.TyperGroup: "parse_args resolve_command",
    typer.core.TyperCommand: "format_help",
}


def sources(kind: type) -> str:
    """The code of a class and of those it inherits from."""
    return "\n".join(inspect.getsource(each) for each in kind.__mro__ if each.__module__ != "builtins")


@pytest.mark.parametrize("kind", USED, ids=lambda kind: kind.__name__)
def test_what_is_used_of_a_library_is_there(kind: type) -> None:
    text = sources(kind)
    missing = [name for name in USED[kind].split() if not hasattr(kind, name) and f"self.{name}" not in text]
    assert not missing, f"{kind.__module__}.{kind.__name__} has no {', '.join(missing)}"
