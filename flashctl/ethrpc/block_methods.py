"""Every JSON-RPC method that takes a block, and what it makes of the block that is not sealed yet.

A block that is being built, or streamed, can be named in three ways: by the tag `pending`, by its number, and
by the hash that its own receipts state, which is zeros. All three mean the same. What a method then does is
one of `Means`, for an overlay upon a stream and for a builder with a chain of its own. While nothing is
pending, the tag means the latest block, and number and zero hash name nothing.

This table is what both dispatch by, so what is said here is what they do. A method that is not in it takes no
block, or is known to no node in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import required
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag, parse_block_number, parse_block_ref
from flashctl.ethrpc.params import hash_param
from flashctl.ethrpc.rpc_json import PENDING_HASH

__all__ = ["BLOCK_METHODS", "BlockMethod", "Given", "Means", "is_zero_hash"]


class Given(Enum):
    """How a method names its block."""

    NUMBER = "a tag or a number"
    HASH = "a hash"
    REF = "a tag, a number, a hash, or an object with one of them (EIP-1898)"
    FILTER = "an object with fromBlock and toBlock, or blockHash"


class Means(Enum):
    """What becomes of a question about the pending block."""

    SERVED = "answered from it"
    REFUSED = "an error with the reason"
    LATEST = "the answer for the latest block, for the method tells of sealed blocks only"


_NO_TRIE: Final = "a stream tells no state trie"
_NO_WITNESS: Final = "it is known only when the block is sealed"


@dataclass(frozen=True, slots=True)
class BlockMethod:
    """One line of the table."""

    name: str
    given: Given
    index: int
    """Of the parameter."""

    untagged: Tag | None
    """The block that is meant where the parameter is left out; None if it must be there."""

    overlay: Means
    builder: Means | None
    """None for a method that the builder's own RPC has not got."""

    why: str = _NO_WITNESS
    """The reason of a refusal."""

    def ref(self, params: list[Any]) -> BlockRef:
        """The block that parameters name.

        Raises:
            RpcError, InvalidBlockRef: -32602 if they name none.
        """
        if self.given is Given.HASH:
            return BlockHash(hash_param(params, self.index))
        if self.untagged is None:
            value = required(params, self.index, "block")
        else:
            value = params[self.index] if self.index < len(params) else None
            if value is None:
                return self.untagged
        read = parse_block_number if self.given is Given.NUMBER else parse_block_ref
        return read(value, index=self.index)

    def about(self, params: list[Any], tag: Tag) -> list[Any]:
        """The same question about the block with a tag; a filter's bounds are changed where they are
        `pending`."""
        if self.given is Given.FILTER:
            fields = params[self.index] if self.index < len(params) else None
            if not isinstance(fields, Mapping):
                return params
            asked: Any = {
                name: tag.value if value == Tag.PENDING.value else value for name, value in fields.items()
            }
        elif len(params) < self.index:
            return params  # something is missing: the node's to say
        else:
            asked = tag.value
        return [*params[: self.index], asked, *params[self.index + 1 :]]

    def refusal(self) -> RpcError:
        """The error for a question about a block that is not sealed."""
        return RpcError(
            ErrorCode.SERVER_ERROR,
            f"{self.name} is not available for the pending block: {self.why}",
        )


def is_zero_hash(ref: BlockRef) -> bool:
    """Whether a block is named by the hash that unsealed ones are shown with."""
    return isinstance(ref, BlockHash) and ref.hash == PENDING_HASH


def _served(given: Given, index: int, untagged: Tag | None, *names: str) -> list[BlockMethod]:
    return [BlockMethod(name, given, index, untagged, Means.SERVED, Means.SERVED) for name in names]


def _refused(given: Given, index: int, untagged: Tag | None, *names: str) -> list[BlockMethod]:
    """What other nodes have and an overlay passes on."""
    return [BlockMethod(name, given, index, untagged, Means.REFUSED, None) for name in names]


