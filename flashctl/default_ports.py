"""The default TCP ports of every role: those of its own flags, of the peers it looks for, and of the devnet.

One table, so that roles started without a flag find one another, and a devnet is where clients expect it.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BOOST_DEBUG",
    "BOOST_ENGINE",
    "BOOST_STREAM",
    "BUILDER_ENGINE",
    "BUILDER_RPC",
    "BUILDER_STREAM",
    "FALLBACK_ENGINE",
    "FALLBACK_RPC",
    "PROXY",
    "RPC",
    "RPC_SEALED",
]

RPC: Final = 8545
"""JSON-RPC whose latest is the newest flashblock; that of op-geth and op-reth."""
RPC_SEALED: Final = 8546
"""JSON-RPC whose latest is the newest sealed block."""
PROXY: Final = 8547
"""Flashblocks, for any number of clients."""
BOOST_STREAM: Final = 1112
"""Flashblocks that boost accepted; as rollup-boost."""
BOOST_ENGINE: Final = 8081
"""Engine API that the sequencer drives; as rollup-boost."""
BOOST_DEBUG: Final = 5555
"""boost's debug API; as rollup-boost."""
BUILDER_RPC: Final = 8645
BUILDER_ENGINE: Final = 8651
BUILDER_STREAM: Final = 1111
"""The builder's flashblocks; as op-rbuilder."""
FALLBACK_RPC: Final = 8745
FALLBACK_ENGINE: Final = 8751
