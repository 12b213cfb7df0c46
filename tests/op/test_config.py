"""Chain configurations: the built-in ones, op-geth genesis files and op-node rollup files."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from support.reference import reference_path

from flashctl.errors import UsageError
from flashctl.op.config import ChainConfig, InvalidChainConfig
from flashctl.op.forks import OpFork
from flashctl.op.registry import CHAINS, chain_by_id, chain_by_name

GENESIS_CHAINS = {"mainnet_base": "base-mainnet", "mainnet_ink": "ink-mainnet", "sepolia_op": "op-sepolia"}


def rollup(**times: Any) -> dict[str, Any]:
    return {"l2_chain_id": 901, **{f"{name}_time": time for name, time in times.items()}}


def unpacked(name: str) -> Any:
    return json.loads(lzma.decompress(reference_path(name).read_bytes()))


class TestRegistry:
    def test_names_and_ids_are_unique(self) -> None:
        assert len({chain.chain_id for chain in CHAINS.values()}) == len(CHAINS) == 8
        assert all(chain_by_id(chain.chain_id) is chain for chain in CHAINS.values())
        assert chain_by_id(1) is None

    def test_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(UsageError, match="op-mainnet, op-sepolia"):
            chain_by_name("bass")

    def test_a_chain_s_name_alone_is_its_mainnet(self) -> None:
        assert chain_by_name("base") is chain_by_name("base-mainnet")

    @pytest.mark.parametrize("genesis", GENESIS_CHAINS)
    def test_times_and_genesis_hash_are_the_superchain_registrys(self, genesis: str) -> None:
        known = unpacked(f"superchain-genesis/dev/{genesis}.json.xz")
        chain = chain_by_name(GENESIS_CHAINS[genesis])
        assert chain.chain_id == known["chain_id"]
        assert chain.genesis_hash is not None and "0x" + chain.genesis_hash.hex() == known["expected_hash"]
        for fork, time in chain.schedule:
            published = known["hardforks"].get(f"{fork.label}_time")
            assert published in (time, None), fork

    def test_the_block_at_an_activation_time_follows_the_fork(self) -> None:
        chain = chain_by_name("op-mainnet")
        assert chain.fork_at(1746806400) is OpFork.HOLOCENE
        assert chain.fork_at(1746806401) is OpFork.ISTHMUS
        assert chain.activates(OpFork.ISTHMUS, 1746806401, 1746806399)
        assert not chain.activates(OpFork.ISTHMUS, 1746806403, 1746806401)


class TestFiles:
    @pytest.mark.parametrize("name", ["rollup-isthmus.json", "rollup-jovian.json"])
    def test_playground_rollups(self, name: str) -> None:
        config = ChainConfig.from_rollup(
            json.loads(reference_path(f"l2-genesis/playground/{name}").read_text())
        )
        assert config.chain_id == 13
        assert config.fork_at(0).label in name
        assert config.eip1559_denominator_canyon == 250

    def test_genesis_of_op_rbuilder_round_trips(self) -> None:
        text = reference_path("l2-genesis/genesis.json.tmpl").read_text()
        config = ChainConfig.from_genesis_config(json.loads(text)["config"])
        assert (config.chain_id, config.fork_at(0)) == (901, OpFork.JOVIAN)
        assert ChainConfig.from_genesis_config(config.to_genesis_config()) == config

    def test_genesis_of_a_karst_devnet(self) -> None:
        known = unpacked("superchain-genesis/dev/sepolia-devnet-2_sepolia-devnet-2.json.xz")
        config = ChainConfig.from_genesis_config(known["genesis"]["config"])
        assert config.fork_at(0) is OpFork.KARST

    def test_rollup_boost_genesis(self) -> None:
        path: Path = reference_path("l2-genesis/rollup-boost/genesis.json")
        config = ChainConfig.from_genesis_config(json.loads(path.read_text())["config"])
        assert config.fork_at(0) is OpFork.GRANITE
        assert config.activation_time(OpFork.HOLOCENE) == config.activation_time(OpFork.ISTHMUS) == 10**14
        assert config.activation_time(OpFork.JOVIAN) is None


class TestRefusals:
    def test_hex_strings_are_numbers(self) -> None:
        config = ChainConfig.from_rollup(
            {**rollup(canyon="0x5"), "chain_op_config": {"eip1559Elasticity": "0xa"}}
        )
        assert (config.activation_time(OpFork.CANYON), config.eip1559_elasticity) == (5, 10)

    @pytest.mark.parametrize(
        ("times", "message"),
        [
            ({"canyon": 9, "ecotone": 8}, "ecotone at 8 is before canyon at 9"),
            ({"canyon": "soon"}, "canyon_time 'soon' is not an unsigned 64-bit number"),
            ({"canyon": -1}, "not an unsigned 64-bit number"),
            ({"canyon": True}, "not an unsigned 64-bit number"),
            ({"canyon": 2**64}, "not an unsigned 64-bit number"),
        ],
    )
    def test_schedule(self, times: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidChainConfig, match=message):
            ChainConfig.from_rollup(rollup(**times))

    def test_missing_chain_id_optimism_section_and_zero_constants(self) -> None:
        with pytest.raises(InvalidChainConfig, match="l2_chain_id is missing"):
            ChainConfig.from_rollup({})
        with pytest.raises(InvalidChainConfig, match="not an OP Stack chain"):
            ChainConfig.from_genesis_config({"chainId": 1})
        with pytest.raises(InvalidChainConfig, match="eip1559Denominator is zero"):
            ChainConfig.from_genesis_config({"chainId": 1, "optimism": {"eip1559Denominator": 0}})

    def test_ethereum_fork_at_another_time_than_its_op_fork(self) -> None:
        config = ChainConfig.from_rollup(rollup(canyon=0, ecotone=0)).to_genesis_config()
        with pytest.raises(InvalidChainConfig, match="cancunTime 7 differs from ecotoneTime 0"):
            ChainConfig.from_genesis_config(config | {"cancunTime": 7})
