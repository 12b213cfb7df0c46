"""The Engine API's shared-secret tokens: HS256 with an issue time, nothing else.

Both ends of an engine connection hold 32 bytes of secret. The caller mints a token per request, the
server accepts it within a minute of its issue time (execution-apis, `src/engine/authentication.md`).

Encoding, signature and the pinned algorithm are PyJWT's; the times are checked here, because the window is
the Engine API's own and PyJWT reads the clock itself. Its import (93 ms, most of it `cryptography`) is paid
where a secret is made: not on the event loop, and not by roles without an engine connection. 14 us to mint
and 23 us to check a token are paid once a second at most, for both are cached.
"""

from __future__ import annotations

import importlib
import os
import secrets
import stat
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from string import hexdigits
from types import ModuleType
from typing import Any, Final

from flashctl.errors import AuthError, IoError, UsageError

__all__ = [
    "ISSUED_AT_WINDOW_S",
    "SECRET_SIZE",
    "JwtSecret",
    "bearer",
    "create_secret",
    "load_secret",
    "mint",
    "parse_secret",
    "verify",
]

SECRET_SIZE = 32
"""Bytes in an engine secret: 256 bits, written as 64 hex digits."""

ISSUED_AT_WINDOW_S = 60
"""How far `iat` may lie from the server's clock, either way."""

MAX_TOKEN_SIZE = 4096
"""A token longer than this is refused unread; those of flashctl have 105 characters."""

ALGORITHM: Final = "HS256"
"""The only one that the Engine API knows; a token's own header never chooses another."""

_SIGNATURE_ONLY: Final[Mapping[str, Any]] = {
    "verify_signature": True,
    "require": [],
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}
"""What PyJWT checks: not the times, which are checked here, nor claims that the Engine API does not have."""


def parse_secret(text: str) -> bytes:
    """The secret written as 64 hex digits, with or without `0x`, whitespace around it ignored.

    Raises:
        UsageError: If it is anything else; the text itself is never repeated in the message.
    """
    digits = text.strip().removeprefix("0x")
    if len(digits) != 2 * SECRET_SIZE:
        raise UsageError(
            f"JWT key is expected to have a length of {2 * SECRET_SIZE} digits. "
            f"{len(digits)} digits key provided"
        )
    # fromhex alone would pass over blanks between the digits.
    if any(digit not in hexdigits for digit in digits):
        raise UsageError("JWT key is not hexadecimal")
    return bytes.fromhex(digits)


class JwtSecret:
    """A secret from a file, which `reload` reads again: every signer and verifier that holds this object then
    uses the new one."""

    __slots__ = ("_value", "path")

    def __init__(self, value: bytes, path: Path | None = None) -> None:
        """One that never changes has no `path`."""
        _library()
        self._value = value
        self.path = path

    @classmethod
    def load(cls, path: Path) -> JwtSecret:
        """Raises: as `load_secret`."""
        return cls(load_secret(path), path)

    @property
    def value(self) -> bytes:
        """The secret in force, 32 bytes."""
        return self._value

    def reload(self) -> None:
        """Read the file again.

        Raises:
            IoError, UsageError: As `load_secret`; the secret in force stays.
        """
        if self.path is not None:
            self._value = load_secret(self.path)

    def __repr__(self) -> str:
        return f"JwtSecret({self.path or 'given'})"


def load_secret(path: str | Path) -> bytes:
    """The secret kept in a file as hex text.

    Raises:
        IoError: If the file cannot be read.
        UsageError: If its content is not a secret.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise IoError(f"cannot read JWT secret {path}: {error.strerror}") from error
    try:
        return parse_secret(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def create_secret(path: str | Path) -> bytes:
    """A fresh random secret, written to `path` for its owner's eyes only.

    Raises:
        IoError: If the file exists already or cannot be written.
    """
    secret = secrets.token_bytes(SECRET_SIZE)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret.hex() + "\n")
    except OSError as error:
        raise IoError(f"cannot write JWT secret {path}: {error.strerror}") from error
    return secret


def mint(secret: bytes | JwtSecret, now: float) -> str:
    """A token issued at `now`, in seconds since the epoch."""
    return bearer(secret, now).removeprefix(b"Bearer ").decode("ascii")


def bearer(secret: bytes | JwtSecret, now: float) -> bytes:
    """The value of an `Authorization` header holding a token issued at `now`."""
    return _bearer(_bytes_of(secret), int(now))


@lru_cache(maxsize=64)
def _bearer(secret: bytes, issued_at: int) -> bytes:
    """Cached: whole seconds make all tokens of one second the same."""
    token: str = _library().encode({"iat": issued_at}, secret, ALGORITHM)
    return b"Bearer " + token.encode("ascii")


def verify(secret: bytes | JwtSecret, header: bytes | None, now: float) -> None:
    """Check the `Authorization` header of a request that arrived at `now` (seconds since the epoch).

    The signature is compared in constant time, before anything of the claims is parsed.

    Raises:
        AuthError: If the header is absent, malformed, wrongly signed or issued too far from `now`.
    """
    if header is None:
        raise AuthError("missing token")
    scheme, _, token = header.strip().partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise AuthError("missing token")
    if len(token) > MAX_TOKEN_SIZE:
        raise AuthError("token too long")
    issued_at, expires_at = _signed_times(_bytes_of(secret), token.strip())
    # Written so that NaN, which json accepts and which compares false with everything, is stale too.
    if not abs(issued_at - now) <= ISSUED_AT_WINDOW_S:
        raise AuthError(f"stale token: issued {abs(now - issued_at):.0f} s from the server's clock")
    if expires_at is not None and not expires_at > now:
        raise AuthError("token has expired")


@lru_cache(maxsize=1024)
def _signed_times(secret: bytes, token: bytes) -> tuple[float, float | None]:
    """When a token with a good signature was issued and expires; the rest of the check depends on the clock.

    Cached because clients send one token for a second or longer, and only good ones are: what raises is not
    remembered. Looking a token up reveals nothing about others: Python hashes bytes with a secret key.
    """
    jwt = _library()
    try:
        claims = jwt.decode(token, secret, algorithms=[ALGORITHM], options=dict(_SIGNATURE_ONLY))
    except jwt.InvalidSignatureError:
        raise AuthError("invalid token signature") from None
    except jwt.InvalidAlgorithmError:
        raise AuthError(f"token is not signed with {ALGORITHM}") from None
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise AuthError("malformed token") from None
    issued_at, expires_at = claims.get("iat"), claims.get("exp")
    if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
        raise AuthError("missing issued-at in token")
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int | float)):
        raise AuthError("expiry in token is not a number")
    try:
        return float(issued_at), None if expires_at is None else float(expires_at)
    except OverflowError:
        raise AuthError("malformed token") from None


def _bytes_of(secret: bytes | JwtSecret) -> bytes:
    return secret if isinstance(secret, bytes) else secret.value


@cache
def _library() -> ModuleType:
    """PyJWT, at its first use."""
    return importlib.import_module("jwt")
