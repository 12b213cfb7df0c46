"""Pages on the port of a stream: probes and metrics beside the WebSocket."""

from __future__ import annotations

from collections.abc import Callable

from flashctl.core.hub.handshake import HttpResponse, UpgradeRequest
from flashctl.core.service.status import Pages, page_answer

__all__ = ["answer_pages"]


def answer_pages(pages: Pages) -> Callable[[UpgradeRequest], HttpResponse | None]:
    """The `pages` of a hub's server: None for a path that is no page."""

    def answer(request: UpgradeRequest) -> HttpResponse | None:
        page = pages.get(request.path)
        if page is None:
            return None
        if request.method not in ("GET", "HEAD"):
            return HttpResponse.text(405, "", allow="GET,HEAD")
        found = page_answer(page)
        return HttpResponse(found.status, found.body, found.content_type)

    return answer
