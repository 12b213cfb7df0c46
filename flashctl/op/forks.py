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
    """A fork of the OP Stack's execution rules; later forks compare greater."""

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

    # Rules that several modules depend on: one test for each.

    @property
    def has_withdrawals(self) -> bool:
        """Blocks have a list of withdrawals, which is empty, and its root (Canyon)."""
        return self >= OpFork.CANYON

    @property
    def has_beacon_root(self) -> bool:
        """Headers have the beacon root of the L1 origin and the fields of blob gas (Ecotone, EIP-4788)."""
        return self >= OpFork.ECOTONE

    @property
    def has_receipt_version(self) -> bool:
        """Receipts of deposits carry their version (Canyon)."""
        return self >= OpFork.CANYON

    @property
    def prices_blobs(self) -> bool:
        """The L1 fee has one scalar for calldata and one for blobs, packed in the L1 attributes (Ecotone)."""
        return self >= OpFork.ECOTONE

    @property
    def prices_compressed_size(self) -> bool:
        """The L1 fee is for an estimate of the compressed size (Fjord)."""
        return self >= OpFork.FJORD

    @property
    def has_fee_parameters(self) -> bool:
        """Extra data holds the EIP-1559 parameters of the next block (Holocene)."""
        return self >= OpFork.HOLOCENE

    @property
    def has_operator_fee(self) -> bool:
        """Transactions pay an operator fee (Isthmus)."""
        return self >= OpFork.ISTHMUS

    @property
    def has_requests(self) -> bool:
        """Headers have the hash of the execution requests, of which there are none (Isthmus, EIP-7685)."""
        return self >= OpFork.ISTHMUS

    @property
    def has_set_code(self) -> bool:
        """Transactions of type 4 are valid (Isthmus, EIP-7702)."""
        return self >= OpFork.ISTHMUS

    @property
    def stores_block_hashes(self) -> bool:
        """Every block writes its parent's hash to the history contract (Isthmus, EIP-2935)."""
        return self >= OpFork.ISTHMUS

    @property
    def commits_to_message_passer(self) -> bool:
        """The withdrawals root is the storage root of L2ToL1MessagePasser (Isthmus)."""
        return self >= OpFork.ISTHMUS

    @property
    def has_min_base_fee(self) -> bool:
        """Extra data holds a floor under the base fee (Jovian)."""
        return self >= OpFork.JOVIAN

    @property
    def has_da_footprint(self) -> bool:
        """`blob_gas_used` is the footprint of the block's data (Jovian)."""
        return self >= OpFork.JOVIAN
