"""URLs as they may be shown: without what could be a secret."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

__all__ = ["mask_url"]

_PLAIN_PARTS: Final = frozenset(
    {"", "ws", "wss", "rpc", "jsonrpc", "api", "flashblocks", "stream", "eth", "op", "mainnet", "sepolia"}
)
"""Path parts that are shown. Providers put keys into paths (`/v2/KEY`), of any length and alphabet, so
whatever is not known to be harmless is hidden."""

_VERSION: Final = re.compile(r"v[0-9]{1,2}")


def mask_url(url: str) -> str:
    """`url` without what may be a secret: user, password, fragment, query values, and the parts of its path
    that are neither common words nor versions. What is no URL at all is hidden whole."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, number = parts.hostname or "", parts.port
    except ValueError:
        return "…"
    if ":" in host:
        host = f"[{host}]"
    port = f":{number}" if number else ""
    path = "/".join(part if _is_plain(part) else "…" for part in parts.path.split("/"))
    query = "&".join(f"{name}=…" if value else "…" for name, value in _queries(parts.query))
    shown = urlunsplit((parts.scheme, host + port, path, query, ""))
    return shown if "://" in url else shown.removeprefix("//")


def _is_plain(part: str) -> bool:
    return part.lower() in _PLAIN_PARTS or _VERSION.fullmatch(part) is not None


def _queries(query: str) -> list[tuple[str, str]]:
    """Names and values; a name without a value may be the key itself."""
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return [("", "")]
