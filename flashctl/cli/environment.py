"""The environment of a command: the names of its variables, and a warning for those that match no flag.

A variable that is set and silently ignored is found in production. So what begins with FLASHCTL_ and is no
flag, and what the tool that a role replaces would have read, is named once in the log.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Final

__all__ = ["environment_name", "unread_variables"]

_OF_EVERY_COMMAND: Final = frozenset({"FLASHCTL_PROFILE", "FLASHCTL_LOG"})

_OF_TESTS: Final = ("FLASHCTL_EELS_", "FLASHCTL_ETH_ACCOUNT_", "FLASHCTL_FIXTURES", "FLASHCTL_NODE_MODULES",
                    "FLASHCTL_SOAK_", "FLASHCTL_UPDATE_", "FLASHCTL_WEB3_")  # fmt: skip
"""What tests and benchmarks read."""

_NO: Final = frozenset({"", "0", "false", "no", "off"})

_OF_PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    # rollup-boost: tracing, a log file, and flashblocks between peers.
    "boost": (
        "TRACING", "OTLP_ENDPOINT", "LOG_FILE",
        "FLASHBLOCKS_P2P", "FLASHBLOCKS_AUTHORIZER_SK", "FLASHBLOCKS_BUILDER_VK",
    ),
    # op-rbuilder
    "builder": (
        "BUILDER_SECRET_KEY", "BUILDER_EXCLUDE_REVERTS_BETWEEN_FLASHBLOCKS", "PRE_SIMULATE_BUNDLES",
        "PRESIM_MAX_CONCURRENT", "ENABLE_TX_TRACKING_DEBUG_LOGS", "PLAYGROUND_DIR",
        "FLASHBLOCKS_DISABLE_STATE_ROOT", "FLASHBLOCKS_ENABLE_INCREMENTAL_STATE_ROOT",
        "FLASHBLOCK_NUMBER_CONTRACT_ADDRESS", "FLASHBLOCK_NUMBER_CONTRACT_USE_PERMIT",
        "FLASHBLOCKS_CONTINUOUS_BUILD", "FLASHBLOCK_FIXED",
        "FLASHBLOCK_P2P_ENABLED", "FLASHBLOCK_P2P_PORT", "FLASHBLOCK_P2P_PRIVATE_KEY_FILE",
        "FLASHBLOCK_P2P_KNOWN_PEERS", "FLASHBLOCK_P2P_MAX_PEER_COUNT",
        "OTEL_EXPORTER_OTLP_ENDPOINT", "SAMPLING_RATIO", "LOKI_URL",
        "GAS_LIMITER_ENABLED", "MAX_GAS_PER_ADDRESS", "COMPUTE_LIMITER_ENABLED", "MAX_TIME_US_PER_ADDRESS",
        "ENABLE_FLASHTESTATIONS",
    ),
    # websocket-proxy, Base's and what its own example file still names
    "proxy": (
        "WEBSOCKET_PROXY_LOG_VERBOSITY", "WEBSOCKET_PROXY_LOG_FORMAT", "WEBSOCKET_PROXY_LOG_DIR",
        "MAXIMUM_CONCURRENT_CONNECTIONS",
    ),
}  # fmt: skip


def environment_name(role: str, parameter: str) -> str:
    """The environment variable of a flag: FLASHCTL_BOOST_BUILDER_URL for `builder_url` of boost."""
    return f"FLASHCTL_{role}_{parameter}".upper().replace("-", "_")


def unread_variables(
    role: str, roles: Collection[str], keys: Collection[str], *, service: bool
) -> Iterator[str]:
    """What to say about variables that are set and that a command of `role` does not read, a line each.

    Variables of other roles are theirs to check: one environment often serves a whole pipeline. What the
    replaced tool would have read counts for services only.
    """
    known = {environment_name(role, key) for key in keys}
    known |= {environment_name(role, key) for key in ("profile", "log_level", "log_format")}
    prefixes = tuple(environment_name(other, "") for other in roles if other != role)
    for name in sorted(os.environ):
        if not name.startswith("FLASHCTL_") or name in known or name in _OF_EVERY_COMMAND:
            continue
        if name.startswith((*prefixes, *_OF_TESTS)):
            continue
        yield f"{name} is set, and no flag has that name{_nearest(name, role, known)}"
    for name in _OF_PEERS.get(role, ()) if service else ():
        if os.environ.get(name, "").strip().lower() not in _NO:
            yield f"{name} is set, and flashctl {role} has nothing that it could change"


def _nearest(name: str, role: str, known: Collection[str]) -> str:
    import difflib

    begun = name if name.startswith(environment_name(role, "")) else environment_name(role, name[9:])
    close = difflib.get_close_matches(begun, known, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""
