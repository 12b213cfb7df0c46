"""Started under the name of a tool that it replaces, flashctl is that role with that tool's defaults.

    ln -s "$(command -v flashctl)" /usr/local/bin/websocket-proxy

So a container or a unit that names the tool goes on as it was, open ports included.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["peer_defaults", "role_by_name"]

_DEFAULTS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "websocket-proxy": (
        "proxy",
        {"listen_addr": "0.0.0.0:8545", "metrics_addr": "0.0.0.0:9000", "client_ping_enabled": False},
    ),
    "rollup-boost": (
        "boost",
        {
            "builder_url": "http://127.0.0.1:8551",
            "l2_url": "http://127.0.0.1:8551",
            "flashblocks": False,
        },
    ),
}


def role_by_name() -> str | None:
    """The role that the name of this process asks for, if it does."""
    known = _DEFAULTS.get(_name())
    return known[0] if known is not None else None


def peer_defaults(role: str) -> Mapping[str, Any]:
    """Settings under which the tool of this process' name starts; none under any other name."""
    known = _DEFAULTS.get(_name())
    return known[1] if known is not None and known[0] == role else {}


def _name() -> str:
    return os.path.basename(sys.argv[0])