_ALL: Final = [
    *_served(
        Given.NUMBER,
        0,
        None,
        "eth_getBlockByNumber",
        "eth_getHeaderByNumber",
        "eth_getBlockTransactionCountByNumber",
        "eth_getTransactionByBlockNumberAndIndex",
        "eth_getRawTransactionByBlockNumberAndIndex",
        "eth_getUncleCountByBlockNumber",
        "eth_getUncleByBlockNumberAndIndex",
        "debug_traceBlockByNumber",
    ),
    *_served(
        Given.HASH,
        0,
        None,
        "eth_getBlockByHash",
        "eth_getHeaderByHash",
        "eth_getBlockTransactionCountByHash",
        "eth_getTransactionByBlockHashAndIndex",
        "eth_getRawTransactionByBlockHashAndIndex",
        "eth_getUncleCountByBlockHash",
        "eth_getUncleByBlockHashAndIndex",
        "debug_traceBlockByHash",
    ),
    *_served(
        Given.REF,
        0,
        None,
        "eth_getBlockReceipts",
        "debug_getRawBlock",
        "debug_getRawHeader",
        "debug_getRawReceipts",
    ),
    *_served(
        Given.REF,
        1,
        Tag.LATEST,
        "eth_getBalance",
        "eth_getCode",
        "eth_getTransactionCount",
        "eth_getStorageValues",
        "eth_call",
        "eth_simulateV1",
        "debug_traceCall",
    ),
    # Without a tag it is asked before sending: on what has just been preconfirmed (ethers leaves the tag
    # out).
    *_served(Given.REF, 1, Tag.PENDING, "eth_estimateGas", "eth_createAccessList"),
    *_served(Given.REF, 2, Tag.LATEST, "eth_getStorageAt"),
    *_served(Given.NUMBER, 1, None, "eth_feeHistory"),
    *_served(Given.FILTER, 0, Tag.LATEST, "eth_getLogs"),
    BlockMethod("eth_newFilter", Given.FILTER, 0, Tag.LATEST, Means.LATEST, Means.LATEST),
    BlockMethod("eth_getProof", Given.REF, 2, Tag.LATEST, Means.REFUSED, Means.SERVED, _NO_TRIE),
    BlockMethod("eth_getAccount", Given.REF, 1, Tag.LATEST, Means.REFUSED, None, _NO_TRIE),
    BlockMethod("debug_storageRangeAt", Given.REF, 0, None, Means.REFUSED, None, _NO_TRIE),
    BlockMethod("debug_accountRange", Given.REF, 0, None, Means.REFUSED, None, _NO_TRIE),
    BlockMethod("debug_dumpBlock", Given.NUMBER, 0, None, Means.REFUSED, None, _NO_TRIE),
    BlockMethod("debug_intermediateRoots", Given.HASH, 0, None, Means.REFUSED, None, _NO_TRIE),
    *_refused(Given.REF, 0, None, "debug_executionWitness", "trace_block", "trace_replayBlockTransactions"),
    *_refused(
        Given.HASH,
        0,
        None,
        "debug_executionWitnessByBlockHash",
        "debug_standardTraceBlockToFile",
        "ots_getBlockDetailsByHash",
    ),
    *_refused(Given.NUMBER, 0, None, "ots_getBlockDetails", "ots_getBlockTransactions"),
    *_refused(
        Given.REF,
        1,
        Tag.LATEST,
        "eth_callMany",
        "eth_getAccountInfo",
        "debug_traceCallMany",
        "ots_hasCode",
        "trace_callMany",
    ),
    *_refused(Given.REF, 2, Tag.LATEST, "trace_call"),
    *_refused(Given.FILTER, 0, Tag.LATEST, "trace_filter"),
]

BLOCK_METHODS: Final[Mapping[str, BlockMethod]] = {method.name: method for method in _ALL}
"""By name."""
