"""The blocks of the pack: a small chain on each fork, its second block full of every kind of transaction.

The chain has OP Mainnet's id and calendar and a devnet's genesis state, so that a block says by its time
which fork it belongs to, and `decode --execute` knows its chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from support.assembler import assemble
from support.devnet_chain import CONTRACTS, GWEI, address, attributes_for, encode_call

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.genesis import Genesis, build_genesis, devnet_genesis
from flashctl.chain.predeploys import L2_TO_L1_MESSAGE_PASSER, read_artifact
from flashctl.eth.blocks import Header
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.signatures import sign_authorization, sign_transaction
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    encode_transaction,
)
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution, SealedBlock
from flashctl.op.forks import OpFork
from flashctl.op.registry import chain_by_id

__all__ = ["BlockStep", "chain_of", "steps"]

CHAIN_ID = 10
PROBE = read_artifact(CONTRACTS / "Probe.json")
TOKEN = read_artifact(CONTRACTS / "Token.json")
SUPPLY = (10**24).to_bytes(32, "big")
SECRETS = [account.secret for account in DEVNET_ACCOUNTS]
L1_FEES = {"operator_fee_scalar": 1_000_000, "operator_fee_constant": 500, "da_footprint_gas_scalar": 400}

ENVIRONMENT = assemble(
    "NUMBER PUSH0 SSTORE TIMESTAMP PUSH1 1 SSTORE PREVRANDAO PUSH1 2 SSTORE BASEFEE PUSH1 3 SSTORE "
    "PUSH1 1 NUMBER SUB BLOCKHASH PUSH1 4 SSTORE PUSH1 2 NUMBER SUB BLOCKHASH PUSH1 5 SSTORE "
    "COINBASE BALANCE PUSH1 6 SSTORE CHAINID PUSH1 7 SSTORE"
)
HASHERS = assemble(
    # SHA-256, the identity, ecrecover of nothing and P256VERIFY (from Fjord), results kept.
    "PUSH1 0xAB PUSH0 MSTORE PUSH1 32 PUSH1 32 PUSH1 32 PUSH0 PUSH1 2 GAS STATICCALL PUSH0 SSTORE "
    "PUSH1 32 MLOAD PUSH1 1 SSTORE PUSH1 32 PUSH1 32 PUSH1 32 PUSH0 PUSH1 4 GAS STATICCALL PUSH1 2 SSTORE "
    "PUSH0 PUSH0 PUSH1 128 PUSH0 PUSH1 1 GAS STATICCALL PUSH1 3 SSTORE "
    "PUSH0 PUSH0 PUSH1 160 PUSH0 PUSH2 0x100 GAS STATICCALL PUSH1 4 SSTORE"
)
GONE = assemble("PUSH1 0x77 SELFDESTRUCT")


@dataclass(frozen=True, slots=True)
class BlockStep:
    """One block, and what was there before it."""

    name: str
    config: ChainConfig
    parent: Header
    before: World
    sealed: SealedBlock
    parts: tuple[SealedBlock, ...]
    """The block after the deposits, and after every few transactions more."""
    ancestors: dict[int, Header]
    attributes: PayloadAttributes
    """What a sequencer would have asked for."""


def created(account: int, nonce: int) -> bytes:
    return keccak256(join_list((encode_bytes(address(account)), encode_uint(nonce))))[12:]


def deployer(code: bytes) -> bytes:
    """Creation code for a contract of this code."""
    start = assemble(f"PUSH2 {len(code)} DUP1 PUSH1 12 PUSH0 CODECOPY PUSH0 RETURN")
    return start.ljust(12, b"\x00") + code


class Signer:
    """Signs in the name of the devnet's accounts, counting their nonces."""

    def __init__(self) -> None:
        self._nonces = dict.fromkeys(range(10), 0)

    def nonce(self, account: int) -> int:
        self._nonces[account] += 1
        return self._nonces[account] - 1

    def call(
        self, account: int, to: bytes | None, data: bytes = b"", *, value: int = 0, gas: int = 1_000_000,
        tip: int = GWEI,
    ) -> bytes:  # fmt: skip
        tx = FeeMarketTx(CHAIN_ID, self.nonce(account), tip, 100 * GWEI, gas, to, value, data, (), 0, 0, 0)
        return encode_transaction(sign_transaction(tx, SECRETS[account]))

    def legacy(self, account: int, to: bytes, value: int, *, protected: bool = True) -> bytes:
        tx = LegacyTx(self.nonce(account), 50 * GWEI, 60_000, to, value, b"", 0, 0, 0)
        signed = sign_transaction(tx, SECRETS[account], chain_id=CHAIN_ID if protected else None)
        return encode_transaction(signed)

    def listed(self, account: int, to: bytes, data: bytes, slots: tuple[bytes, ...]) -> bytes:
        entries = (AccessListEntry(to, slots),)
        tx = AccessListTx(CHAIN_ID, self.nonce(account), 50 * GWEI, 200_000, to, 0, data, entries, 0, 0, 0)
        return encode_transaction(sign_transaction(tx, SECRETS[account]))

    def set_code(self, account: int, authority: int, target: bytes) -> bytes:
        nonce = self.nonce(account)
        authorizations = (
            sign_authorization(CHAIN_ID, target, self.nonce(authority), SECRETS[authority]),
            sign_authorization(CHAIN_ID + 1, target, 0, SECRETS[9]),
        )
        to = address(authority)
        tx = SetCodeTx(CHAIN_ID, nonce, GWEI, 100 * GWEI, 300_000, to, 0, b"", (), authorizations, 0, 0, 0)
        return encode_transaction(sign_transaction(tx, SECRETS[account]))


