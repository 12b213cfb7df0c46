"""API keys: the app each belongs to, and its connection limit.

A key is kept and compared as its SHA-256, so neither memory nor a keys file need hold it, and the time of a
comparison does not depend on its content. Keys are random strings of machines, not passwords of people: a
fast hash is enough.

    app:key            any number of connections
    app:key:limit      as in flashbots' websocket-proxy
    app:sha256=HEX:limit   the same, without the key itself

A keys file has one such entry a line; empty lines and `#` comments are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flashctl.core.hub import UpgradeRequest
from flashctl.errors import IoError, UsageError

__all__ = ["ApiKey", "ApiKeys", "InvalidApiKey", "load_keys", "presented_key"]

_LIMIT_DIGITS = 9
_HASH = re.compile(r"sha256=([0-9a-fA-F]{64})\Z")
MAX_KEYS_FILE_BYTES = 4 << 20


class InvalidApiKey(UsageError):
    """An entry of `--api-keys` or the keys file; the message never shows the key."""

    def __init__(self, problem: str, entry: str, number: int) -> None:
        self.number = number
        app = entry.split(":", 1)[0] if ":" in entry else ""
        super().__init__(
            f"{problem}: entry {number}{f' of app {app!r}' if app else ''}", hint="app:key[:limit]"
        )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One entry."""

    app: str
    digest: bytes
    """SHA-256 of the key."""
    limit: int | None
    """Connections at once; None leaves it to the other limits."""


class ApiKeys:
    """The keys in force."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def parse(cls, entries: Iterable[str]) -> ApiKeys:
        """Keys from `app:key[:limit]` entries; empty ones are ignored.

        Raises:
            InvalidApiKey: If an entry is malformed, or an app or a key appears twice.
        """
        keys: list[ApiKey] = []
        apps: set[str] = set()
        digests: set[bytes] = set()
        for number, raw in enumerate(entries, 1):
            entry = raw.strip()
            if not entry:
                continue
            key = _parse_entry(entry, number)
            if key.app in apps:
                raise InvalidApiKey("Duplicate application argument", entry, number)
            if key.digest in digests:
                raise InvalidApiKey("Duplicate API key", entry, number)
            apps.add(key.app)
            digests.add(key.digest)
            keys.append(key)
        return cls(keys)

    def find(self, presented: str) -> ApiKey | None:
        """The entry of a key a client presented; compares with every entry, so that timing reveals
        nothing."""
        digest = hashlib.sha256(presented.encode()).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def _parse_entry(entry: str, number: int) -> ApiKey:
    app, *rest = (part.strip() for part in entry.split(":"))
    if not app:
        raise InvalidApiKey("Missing application argument", entry, number)
    if not rest or not rest[0]:
        raise InvalidApiKey("Missing API Key argument", entry, number)
    if len(rest) > 2:
        raise InvalidApiKey("Too many components", entry, number)
    limit: int | None = None
    if len(rest) == 2:
        if not (rest[1].isascii() and rest[1].isdigit() and len(rest[1]) <= _LIMIT_DIGITS):
            raise InvalidApiKey("Missing rate limit argument", entry, number)
        limit = int(rest[1])
    hashed = _HASH.match(rest[0])
    digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(rest[0].encode()).digest()
    return ApiKey(app, digest, limit)


def load_keys(inline: Iterable[str], path: Path | None) -> ApiKeys:
    """The keys of the command line and the file.

    Raises:
        InvalidApiKey: If an entry is malformed.
        IoError: If the file cannot be read.
    """
    entries = list(inline)
    if path is not None:
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MAX_KEYS_FILE_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise IoError(f"API keys file {path}: {getattr(error, 'strerror', None) or error}") from None
        entries += [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return ApiKeys.parse(entries)


def presented_key(request: UpgradeRequest, in_path: str | None) -> str | None:
    """The key a client presents: in the path, as `X-API-Key`, or as a bearer token."""
    if in_path:
        return in_path
    if (header := request.header("x-api-key")) is not None:
        return header.strip()
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None
