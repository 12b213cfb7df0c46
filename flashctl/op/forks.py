"""The OP Stack forks in order, and the EVM each of them runs.

| fork     | adds to its predecessor                                                              |
|----------|--------------------------------------------------------------------------------------|
| Regolith | deposits report real gas use and their nonce                                         |
| Canyon   | Shanghai EVM, create2 deployer, deposit nonce inside the receipts root               |
| Ecotone  | Cancun EVM, L1 fee from blob base fee                                                |
| Fjord    | L1 fee from a FastLZ estimate, P256VERIFY                                            |
| Granite  | bn254 pairing input limit                                                            |
| Holocene | EIP-1559 parameters in the header's extra data                                       |
| Isthmus  | Prague EVM, operator fee, withdrawals root = storage root of the message passer      |
| Jovian   | DA footprint in `blob_gas_used`, minimum base fee, operator fee times 100            |
| Karst    | Osaka EVM, tighter pairing input limit                                               |

Delta changed derivation only and does not appear. The enum imports nothing: readers of a chain
config (a decoder, a proxy) do not pay for an EVM. https://specs.optimism.io/protocol/superchain-upgrades.html
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["OpFork"]


class OpFork(IntEnum):
    """A fork of the OP Stack's execution rules; comparing two tells which came first."""

    BEDROCK = 0
    REGOLITH = 1
    CANYON = 2
    ECOTONE = 3
    FJORD = 4
    GRANITE = 5
    HOLOCENE = 6
    ISTHMUS = 7
    JOVIAN = 8
    KARST = 9

    @property
    def label(self) -> str:
        """The fork's name as operators write it: `holocene`."""
        return self.name.lower()
