"""Contracts of a devnet genesis: our own in Solidity, and the few whose bytecode is prescribed.

Each `NAME.sol` here has its compiled `NAME.json` beside it, written by `compile.mjs`; a test compiles
again and compares. The real predeploys sit behind proxies that governance upgrades; these sit at the
address itself, because a devnet is not upgraded. What must match is what execution and proofs read:
the storage layout of L1Block and of L2ToL1MessagePasser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = [
    "BASE_FEE_VAULT",
    "BEACON_ROOTS",
    "BEACON_ROOTS_CODE",
    "CREATE2_DEPLOYER",
    "CREATE2_DEPLOYER_CODE",
    "GAS_PRICE_ORACLE",
    "HISTORY_STORAGE",
    "HISTORY_STORAGE_CODE",
    "L1_BLOCK",
    "L1_FEE_VAULT",
    "L2_TO_L1_MESSAGE_PASSER",
    "MULTICALL",
    "OPERATOR_FEE_VAULT",
    "SEQUENCER_FEE_VAULT",
    "WETH",
    "Artifact",
    "artifact",
    "read_artifact",
]

WETH: Final = bytes.fromhex("4200000000000000000000000000000000000006")
GAS_PRICE_ORACLE: Final = bytes.fromhex("420000000000000000000000000000000000000f")
SEQUENCER_FEE_VAULT: Final = bytes.fromhex("4200000000000000000000000000000000000011")
L1_BLOCK: Final = bytes.fromhex("4200000000000000000000000000000000000015")
L2_TO_L1_MESSAGE_PASSER: Final = bytes.fromhex("4200000000000000000000000000000000000016")
BASE_FEE_VAULT: Final = bytes.fromhex("4200000000000000000000000000000000000019")
L1_FEE_VAULT: Final = bytes.fromhex("420000000000000000000000000000000000001a")
OPERATOR_FEE_VAULT: Final = bytes.fromhex("420000000000000000000000000000000000001b")
"""Predeploy addresses, https://specs.optimism.io/protocol/predeploys.html.

The vaults hold no code here: a balance is all that fees need.
"""

MULTICALL: Final = bytes.fromhex("ca11bde05977b3631167028862be2a173976ca11")
"""Where every chain has Multicall3, and clients look for it without asking."""

CREATE2_DEPLOYER: Final = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
"""The keyless deployer (https://github.com/Arachnid/deterministic-deployment-proxy): salt, then init code."""

CREATE2_DEPLOYER_CODE: Final = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b"
    "8082525050506014600cf3"
)

BEACON_ROOTS: Final = bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02")
"""EIP-4788: block of the parent beacon root by timestamp, on L2 that of the L1 origin."""

BEACON_ROOTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff810690815414603c575f"
    "5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500"
)

HISTORY_STORAGE: Final = bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935")
"""EIP-2935: hashes of the last 8191 blocks."""

HISTORY_STORAGE_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff90"
    "06545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract."""

    name: str
    code: bytes
    """Runtime code."""
    creation_code: bytes
    """What a creation transaction carries, before constructor arguments."""
    selectors: dict[str, bytes]
    """Function selectors by signature, such as `transfer(address,uint256)`."""
    abi: list[dict[str, Any]]
    storage_layout: list[dict[str, Any]]
    """Slot, offset and type of every state variable, as solc reports them."""


@cache
def artifact(name: str) -> Artifact:
    """The compiled predeploy with this contract name, such as `L1Block`."""
    return read_artifact(Path(__file__).with_name(f"{name}.json"))


def read_artifact(path: Path) -> Artifact:
    """One artifact file as `compile.mjs` writes it."""
    fields = json.loads(path.read_text())
    return Artifact(
        path.stem,
        bytes.fromhex(fields["deployedBytecode"][2:]),
        bytes.fromhex(fields["bytecode"][2:]),
        {signature: bytes.fromhex(selector) for signature, selector in fields["selectors"].items()},
        fields["abi"],
        fields["storageLayout"],
    )
