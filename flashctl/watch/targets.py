"""From what the user named to what is connected to: a URL, or a profile that knows one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashctl.core.profile import Profile, UnknownProfile, load_profile
from flashctl.errors import AuthError, UsageError
from flashctl.watch.config import StreamConfig

__all__ = ["Target", "parse_headers", "resolve_stream"]


@dataclass(frozen=True, slots=True)
class Target:
    """A stream, and the node beside it where the profile names one."""

    config: StreamConfig
    rpc_url: str | None = None
    send_url: str | None = None
    """Where transactions go, if that is another place."""


def resolve_stream(target: str | None, url: str | None, *, needed: bool, **settings: Any) -> Target:
    """The stream that an argument, or `--url`, means.

    Raises:
        UsageError: There is none, or the name is no profile.
    """
    name = target if target is not None else url
    if name is None:
        if needed:
            raise UsageError(
                "no stream to watch",
                hint="give a ws:// URL or a profile, such as `flashctl watch base-mainnet`",
            )
        return Target(StreamConfig(**settings))
    if "://" in name:
        return Target(StreamConfig(url=name, **settings))
    profile = _profile(name)
    stream = profile.tables.get("watch", {}).get("url")
    rpc = profile.tables.get("rpc", {})
    if not isinstance(stream, str):
        raise UsageError(f"profile {profile.name} has no [watch] url")
    return Target(
        StreamConfig(url=stream, **settings),
        _text_or_none(rpc.get("upstream_rpc")),
        _text_or_none(rpc.get("sequencer")),
    )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _profile(name: str) -> Profile:
    """The profile of this name; `base` finds `base-mainnet`."""
    try:
        return load_profile(name)
    except UnknownProfile as error:
        try:
            return load_profile(f"{name}-mainnet")
        except UnknownProfile:
            raise error from None


def parse_headers(lines: Sequence[str], key_file: Path | None) -> Mapping[str, str]:
    """Headers from `-H 'Name: value'` and a file with a key.

    Raises:
        UsageError: A line without a colon. AuthError: The file cannot be read or is empty.
    """
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or any(c in line for c in "\r\n"):
            raise UsageError(f"-H {line!r}: expected 'Name: value'")
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
