"""The first block and state of a chain: read from an op-geth style `genesis.json`, or built for a devnet.

A genesis is a dictionary in both cases; `build_genesis` is the one road from it to a block. What a header
holds follows from the forks active at the genesis time: base fee always (OP chains start after London),
withdrawals root from Canyon (empty) and from Isthmus that of the message passer's storage, blob fields and
a zero beacon root from Ecotone, the hash of no requests from Isthmus.
https://specs.optimism.io/protocol/isthmus/exec-engine.html#genesis-block
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS, DEVNET_BALANCE
from flashctl.chain.predeploys import (
    BEACON_ROOTS,
    BEACON_ROOTS_CODE,
    CREATE2_DEPLOYER,
    CREATE2_DEPLOYER_CODE,
    GAS_PRICE_ORACLE,
    HISTORY_STORAGE,
    HISTORY_STORAGE_CODE,
    L1_BLOCK,
    L2_TO_L1_MESSAGE_PASSER,
    MULTICALL,
    SEQUENCER_FEE_VAULT,
    WETH,
    artifact,
)
from flashctl.errors import DataError, IoError
from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Block,
    Header,
)
from flashctl.eth.bloom import EMPTY_BLOOM
from flashctl.eth.hexdata import InvalidHex, parse_hex, parse_number, to_hex
from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig, schedule_up_to
from flashctl.op.forks import OpFork
from flashctl.op.rules import rules_for

__all__ = [
    "DEVNET_CHAIN_ID",
    "Genesis",
    "InvalidGenesis",
    "build_genesis",
    "devnet_genesis",
    "genesis_config",
    "load_genesis",
    "read_genesis",
    "require_executable",
]

DEVNET_CHAIN_ID: Final = 901
"""What every OP devnet of the field uses for its L2."""

DEVNET_GAS_LIMIT: Final = 60_000_000
"""OP Mainnet's and most chains' default."""

DEVNET_BASE_FEE: Final = 1_000_000_000
"""One gwei, what EIP-1559 starts from."""

DEVNET_ELASTICITY: Final = 6
DEVNET_DENOMINATOR: Final = 250

MAX_GENESIS_BYTES: Final = 256 * 1024 * 1024
"""Those of the superchain registry have 9 MB; the bound only keeps a wrong path from filling memory."""

_ORACLE_FLAGS: Final = (OpFork.ECOTONE, OpFork.FJORD, OpFork.ISTHMUS, OpFork.JOVIAN)
"""Flags in GasPriceOracle's slot 0, from the lowest byte up."""


