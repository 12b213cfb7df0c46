"""Where HTTP requests go: a URL taken apart once, and the part of a request that never changes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes, urlsplit

from flashctl import __version__
from flashctl.core.net.urls import mask_url
from flashctl.errors import UsageError

__all__ = ["Endpoint", "encode_post", "request_prefix"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An http or https URL. Its `repr` and `shown` hold no secret, its other fields may."""

    shown: str
    """The URL as `mask_url` shows it: the only form for logs, answers and pages."""

    url: str = field(repr=False)
    """The whole of it, with its scheme."""

    host: str
    port: int
    tls: bool
    path: str = field(repr=False)
    """With the query."""

    authorization: bytes | None = field(default=None, repr=False)
    """The header's value for a URL with `user:password@`, Basic of RFC 7617; None without."""

    @classmethod
    def parse(cls, url: str, *, default_scheme: str = "http") -> Endpoint:
        """Take a URL apart; one without a scheme (`127.0.0.1:8551`) gets `default_scheme`.

        Raises:
            UsageError: If it is not an http or https URL with a host.
        """
        text = url.strip()
        if "://" not in text:
            text = f"{default_scheme}://{text}"
        shown = mask_url(text)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            # urllib's own words quote what it could not read, which may be half of a password.
            raise UsageError(f"not a URL: {shown!r} (host or port)") from None
        if parts.scheme not in ("http", "https"):
            raise UsageError(f"not an http or https URL: {shown!r}")
        if not parts.hostname or not (parts.netloc + parts.path + parts.query).isprintable() or " " in text:
            raise UsageError(f"not a URL: {shown!r}")
        tls = parts.scheme == "https"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(shown, text, parts.hostname, port or (443 if tls else 80), tls, path, _basic(parts.netloc))

    @property
    def authority(self) -> str:
        """What the Host header holds."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def _basic(netloc: str) -> bytes | None:
    user, at, _ = netloc.rpartition("@")
    if not at:
        return None
    name, _, password = user.partition(":")
    return b"Basic " + base64.b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password))


def request_prefix(endpoint: Endpoint) -> bytes:
    """The request line and the headers that every request to an endpoint shares."""
    lines = (
        f"POST {endpoint.path} HTTP/1.1\r\n"
        f"host: {endpoint.authority}\r\n"
        f"user-agent: flashctl/{__version__}\r\n"
        "content-type: application/json\r\n"
        "accept: application/json\r\n"
        "accept-encoding: identity\r\n"
    ).encode()
    return lines + (b"authorization: %b\r\n" % endpoint.authorization if endpoint.authorization else b"")


def encode_post(prefix: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A whole request in one piece, so that it leaves in one write.

    `prefix` is `request_prefix(endpoint)`: the part that never changes.
    """
    lines = [prefix]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    lines += [b"content-length: %d\r\n\r\n" % len(body), body]
    return b"".join(lines)
