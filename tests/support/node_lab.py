"""A node with a pool, a pending block and a short chain that holds one of everything, for API tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.devnet_chain import GWEI, address, contract, encode_call, mine, open_devnet, sign, sign_raw
from support.rpc_lab import Caller, ListPool

from flashctl.chain.chain import Chain, ChainBlock
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.signatures import sign_authorization
from flashctl.eth.transactions import AccessListEntry, AccessListTx, LegacyTx, SetCodeTx
from flashctl.ethrpc.call_runner import CallLimits
from flashctl.ethrpc.eth_api import EthApi
from flashctl.ethrpc.interfaces import UnsealedBlock
from flashctl.ethrpc.tx_waiters import TxWaiters
from flashctl.op.execution import SealedBlock

PROBE, TOKEN = contract("Probe"), contract("Token")
ETHER = 10**18


def created(sender: int, nonce: int) -> bytes:
    return keccak256(join_list((encode_bytes(address(sender)), encode_uint(nonce))))[12:]


@dataclass
class Node:
    """A node under test."""

    chain: Chain
    pool: ListPool
    methods: Methods
    api: EthApi
    rpc: Caller
    blocks: list[ChainBlock]
    arrivals: TxWaiters = field(default_factory=TxWaiters)
    pending: SealedBlock | None = None

    def build_on(self, sealed: SealedBlock) -> None:
        """Make this the block being built, and say so."""
        self.pending = sealed
        self.arrivals.arrived(envelope.hash for envelope in sealed.envelopes)


PROBE_AT, TOKEN_AT = created(0, 0), created(1, 0)


def start(limits: CallLimits | None = None, grown: bool = True, **genesis: Any) -> Node:
    """A node whose chain has one block of every kind of transaction and one with logs."""
    chain, pool, methods = open_devnet(**genesis), ListPool(), Methods()
    node = Node(chain, pool, methods, None, Caller(methods), [])  # type: ignore[arg-type]

    def pending() -> UnsealedBlock | None:
        sealed = node.pending
        if sealed is None:
            return None
        return UnsealedBlock(sealed.header, sealed.envelopes, sealed.receipts, sealed.world)

    node.api = EthApi(chain, pool, pending, limits, waiters=node.arrivals)
    node.api.register(methods)
    if grown:
        node.blocks = grow(chain)
    return node


def grow(chain: Chain) -> list[ChainBlock]:
    delegation = sign_authorization(901, PROBE_AT, 1, DEVNET_ACCOUNTS[1].secret)
    entry = AccessListEntry(PROBE_AT, (bytes(32),))
    return [
        mine(
            chain,
            [
                sign(0, 0, data=PROBE.creation_code, gas=2_000_000),
                sign(1, 0, data=TOKEN.creation_code + (10**6).to_bytes(32, "big"), gas=2_000_000),
                sign_raw(LegacyTx(0, 50 * GWEI, 21_000, address(3), ETHER, b"", 35 + 2 * 901, 0, 0), 2),
                sign_raw(
                    AccessListTx(
                        901,
                        1,
                        50 * GWEI,
                        90_000,
                        PROBE_AT,
                        0,
                        PROBE.selectors["increment()"],
                        (entry,),
                        0,
                        0,
                        0,
                    ),
                    2,
                ),
                sign_raw(
                    SetCodeTx(
                        901, 0, GWEI, 50 * GWEI, 90_000, address(4), 0, b"", (), (delegation,), 0, 0, 0
                    ),
                    3,
                ),
            ],
        ),
        mine(
            chain,
            [
                sign(0, 1, to=PROBE_AT, data=encode_call(PROBE, "increment()")),
                sign(0, 2, to=PROBE_AT, data=encode_call(PROBE, "emitNotes(uint256)", 3)),
                sign(1, 2, to=TOKEN_AT, data=encode_call(TOKEN, "transfer(address,uint256)", address(5), 7)),
                sign(0, 3, to=PROBE_AT, data=encode_call(PROBE, "refuse(uint256)", 9)),
            ],
        ),
        mine(chain),
    ]