class InvalidGenesis(DataError):
    """A genesis file or dictionary that no chain can start from."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """Where a chain starts."""

    config: ChainConfig
    block: Block
    world: World
    """The state after the genesis block."""


def read_genesis(path: Path) -> dict[str, Any]:
    """The dictionary in an op-geth style `genesis.json`.

    Raises:
        IoError: If the file cannot be read.
        InvalidGenesis: If it is too large, not JSON or not an object.
    """
    try:
        with path.open("rb") as file:
            # Read, not asked for its size, which a pipe has not.
            data = file.read(MAX_GENESIS_BYTES + 1)
    except OSError as error:
        raise IoError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_GENESIS_BYTES:
        raise InvalidGenesis(f"{path}: larger than {MAX_GENESIS_BYTES} bytes")
    try:
        genesis = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidGenesis(f"{path}: not JSON: {error}") from None
    if not isinstance(genesis, dict):
        raise InvalidGenesis(f"{path}: not a JSON object")
    return genesis


def load_genesis(path: Path, config: ChainConfig | None = None) -> Genesis:
    """Block and state of an op-geth style `genesis.json`.

    Args:
        config: Rules to use instead of the file's `config` section.

    Raises:
        IoError: If the file cannot be read.
        InvalidGenesis: If it is not JSON or not a genesis.
        InvalidChainConfig: If its `config` section makes no sense.
    """
    return build_genesis(read_genesis(path), config)


def require_executable(genesis: Genesis) -> Genesis:
    """`genesis`, whose next blocks are to be executed.

    Raises:
        UnsupportedFork: If they are of a fork that is not executed.
    """
    rules_for(genesis.config.fork_at(genesis.block.header.timestamp + 1))
    return genesis


def genesis_config(genesis: Mapping[str, Any]) -> ChainConfig:
    """The rules of the chain that starts from a genesis dictionary.

    Raises:
        InvalidGenesis: If it names none.
        InvalidChainConfig: If those make no sense.
    """
    section = genesis.get("config")
    if not isinstance(section, Mapping):
        raise InvalidGenesis("genesis has no `config` section")
    return ChainConfig.from_genesis_config(section)


def build_genesis(genesis: Mapping[str, Any], config: ChainConfig | None = None) -> Genesis:
    """Block and state of a genesis dictionary.

    Raises:
        InvalidGenesis: If a field is missing or malformed.
        InvalidChainConfig: If its `config` section makes no sense.
    """
    if config is None:
        config = genesis_config(genesis)
    alloc = genesis.get("alloc")
    if not isinstance(alloc, Mapping):
        raise InvalidGenesis("genesis has no `alloc` section")
    world = World.empty(keep_preimages=True).apply(_state(alloc))
    return Genesis(config, _block(genesis, config, world), world)


def _state(alloc: Mapping[str, Any]) -> StateDiff:
    diff = StateDiff()
    for key, fields in alloc.items():
        try:
            address = _bytes(key if key.startswith("0x") else f"0x{key}", 20)
            _add_account(diff, int.from_bytes(address, "big"), fields)
        except (InvalidHex, InvalidGenesis, AttributeError) as error:
            raise InvalidGenesis(f"alloc of {str(key)[:50]!r}: {error}") from None
    return diff


def _add_account(diff: StateDiff, address: int, fields: Mapping[str, Any]) -> None:
    code = _bytes(fields.get("code") or "0x")
    code_hash = keccak256(code) if code else EMPTY_CODE_HASH
    if code:
        diff.codes[code_hash] = code
    nonce, balance = _number(fields, "nonce", 0, bits=64), _number(fields, "balance", 0)
    diff.accounts[address] = Account(nonce, balance, code_hash)
    storage = fields.get("storage") or {}
    slots = {
        int.from_bytes(_bytes(slot), "big"): int.from_bytes(_bytes(value), "big")
        for slot, value in storage.items()
    }
    if slots:
        diff.storage[address] = {slot: value for slot, value in slots.items() if value}


def _block(genesis: Mapping[str, Any], config: ChainConfig, world: World) -> Block:
    timestamp = _number(genesis, "timestamp", 0, bits=64)
    fork = config.fork_at(timestamp)
    has_beacon_root = fork.has_beacon_root
    withdrawals_root = EMPTY_TRIE_ROOT if fork.has_withdrawals else None
    if fork.commits_to_message_passer:
        withdrawals_root = world.storage_root(int.from_bytes(L2_TO_L1_MESSAGE_PASSER, "big"))
    header = Header(
        parent_hash=_bytes(genesis.get("parentHash") or to_hex(bytes(32)), 32),
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=_bytes(genesis.get("coinbase") or to_hex(bytes(20)), 20),
        state_root=world.root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=EMPTY_BLOOM,
        difficulty=_number(genesis, "difficulty", 0),
        number=_number(genesis, "number", 0, bits=63),
        gas_limit=_number(genesis, "gasLimit", bits=64),
        gas_used=_number(genesis, "gasUsed", 0),
        timestamp=timestamp,
        extra_data=_bytes(genesis.get("extraData") or "0x"),
        prev_randao=_bytes(genesis.get("mixHash") or to_hex(bytes(32)), 32),
        nonce=_number(genesis, "nonce", 0, bits=64).to_bytes(8, "big"),
        base_fee_per_gas=_number(genesis, "baseFeePerGas", DEVNET_BASE_FEE),
        withdrawals_root=withdrawals_root,
        blob_gas_used=_number(genesis, "blobGasUsed", 0) if has_beacon_root else None,
        excess_blob_gas=_number(genesis, "excessBlobGas", 0) if has_beacon_root else None,
        parent_beacon_block_root=bytes(32) if has_beacon_root else None,
        requests_hash=EMPTY_REQUESTS_HASH if fork.has_requests else None,
    )
    return Block(header, (), () if fork.has_withdrawals else None)


def _bytes(text: Any, size: int | None = None) -> bytes:
    """Hex of a genesis; op-geth's files may leave out leading zeros of a storage word, hence the padding."""
    if isinstance(text, str) and len(text) % 2 and text.startswith("0x"):
        text = f"0x0{text[2:]}"
    return parse_hex(text, size=size)


def _number(fields: Mapping[str, Any], key: str, default: int | None = None, *, bits: int = 256) -> int:
    """A number given as hex, decimal text or a JSON number; all three occur."""
    value: object = fields.get(key)
    if value is None:
        if default is None:
            raise InvalidGenesis(f"{key} is missing")
        return default
    try:
        return parse_number(value, most=(1 << bits) - 1)
    except DataError:
        shown = str(value)[:40] if isinstance(value, str | int) else type(value).__name__
        raise InvalidGenesis(f"{key} {shown!r} is not a number of at most {bits} bits") from None


