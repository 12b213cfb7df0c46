"""URLs as they may be shown: without what could be a secret."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

__all__ = ["hide_secrets", "mask_url"]

_PLAIN_PARTS: Final = frozenset(
    {"", "ws", "wss", "rpc", "jsonrpc", "api", "flashblocks", "stream", "eth", "op", "mainnet", "sepolia"}
)
"""Path parts that are shown. Providers put keys into paths (`/v2/KEY`), of any length and alphabet, so
whatever is not known to be harmless is hidden."""

_SHORTEST_SECRET: Final = 4
"""Shorter ones would tear holes into every text, and protect nothing."""

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


def hide_secrets(text: str, url: str) -> str:
    """`text`, which may quote `url` (an error page, a redirect), without what `mask_url` would hide of it."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return text
    candidates = [part for part in parts.path.split("/") if not _is_plain(part)]
    candidates += [parts.username or "", parts.password or "", parts.fragment]
    candidates += [value or name for name, value in _queries(parts.query)]
    candidates += parts.query.split("&")
    spellings = {spelling for secret in candidates for spelling in (secret, unquote(secret))}
    for secret in sorted(spellings, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "…")
    return text


def _is_plain(part: str) -> bool:
    return part.lower() in _PLAIN_PARTS or _VERSION.fullmatch(part) is not None


def _queries(query: str) -> list[tuple[str, str]]:
    """Names and values; a name without a value may be the key itself."""
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return [("", "")]
