"""What op-revm, inside EDR, makes of a block on each fork from Canyon to Isthmus.

EDR draws prev_randao and takes the time of day: a block made again has another hash, and the same receipts.
"""

from __future__ import annotations

from collections.abc import Iterator

from support.edr import FORKS, envelopes, mine
from vectors.oracles import npm_version
from vectors.packing import Json, Kind

from flashctl.eth.hexdata import to_hex

__all__ = ["kind"]


def cases() -> Iterator[Json]:
    for fork in FORKS:
        raws = [envelope.raw for envelope in envelopes()]
        yield {"fork": fork.label, "transactions": [to_hex(raw) for raw in raws]} | mine(fork, raws)


def kind() -> Kind:
    """The file of the pack."""
    about = "one block on each fork from Canyon to Isthmus: header, receipts and vaults after it"
    return Kind("edr", about, cases(), npm_version("@nomicfoundation/edr"))
