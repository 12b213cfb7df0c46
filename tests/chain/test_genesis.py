"""Genesis blocks: known hashes of real chains, the devnet's contents, and what is refused."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from support.reference import reference_path

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS, DEVNET_BALANCE
from flashctl.chain.genesis import InvalidGenesis, build_genesis, devnet_genesis, load_genesis
from flashctl.chain.predeploys import BEACON_ROOTS, HISTORY_STORAGE, L2_TO_L1_MESSAGE_PASSER, artifact
from flashctl.errors import IoError
from flashctl.eth.blocks import EMPTY_TRIE_ROOT, encode_header
from flashctl.eth.keccak import keccak256
from flashctl.op.config import ChainConfig, InvalidChainConfig
from flashctl.op.forks import OpFork

GENESES = [
    "sepolia-devnet-2_sepolia-devnet-2",
    "mainnet_base",
    "mainnet_ink",
    "mainnet_mode",
    "mainnet_settlus-mainnet",
    "mainnet_shape",
    "sepolia_op",
    "sepolia_shape",
]
"""Bedrock to Jovian at genesis, 0.15 s each."""


def real_genesis(name: str) -> dict[str, Any]:
    path = reference_path("superchain-genesis") / "dev" / f"{name}.json.xz"
    entry: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    return entry


@pytest.mark.parametrize("name", GENESES)
def test_real_genesis_has_its_known_hash(name: str) -> None:
    entry = real_genesis(name)
    config = None
    if entry["genesis"].get("config") is None:
        config = ChainConfig.from_rollup({"l2_chain_id": entry["chain_id"], **entry["hardforks"]})
    genesis = build_genesis(entry["genesis"], config)
    assert encode_header(genesis.block.header).hex() == entry["header_rlp"][2:]
    assert genesis.block.hash.hex() == entry["expected_hash"][2:]
    assert genesis.world.root.hex() == entry["expected_state_root"][2:]


def test_op_rbuilder_devnet_genesis_loads(tmp_path: Path) -> None:
    template = (reference_path("l2-genesis") / "genesis.json.tmpl").read_text()
    genesis = json.loads(template)
    genesis["timestamp"] = "0x6a000000"
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(genesis))
    loaded = load_genesis(path)
    assert loaded.config.chain_id == 901
    assert loaded.config.fork_at(loaded.block.header.timestamp) is OpFork.JOVIAN


@pytest.mark.parametrize(
    "fork", [fork for fork in OpFork if fork >= OpFork.CANYON], ids=lambda fork: fork.label
)
def test_devnet_starts_at_any_fork_from_canyon(fork: OpFork) -> None:
    genesis = build_genesis(devnet_genesis(timestamp=1_800_000_000, latest_fork=fork))
    header = genesis.block.header
    assert genesis.config.fork_at(header.timestamp) is fork
    assert (header.requests_hash is not None) == (fork >= OpFork.ISTHMUS)
    assert (header.parent_beacon_block_root is not None) == (fork >= OpFork.ECOTONE)
    assert len(header.extra_data) == (17 if fork >= OpFork.JOVIAN else 9 if fork >= OpFork.HOLOCENE else 0)
    assert header.withdrawals_root == EMPTY_TRIE_ROOT
    for address, since in ((BEACON_ROOTS, OpFork.ECOTONE), (HISTORY_STORAGE, OpFork.ISTHMUS)):
        assert (genesis.world.account(int.from_bytes(address, "big")) is not None) == (fork >= since)


def test_devnet_funds_the_accounts_and_places_the_contracts() -> None:
    genesis = build_genesis(devnet_genesis())
    for entry in DEVNET_ACCOUNTS:
        account = genesis.world.account(int.from_bytes(entry.address, "big"))
        assert account is not None
        assert account.balance == DEVNET_BALANCE
    passer = genesis.world.account(int.from_bytes(L2_TO_L1_MESSAGE_PASSER, "big"))
    assert passer is not None
    assert genesis.world.code(passer.code_hash) == artifact("L2ToL1MessagePasser").code
    assert passer.code_hash == keccak256(artifact("L2ToL1MessagePasser").code)


def test_devnet_genesis_is_the_same_every_time() -> None:
    one, other = (build_genesis(devnet_genesis(timestamp=7)) for _ in range(2))
    assert one.block.hash == other.block.hash
    assert one.block.hash != build_genesis(devnet_genesis(timestamp=8)).block.hash


def test_devnet_genesis_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(devnet_genesis(timestamp=7)))
    assert load_genesis(path).block.hash == build_genesis(devnet_genesis(timestamp=7)).block.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": None}, "no `config` section"),
        ({"alloc": None}, "no `alloc` section"),
        ({"gasLimit": None}, "gasLimit is missing"),
        ({"gasLimit": "many"}, "gasLimit 'many' is not a number"),
        ({"timestamp": -1}, "timestamp '-1' is not a number of at most 64 bits"),
        ({"alloc": {"0x12": {}}}, "alloc of '0x12': "),
        ({"alloc": {"0x" + "11" * 20: 5}}, "alloc of "),
        ({"alloc": {"0x" + "11" * 20: {"balance": "0x" + "f" * 65}}}, "balance "),
        ({"alloc": {"0x" + "11" * 20: {"code": "0xzz"}}}, "not a hex value"),
    ],
)
def test_a_malformed_genesis_gets_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidGenesis) as caught:
        build_genesis(devnet_genesis() | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ethereum_genesis_is_refused() -> None:
    with pytest.raises(InvalidChainConfig, match="no `optimism` section"):
        build_genesis(devnet_genesis() | {"config": {"chainId": 1}})


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_genesis(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(content)
    with pytest.raises(InvalidGenesis):
        load_genesis(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(IoError, match="No such file"):
        load_genesis(tmp_path / "absent.json")


def test_no_devnet_before_canyon() -> None:
    with pytest.raises(InvalidGenesis, match="canyon or later"):
        devnet_genesis(latest_fork=OpFork.REGOLITH)
