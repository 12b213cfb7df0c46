"""The client address for the limits, one that the client cannot choose itself.

A forwarding header is used only from a trusted proxy; other peers could forge identities with it. The last
address of the header that is not a trusted proxy is the client, read from the right because that end was
written by the nearest proxy. IPv6 clients are counted by their /64, the smallest block a provider assigns to
a customer: a limit on single addresses could be evaded.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

from flashctl.core.hub import UpgradeRequest
from flashctl.errors import UsageError

__all__ = ["ClientAddresses", "InvalidNetwork", "parse_forwarded_address"]

_LOG = logging.getLogger(__name__)

IPV6_PREFIX = 64

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class InvalidNetwork(UsageError):
    """A value of --trusted-proxies that is neither an address nor a network."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"--trusted-proxies: {text!r} is not an address or a network", hint="10.0.0.0/8")


class ClientAddresses:
    """Determines the address that a request's connection is counted under."""

    def __init__(self, header: str, trusted: Sequence[str]) -> None:
        self._header = header.lower()
        self._said = False
        """Whether an untrusted peer's header was logged."""
        self._trusted: list[_Network] = []
        for text in trusted:
            try:
                self._trusted.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise InvalidNetwork(text) from None

    def is_trusted(self, text: str) -> bool:
        """Whether the address is one of the trusted proxies."""
        address = _plain(text)
        return address is not None and self._trusts(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)

    def client(self, request: UpgradeRequest) -> str:
        """The client's address: the TCP peer's unless a trusted proxy forwards another."""
        peer = _plain(request.peer)
        if peer is None:
            return request.peer
        if not self._trusts(peer):
            if not self._said and request.header_list(self._header):
                self._said = True
                _LOG.warning(
                    "%s from %s is ignored, as from any peer outside --trusted-proxies",
                    self._header,
                    peer,
                )
            return str(peer)
        found = peer
        for element in reversed(request.header_list(self._header)):
            address = parse_forwarded_address(element)
            if address is None:
                break  # no trusted proxy wrote what stands left of an unreadable element
            found = address
            if not self._trusts(address):
                break
        return str(found)

    @staticmethod
    def group(address: str) -> str:
        """The address to count under: itself, or its /64."""
        parsed = _plain(address)
        if isinstance(parsed, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
        return address


def parse_forwarded_address(element: str) -> _Address | None:
    """The address in one element of a forwarding header: bare, with a port, in brackets, or `for=…`."""
    text = element.strip()
    if "=" in text:  # RFC 7239: for="[2001:db8::1]:4711";proto=https
        pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
        text = next((value for name, value in pairs if name.strip().lower() == "for"), "")
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return _plain(text)


def _plain(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
