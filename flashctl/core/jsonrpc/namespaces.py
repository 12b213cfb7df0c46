"""Which methods a port answers, by namespace: the part of a method's name before its first underscore.

On a public port: `eth`, `net`, `web3` and `txpool` (op-geth's and reth's defaults). `miner`, `admin` and
`debug` change what a node does or make it work hard; they are answered only where they are configured by
name, with a warning, or behind a token.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from typing import Final

from flashctl.errors import UsageError

__all__ = ["EVERYTHING", "USER_NAMESPACES", "allows", "parse_namespaces", "parse_origins", "warn_of_exposed"]

_LOG = logging.getLogger(__name__)

USER_NAMESPACES: Final = frozenset({"eth", "net", "web3", "txpool"})
"""What a user port answers by default."""

EVERYTHING: Final = frozenset({"*"})
"""All namespaces, for a port that trusts its callers."""

_ALWAYS: Final = "rpc"
"""`rpc_modules` lists the namespaces; geth answers it on every port."""

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@?#]+")

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,31}")

MAX_NAMES: Final = 64


def parse_namespaces(text: str, flag: str = "--http.api") -> frozenset[str]:
    """The namespaces of a comma-separated list; `*` and `all` (reth's word) are `EVERYTHING`.

    Raises:
        UsageError: If it is no such list.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if names in (["*"], ["all"]):
        return EVERYTHING
    if len(names) > MAX_NAMES or not all(_NAME.fullmatch(name) for name in names):
        raise UsageError(
            f"{flag} {text[:100]!r} is not a list of namespaces", hint="for example eth,net,web3"
        )
    return frozenset(names)


def parse_origins(values: Sequence[str] | None, flag: str = "--http.corsdomain") -> tuple[str, ...]:
    """The origins in repeated and comma-separated values: `*`, or `https://dapp.example` each.

    Raises:
        UsageError: If one is neither.
    """
    origins = tuple(
        part for value in values or () for item in value.split(",") if (part := item.strip().rstrip("/"))
    )
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise UsageError(f"{flag} {origin[:100]!r} is not an origin", hint="https://dapp.example, or *")
    return origins


def allows(namespaces: Collection[str], method: str) -> bool:
    """Whether a port that answers `namespaces` answers `method`."""
    namespace = method.partition("_")[0]
    return namespace in namespaces or namespace == _ALWAYS or "*" in namespaces


def warn_of_exposed(namespaces: Collection[str], where: str) -> None:
    """Warn of privileged namespaces on a port without a token."""
    names = sorted(set(namespaces) - USER_NAMESPACES - {_ALWAYS})
    if not names:
        return
    what = "every namespace" if "*" in names else " and ".join(", ".join(names).rsplit(", ", 1))
    _LOG.warning("%s exposes %s without a token", where, what)
