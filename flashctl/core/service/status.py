"""The health pages of every service, with one meaning on all of its ports:

    /livez      200 while the event loop turns: for supervisors
    /readyz     200 while its users can be served, else 503: for load balancers
    /healthz    200; 206 where only a part of its work is done, 503 where none is: for op-conductor
    /metrics    what it counts

`status_pages` makes the answers; a JSON-RPC port, a stream port and the small server here give them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, NamedTuple

from flashctl.core.net.listening import ListenFailed, listen_arguments
from flashctl.core.service import defects
from flashctl.core.service.metrics import EXPOSITION_TYPE, Metrics

__all__ = [
    "TEXT",
    "Health",
    "Page",
    "PageAnswer",
    "Pages",
    "StatusServer",
    "page_answer",
    "probe_pages",
    "serve_status",
    "status_pages",
    "with_defects",
]

TEXT: Final = "text/plain; charset=utf-8"

MAX_REQUEST_BYTES: Final = 8192
MAX_CONNECTIONS: Final = 64
"""At once on a status port: a few collectors and probes, and no crowd."""

REQUEST_TIMEOUT_S: Final = 5.0
"""For a status request to arrive in full, and again for its answer to be read."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a service is at the moment."""

    ready: bool
    """Whether its users can be served; a load balancer looks here."""
    detail: str = ""
    """Why not, or what is worth knowing; one line."""
    degraded: bool = False
    """Works, but not all of it: /healthz answers 206."""
    healthy: bool | None = None
    """Whether it does its work; None where that is the same as `ready`. boost answers the consensus client
    (ready) also when it may not lead (not healthy)."""

    @property
    def status(self) -> int:
        """What /healthz answers."""
        healthy = self.ready if self.healthy is None else self.healthy
        return 503 if not healthy else 206 if self.degraded else 200


def with_defects(health: Health) -> Health:
    """`health` with a recent defect in its text; the status stays what the role reports.

    A leader election polls these pages: a defect that cost one message is to be read, not to move the chain
    to another machine. One that keeps a role from its work shows in that: payloads that fail, a builder
    without a block, a stream that is silent, pending state that is not followed.
    """
    recent = defects.recent()
    if not recent:
        return health
    detail = f"{health.detail}; {recent}" if health.detail else recent
    return replace(health, detail=detail)


class PageAnswer(NamedTuple):
    """The answer to a GET."""

    status: int
    body: bytes
    content_type: str = TEXT


Page = Callable[[], PageAnswer]
Pages = Mapping[str, Page]
"""By path, without the query."""


def probe_pages(
    health: Callable[[], Health], stopping: Callable[[], bool] = lambda: False
) -> dict[str, Page]:
    """/livez, /healthz and /readyz.

    Args:
        health: asked for each answer.
        stopping: whether the service drains: it is then not ready, whatever its health.
    """

    def healthz() -> PageAnswer:
        state = with_defects(health())
        return _line(state.status, state.detail or ("OK" if state.status < 300 else "not healthy"))

    def readyz() -> PageAnswer:
        if stopping():
            return _line(503, "shutting down")
        state = with_defects(health())
        return _line(200 if state.ready else 503, state.detail or ("OK" if state.ready else "not ready"))

    return {"/livez": lambda: _line(200, "OK"), "/healthz": healthz, "/readyz": readyz}


def status_pages(
    metrics: Metrics, health: Callable[[], Health], stopping: Callable[[], bool] = lambda: False
) -> dict[str, Page]:
    """The probes and /metrics."""
    return {
        **probe_pages(health, stopping),
        "/metrics": lambda: PageAnswer(200, metrics.render(), EXPOSITION_TYPE),
    }


def _line(status: int, text: str) -> PageAnswer:
    return PageAnswer(status, text.encode() + b"\n")


def page_answer(page: Page) -> PageAnswer:
    """The content of a page; a defect in it costs that answer."""
    try:
        return page()
    except Exception as error:
        defects.caught("status.page", error)
        return _line(500, "internal error")


class StatusServer:
    """A running status port; made by `serve_status`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._connections = 0
        self._server: asyncio.Server | None = None
        self.port = 0
        self.url = ""

    async def listen(self, host: str, port: int) -> None:
        """Bind and begin to answer.

        Raises:
            ListenFailed: If the address cannot be bound.
        """
        arguments = listen_arguments(host, port)
        try:
            self._server = await asyncio.start_server(self._handle, **arguments, limit=MAX_REQUEST_BYTES)
        except OSError as error:
            raise ListenFailed(host, port, error) from None
        name, self.port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > MAX_CONNECTIONS:
                return
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head.split(b"\r\n", 1)[0].decode("latin-1")))
            writer.close()
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                # Not `drain`, which returns while less than 64 KiB wait to be read, for however long.
                await writer.wait_closed()
        except TimeoutError:
            writer.transport.abort()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a client that asks in this way does not wait for an answer
        finally:
            self._connections -= 1
            writer.close()

    def _answer(self, request_line: str) -> bytes:
        method, _, rest = request_line.partition(" ")
        target, _, version = rest.partition(" ")
        allow = ""
        page = self._pages.get(target.partition("?")[0])
        if not version.startswith("HTTP/1."):
            answer = _line(400, "not HTTP/1")
        elif method not in ("GET", "HEAD"):
            answer, allow = _line(405, "GET only"), "Allow: GET, HEAD\r\n"
        elif page is None:
            answer = _line(404, " ".join(self._pages))
        else:
            answer = page_answer(page)
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n{allow}Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else answer.body)


async def serve_status(host: str, port: int, pages: Pages) -> StatusServer:
    """Answer `pages` on `host:port` (0: any port).

    Plain asyncio, not uvicorn: a dozen requests a minute, and half of the services have no HTTP server
    otherwise.

    Raises:
        ListenFailed: If the address cannot be bound.
    """
    server = StatusServer(pages)
    await server.listen(host, port)
    return server
