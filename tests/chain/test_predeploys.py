"""The compiled contracts: that they are what their sources say, and that their layout is the protocol's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.npm import node_modules, require_node

from flashctl.chain import predeploys
from flashctl.chain.predeploys import artifact

REPOSITORY = Path(__file__).resolve().parents[2]
PREDEPLOYS = REPOSITORY / "flashctl" / "chain" / "predeploys"


FOLDERS = [PREDEPLOYS, REPOSITORY / "tests" / "contracts"]


def compiled() -> Any:
    """What the npm compiler makes of every source, by folder and contract; one run takes 2 s."""
    node = require_node("solc")
    finished = subprocess.run(
        [node, str(PREDEPLOYS / "compile.mjs"), *map(str, FOLDERS)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "FLASHCTL_NODE_MODULES": str(node_modules())},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_artifacts_are_what_the_sources_compile_to() -> None:
    for folder, artifacts in compiled().items():
        committed = {path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")}
        assert set(committed) == {path.stem for path in Path(folder).glob("*.sol")}
        for name, entry in artifacts.items():
            if entry["solc"] != committed[name]["solc"]:
                pytest.skip(f"artifacts are of solc {committed[name]['solc']}")
            assert entry == committed[name], name


def test_l1_block_layout_is_what_execution_reads() -> None:
    layout = {
        entry["label"]: (int(entry["slot"]), entry["offset"]) for entry in artifact("L1Block").storage_layout
    }
    assert layout == {
        "number": (0, 0),
        "timestamp": (0, 8),
        "basefee": (1, 0),
        "hash": (2, 0),
        "sequenceNumber": (3, 0),
        "blobBaseFeeScalar": (3, 8),
        "baseFeeScalar": (3, 12),
        "batcherHash": (4, 0),
        "l1FeeOverhead": (5, 0),
        "l1FeeScalar": (6, 0),
        "blobBaseFee": (7, 0),
        "operatorFeeConstant": (8, 0),
        "operatorFeeScalar": (8, 8),
        "daFootprintGasScalar": (8, 12),
    }


def test_l1_block_setters_have_the_selectors_of_their_forks() -> None:
    selectors = artifact("L1Block").selectors
    words = "uint64,uint64,uint256,bytes32,uint64,bytes32,uint256,uint256"
    assert selectors[f"setL1BlockValues({words})"].hex() == "015d8eb9"
    assert selectors["setL1BlockValuesEcotone()"].hex() == "440a5e20"
    assert selectors["setL1BlockValuesIsthmus()"].hex() == "098999be"
    assert selectors["setL1BlockValuesJovian()"].hex() == "3db6be2b"


def test_message_passer_layout_is_what_l1_proves() -> None:
    layout = [(entry["label"], entry["slot"]) for entry in artifact("L2ToL1MessagePasser").storage_layout]
    assert layout == [("sentMessages", "0"), ("msgNonce", "1")]


def test_multicall_answers_the_selectors_clients_use() -> None:
    selectors = artifact("Multicall").selectors
    assert selectors["aggregate3((address,bool,bytes)[])"].hex() == "82ad56cb"
    assert selectors["aggregate((address,bytes)[])"].hex() == "252dba42"
    assert selectors["getEthBalance(address)"].hex() == "4d2301cc"


@pytest.mark.parametrize("name", ["L1Block", "L2ToL1MessagePasser", "WETH9", "GasPriceOracle", "Multicall"])
def test_code_fits_a_contract(name: str) -> None:
    code = artifact(name).code
    assert 0 < len(code) <= 24_576
    assert len(predeploys.CREATE2_DEPLOYER_CODE) == 69
