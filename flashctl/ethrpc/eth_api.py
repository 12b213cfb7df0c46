"""The JSON-RPC surface of a node with a chain of its own: namespaces `eth`, `net`, `web3`, `txpool`, `debug`.

    shared_api    what an overlay serves as well: blocks, state, calls, traces, logs
    fee_api       prices of gas
    filter_api    polling filters
    subscriptions eth_subscribe
    send_api      sending, waiting for the receipt; only with a pool
    pool_api      txpool_*; only with a pool

Here they are put together, with the handful of methods that say something about the node itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from flashctl import __version__
from flashctl.core.jsonrpc.methods import Handler, Methods
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.call_runner import CallLimits, CallRunner, InProcess
from flashctl.ethrpc.chain_provider import ChainProvider
from flashctl.ethrpc.fee_api import FeeApi
from flashctl.ethrpc.filter_api import FilterApi
from flashctl.ethrpc.interfaces import ChainReader, PendingProvider, TransactionPool
from flashctl.ethrpc.params import bytes_param
from flashctl.ethrpc.pool_api import PoolApi, PoolTarget
from flashctl.ethrpc.send_api import SendApi
from flashctl.ethrpc.shared_api import SharedApi
from flashctl.ethrpc.subscriptions import Subscriptions
from flashctl.ethrpc.tx_waiters import TxWaiters

__all__ = ["EthApi"]

MAX_SYNC_MS: Final = 6_000
"""Longest and default wait of eth_sendRawTransactionSync: Base's, three blocks."""


class _Part(Protocol):
    def handlers(self) -> Iterator[tuple[str, Handler]]: ...


class EthApi:
    """All methods of a node. Make it on the event loop that serves it."""

    def __init__(
        self,
        chain: ChainReader,
        pool: TransactionPool | None = None,
        pending: PendingProvider | None = None,
        limits: CallLimits | None = None,
        runner: CallRunner | None = None,
        waiters: TxWaiters | None = None,
    ) -> None:
        """A surface over `chain`.

        Args:
            pool: Where transactions go; without one the node takes none and `txpool_*` does not exist.
            pending: The block being built; without one `pending` is the latest block.
            limits: Of eth_call and its relatives.
            runner: Who executes them; threads of this process if left out.
            waiters: Woken by the builder for what is in the block under construction; without them a caller
                that waits for a receipt waits for the sealed block.
        """
        limits = limits or CallLimits()
        runner = runner or InProcess(limits.at_once)
        self._chain = chain
        self._provider = ChainProvider(chain, pending, pool)
        self._shared = SharedApi(self._provider, limits, runner)
        self._parts: list[_Part] = [FeeApi(chain), FilterApi(self._provider, pool)]
        self._target: PoolTarget | None = None
        if pool is not None:
            waiters = waiters or TxWaiters()
            self._target = PoolTarget(self._provider, pool, waiters)
            self._parts += [PoolApi(pool), SendApi(self._target, waiters, timeout_ms=MAX_SYNC_MS)]
        self._subscriptions = Subscriptions(chain, pool)

    def register(self, methods: Methods) -> None:
        """Add every method and kind of subscription to a table."""
        self._shared.register(methods)
        methods.register_all(self._handlers())
        for part in self._parts:
            methods.register_all(part.handlers())
        self._subscriptions.register(methods)

    def close(self) -> None:
        """Stop listening to the chain."""
        self._subscriptions.close()
        self._provider.close()
        if self._target is not None:
            self._target.close()

    def _handlers(self) -> Iterator[tuple[str, Handler]]:
        yield "eth_blockNumber", self.block_number
        yield "eth_chainId", self.chain_id
        yield "eth_syncing", self.syncing
        yield "eth_accounts", self.accounts
        yield "eth_capabilities", self.capabilities
        yield "net_version", self.network
        yield "net_listening", self.listening
        yield "net_peerCount", self.peers
        yield "web3_clientVersion", self.client
        yield "web3_sha3", self.sha3

    async def block_number(self, params: list[Any]) -> str:
        return quantity(self._chain.head.number)

    async def chain_id(self, params: list[Any]) -> str:
        return quantity(self._chain.config.chain_id)

    async def syncing(self, params: list[Any]) -> bool:
        return False

    async def accounts(self, params: list[Any]) -> list[str]:
        return []

    async def capabilities(self, params: list[Any]) -> dict[str, Any]:
        """What history there is: all of it, from genesis on."""
        head = self._chain.head
        everything = {"disabled": False, "oldestBlock": quantity(self._chain.genesis.number)}
        shown: dict[str, Any] = {"head": {"number": quantity(head.number), "hash": to_hex(head.hash)}}
        shown |= dict.fromkeys(("state", "tx", "logs", "receipts", "blocks", "stateproofs"), everything)
        return shown

    async def network(self, params: list[Any]) -> str:
        return str(self._chain.config.chain_id)

    async def listening(self, params: list[Any]) -> bool:
        return True

    async def peers(self, params: list[Any]) -> str:
        return "0x0"

    async def client(self, params: list[Any]) -> str:
        return f"flashctl/v{__version__}/python"

    async def sha3(self, params: list[Any]) -> str:
        return to_hex(keccak256(bytes_param(params, 0, "data")))