def deposit(
    number: int, to: bytes | None, *, mint: int = 0, value: int = 0, gas: int = 300_000, data: bytes = b""
) -> bytes:
    return encode_transaction(
        DepositTx(
            keccak256(bytes((number,))), bytes((0xD0 + number,)) * 20, to, mint, value, gas, False, data
        )
    )


def first_block(signer: Signer) -> list[bytes]:
    """What the second block needs."""
    return [
        signer.call(0, None, PROBE.creation_code, gas=2_000_000),
        signer.call(0, None, TOKEN.creation_code + SUPPLY, gas=2_000_000),
        signer.call(0, None, deployer(ENVIRONMENT)),
        signer.call(0, None, deployer(HASHERS)),
        signer.call(0, None, deployer(GONE), value=5),
    ]


def second_block(signer: Signer, fork: OpFork) -> list[bytes]:
    """Deposits first; then every type, what fails, what logs, what deletes, what withdraws."""
    probe, token, environment, hashers, gone = (created(0, nonce) for nonce in range(5))
    friend = b"\x99" * 20
    raws = [
        deposit(1, friend, mint=10**18, value=10**17),
        deposit(2, probe, mint=1, data=encode_call(PROBE, "refuse(uint256)", 7)),
        deposit(3, None, data=deployer(GONE)),
        deposit(4, friend, value=5),
        signer.legacy(1, friend, 10**15),
        signer.listed(1, probe, encode_call(PROBE, "increment()"), (bytes(32), b"\x11" * 32)),
        signer.call(0, token, encode_call(TOKEN, "transfer(address,uint256)", address(1), 1000)),
        signer.call(2, token, encode_call(TOKEN, "transfer(address,uint256)", address(1), 1)),
        signer.call(2, probe, encode_call(PROBE, "fill(uint256,uint256)", 1, 20)),
        signer.call(2, probe, encode_call(PROBE, "emitNotes(uint256)", 3)),
        signer.call(2, probe, encode_call(PROBE, "refuse(uint256)", 42)),
        signer.call(2, probe, encode_call(PROBE, "divide(uint256,uint256)", 1, 0)),
        signer.call(2, probe, encode_call(PROBE, "halt()"), gas=60_000),
        signer.call(2, probe, encode_call(PROBE, "spin(uint256)", 10**6), gas=80_000),
        signer.call(2, probe, encode_call(PROBE, "clear(uint256,uint256)", 5, 10)),
        signer.call(3, environment),
        signer.call(3, hashers),
        signer.call(3, gone),
        signer.call(3, None, b"\x60\xef\x5f\x53\x60\x01\x5f\xf3"),
        signer.call(3, bytes(L2_TO_L1_MESSAGE_PASSER), value=12345, tip=0),
        signer.call(3, friend, bytes(range(256)) * 5, tip=0),
        signer.legacy(4, friend, 1, protected=False),
    ]
    if fork >= OpFork.ISTHMUS:
        raws += [signer.set_code(4, 5, probe), signer.call(6, address(5), encode_call(PROBE, "increment()"))]
    return raws


