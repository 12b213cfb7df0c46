"""A devnet chain in memory, its funded accounts, and the requests that a consensus client would make."""

from __future__ import annotations

from typing import Any

from flashctl.chain.chain import Chain
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.genesis import Genesis, build_genesis, devnet_genesis
from flashctl.devnet.sequencer import SequencerSettings, attributes_after
from flashctl.eth.blocks import Header
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.envelope import TxEnvelope

__all__ = ["CHAIN_ID", "GENESIS_TIME", "ask", "genesis", "memory_chain", "transfer"]

CHAIN_ID = 901
GENESIS_TIME = 1_700_000_000


def genesis(**settings: Any) -> Genesis:
    """The built-in devnet genesis at a fixed time."""
    return build_genesis(devnet_genesis(timestamp=GENESIS_TIME, **settings))


def memory_chain(**settings: Any) -> Chain:
    """A chain of that genesis that ends with the test."""
    return Chain.open(genesis(**settings))


def ask(chain: Chain, parent: Header | None = None, **settings: Any) -> PayloadAttributes:
    """What a sequencer asks for upon a block, by default the head, one block time later."""
    parent = parent or chain.head
    return attributes_after(chain.config, parent, parent.timestamp + 2, SequencerSettings(**settings))


def transfer(
    account: int = 0, nonce: int = 0, *, tip: int = 10**9, fee: int = 10**11, value: int = 1, **changes: Any
) -> TxEnvelope:
    """A signed transfer from one of the ten devnet accounts; `changes` replaces any field."""
    fields: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "nonce": nonce,
        "max_priority_fee_per_gas": tip,
        "max_fee_per_gas": fee,
        "gas_limit": 21_000,
        "to": b"\x77" * 20,
        "value": value,
        "data": b"",
        "access_list": (),
        "y_parity": 0,
        "r": 0,
        "s": 0,
        **changes,
    }
    secret = DEVNET_ACCOUNTS[account].secret
    return TxEnvelope.decode(encode_transaction(sign_transaction(FeeMarketTx(**fields), secret)))