# ---- the built-in devnet ------------------------------------------------------------------------


def devnet_genesis(
    *,
    timestamp: int = 0,
    chain_id: int = DEVNET_CHAIN_ID,
    latest_fork: OpFork = OpFork.JOVIAN,
    gas_limit: int = DEVNET_GAS_LIMIT,
    balance: int = DEVNET_BALANCE,
) -> dict[str, Any]:
    """The genesis dictionary of the built-in devnet; other execution clients can start from it too.

    Args:
        timestamp: Of the genesis block, seconds since the epoch.
        latest_fork: Every fork up to this one is active from the start.
        balance: Of each of the ten accounts, in wei.

    Raises:
        InvalidGenesis: If the fork is older than Canyon, the first whose EVM is implemented.
    """
    if latest_fork < OpFork.CANYON:
        raise InvalidGenesis(f"a devnet starts at canyon or later, not at {latest_fork.label}")
    config = ChainConfig(chain_id, schedule_up_to(latest_fork), eip1559_elasticity=DEVNET_ELASTICITY)
    genesis: dict[str, Any] = {
        "config": config.to_genesis_config(),
        "nonce": "0x0",
        "timestamp": hex(timestamp),
        "extraData": to_hex(_devnet_extra_data(latest_fork)),
        "gasLimit": hex(gas_limit),
        "difficulty": "0x0",
        "mixHash": to_hex(bytes(32)),
        "coinbase": to_hex(SEQUENCER_FEE_VAULT),
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": to_hex(bytes(32)),
        "baseFeePerGas": hex(DEVNET_BASE_FEE),
        "alloc": _devnet_alloc(latest_fork, balance),
    }
    if latest_fork.has_beacon_root:
        genesis |= {"blobGasUsed": "0x0", "excessBlobGas": "0x0"}
    return genesis


def _devnet_extra_data(fork: OpFork) -> bytes:
    """EIP-1559 parameters of the first block, as the fork encodes them."""
    if not fork.has_fee_parameters:
        return b""
    pair = DEVNET_DENOMINATOR.to_bytes(4, "big") + DEVNET_ELASTICITY.to_bytes(4, "big")
    return b"\x00" + pair if not fork.has_min_base_fee else b"\x01" + pair + bytes(8)


def _devnet_alloc(fork: OpFork, balance: int) -> dict[str, Any]:
    def contract(code: bytes, storage: dict[int, int] | None = None) -> dict[str, Any]:
        # Nonce 1, as EIP-161 gives every deployed contract.
        account: dict[str, Any] = {"balance": "0x0", "nonce": "0x1", "code": to_hex(code)}
        if storage:
            account["storage"] = {
                to_hex(slot.to_bytes(32, "big")): to_hex(value.to_bytes(32, "big"))
                for slot, value in storage.items()
            }
        return account

    flags = sum(1 << 8 * index for index, flag in enumerate(_ORACLE_FLAGS) if fork >= flag)
    alloc = {
        L1_BLOCK: contract(artifact("L1Block").code),
        L2_TO_L1_MESSAGE_PASSER: contract(artifact("L2ToL1MessagePasser").code),
        GAS_PRICE_ORACLE: contract(artifact("GasPriceOracle").code, {0: flags}),
        WETH: contract(artifact("WETH9").code, _weth_storage()),
        MULTICALL: contract(artifact("Multicall").code),
        CREATE2_DEPLOYER: contract(CREATE2_DEPLOYER_CODE),
    }
    if fork.has_beacon_root:
        alloc[BEACON_ROOTS] = contract(BEACON_ROOTS_CODE)
    if fork.stores_block_hashes:
        alloc[HISTORY_STORAGE] = contract(HISTORY_STORAGE_CODE)
    for account in DEVNET_ACCOUNTS:
        alloc[account.address] = {"balance": hex(balance)}
    return {to_hex(address): account for address, account in alloc.items()}


def _weth_storage() -> dict[int, int]:
    """What WETH9's constructor would have stored: name, symbol and decimals."""

    def short_string(text: bytes) -> int:
        # Solidity keeps a string of up to 31 bytes in its slot, with twice its length in the last byte.
        return int.from_bytes(text.ljust(31, b"\0") + bytes((2 * len(text),)), "big")

    return {0: short_string(b"Wrapped Ether"), 1: short_string(b"WETH"), 2: 18}