def third_block(signer: Signer) -> list[bytes]:
    """A small one: a transfer, one of tokens and another call, behind the attributes deposit."""
    probe, token = created(0, 0), created(0, 1)
    return [
        signer.call(7, b"\x97" * 20, value=10**16),
        signer.call(0, token, encode_call(TOKEN, "transfer(address,uint256)", address(3), 5)),
        signer.call(7, probe, encode_call(PROBE, "increment()")),
    ]


class Chain:
    """Blocks one after the other, each with what it started from."""

    def __init__(self, genesis: Genesis) -> None:
        self.config = genesis.config
        self.head, self.world = genesis.block.header, genesis.world
        self.headers = {self.head.number: self.head}

    def add(self, name: str, raws: list[bytes], *, part: int = 6) -> BlockStep:
        parent, before = self.head, self.world
        fork = self.config.fork_at(parent.timestamp + 2)
        fees = {"operator_fee_scalar": 0} if fork < OpFork.ISTHMUS else dict(L1_FEES)
        attributes = replace(
            attributes_for(self.config, parent, **fees), prev_randao=keccak256(b"randao" + name.encode())
        )
        context = BlockContext.from_attributes(self.config, parent, attributes)
        ancestors = dict(self.headers)
        execution = BlockExecution(
            self.config, parent, context, before, lambda number: ancestors[number].hash
        )
        parts = []
        ordered = [*attributes.transactions, *raws]
        for place, raw in enumerate(ordered):
            execution.execute(TxEnvelope.decode(raw))
            if place % part == 0 or place == len(ordered) - 1:
                parts.append(execution.seal())
        self.head, self.world = parts[-1].header, parts[-1].world
        self.headers[self.head.number] = self.head
        return BlockStep(name, self.config, parent, before, parts[-1], tuple(parts), ancestors, attributes)


def chain_of(fork: OpFork, *, before_activation: bool = False) -> Chain:
    """OP Mainnet's calendar over a devnet's state, an hour into a fork or two blocks before it."""
    config = chain_by_id(CHAIN_ID)
    assert config is not None
    start = dict(config.schedule)[fork]
    state = OpFork(fork - 1) if before_activation else fork
    timestamp = start - 4 if before_activation else start + 3600
    genesis = devnet_genesis(timestamp=timestamp, chain_id=CHAIN_ID, latest_fork=max(state, OpFork.CANYON))
    return Chain(build_genesis(genesis, config))


def steps() -> list[BlockStep]:
    """Every block of the pack: three on each fork, and the first of each fork."""
    found = []
    for fork in OpFork:
        if fork < OpFork.CANYON:
            continue
        chain, signer = chain_of(fork), Signer()
        found.append(chain.add(f"{fork.label}-1", first_block(signer)))
        found.append(chain.add(f"{fork.label}-2", second_block(signer, fork)))
        found.append(chain.add(f"{fork.label}-3", third_block(signer), part=1))
        if fork > OpFork.CANYON:
            chain = chain_of(fork, before_activation=True)
            chain.add("before", [])
            found.append(chain.add(f"{fork.label}-activation", []))
    return found
