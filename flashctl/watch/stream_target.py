"""From what the user named to what is connected to: a URL, or a profile that knows one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashctl.core.settings.profile import load_profile
from flashctl.errors import AuthError, UsageError
from flashctl.watch.config import ConnectionConfig

__all__ = ["StreamTarget", "parse_headers", "resolve_stream"]


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """A stream, and the node beside it where the profile names one."""

    config: ConnectionConfig
    rpc_url: str | None = None
    send_url: str | None = None
    """Where transactions go, if that is another place."""
    notice: str = ""
    """What the profile says of it."""


def resolve_stream(url: str | None, profile: str | None, *, needed: bool, **settings: Any) -> StreamTarget:
    """The stream at `url`, and the node that a profile names beside it.

    Raises:
        UsageError: There is no URL although one is `needed`, or the name is no profile.
    """
    loaded = load_profile(profile) if profile is not None else None
    tables = loaded.tables if loaded is not None else {}
    if url is None:
        if needed:
            raise UsageError(
                f"profile {profile} has no [watch] url" if profile is not None else "no stream to watch",
                hint="give a ws:// URL or a profile, such as `flashctl watch devnet`",
            )
        return StreamTarget(ConnectionConfig(**settings))
    rpc = tables.get("rpc", {})
    return StreamTarget(
        ConnectionConfig(url=url, **settings),
        _text_or_none(rpc.get("upstream_rpc")),
        _text_or_none(rpc.get("sequencer")),
        loaded.notice if loaded is not None and url == tables.get("watch", {}).get("url") else "",
    )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def parse_headers(lines: Sequence[str], key_file: Path | None) -> Mapping[str, str]:
    """Headers from `-H 'Name: value'` and a file with a key.

    Raises:
        UsageError: A line without a colon. AuthError: The file cannot be read or is empty.
    """
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(c in line for c in "\r\n"):
            raise UsageError("-H: expected 'Name: value'")  # what it is may be a key
        headers[name.strip()] = value.strip()
    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AuthError(f"cannot read --api-key-file {key_file}: {error.strerror}") from None
        if not key:
            raise AuthError(f"--api-key-file {key_file} is empty")
        headers["Authorization"] = f"Bearer {key}"
    return headers
