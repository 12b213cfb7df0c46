"""Our predeploys beside the real ones: the same transactions on a devnet and on a chain of the registry."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from functools import cache

import pytest
from support.devnet_chain import GWEI, address, encode_call, l1_attributes, mine, open_devnet, sign_raw
from support.reference import reference_path

from flashctl.chain.chain import Chain, ChainBlock
from flashctl.chain.genesis import build_genesis
from flashctl.chain.predeploys import (
    CREATE2_DEPLOYER,
    GAS_PRICE_ORACLE,
    L1_BLOCK,
    L2_TO_L1_MESSAGE_PASSER,
    MULTICALL,
    WETH,
    artifact,
)
from flashctl.eth.hexdata import parse_quantity
from flashctl.eth.keccak import keccak256
from flashctl.eth.transactions import DepositTx, FeeMarketTx, encode_transaction
from flashctl.ethrpc.rpc_json import block_receipts_json
from flashctl.evm.state import EMPTY_ACCOUNT
from flashctl.op.call import CallRequest, CallResult, Simulation, simulate_call
from flashctl.op.context import BlockContext
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import DEPOSITOR, encode_l1_attributes, l1_attributes_deposit

ETHER = 10**18


@cache
def real_genesis() -> dict[str, object]:
    path = reference_path("superchain-genesis") / "dev" / "sepolia-devnet-2_sepolia-devnet-2.json.xz"
    genesis: dict[str, object] = json.loads(lzma.decompress(path.read_bytes()))["genesis"]
    # Its time is later than the devnet's; what contracts see of it must be the same on both.
    return genesis | {"timestamp": hex(1_800_000_000)}


@pytest.fixture
def chains() -> tuple[Chain, Chain]:
    """(devnet with our contracts, real chain with the real ones), both with the same funded accounts."""
    return open_devnet(), Chain.open(build_genesis(real_genesis()))


def send(
    chain: Chain, *calls: tuple[bytes | None, bytes, int], start: int = 0, gas: int = 500_000
) -> ChainBlock:
    """A block in which account 0 makes these calls: (to, data, value)."""
    raws = [
        sign_raw(
            FeeMarketTx(
                chain.config.chain_id, start + n, GWEI, 100 * GWEI, gas, to, value, data, (), 0, 0, 0
            ),
            0,
        )
        for n, (to, data, value) in enumerate(calls)
    ]
    return mine(chain, raws)


def ask(chain: Chain, to: bytes, data: bytes, sender: bytes = bytes(20), value: int = 0) -> CallResult:
    request = CallRequest(sender=sender, to=to, data=data, value=value, gas=10_000_000)
    simulation = Simulation(chain.config, BlockContext.from_header(chain.head), request)
    return simulate_call(simulation, chain.world(chain.head.hash), chain.ancestor_hash(chain.head.hash))


def logs(block: ChainBlock) -> list[tuple[bytes, tuple[bytes, ...], bytes]]:
    return [(log.address, log.topics, log.data) for receipt in block.receipts for log in receipt.logs]


def outcomes(block: ChainBlock) -> list[bool]:
    return [receipt.succeeded for receipt in block.receipts]


def storage(chain: Chain, contract: bytes, slots: range) -> list[int]:
    world = chain.world(chain.head.hash)
    return [world.storage(int.from_bytes(contract, "big"), slot) for slot in slots]


@pytest.mark.parametrize("layout", [OpFork.BEDROCK, OpFork.ECOTONE, OpFork.ISTHMUS, OpFork.JOVIAN])
def test_l1_block_stores_every_layout_as_the_real_one(chains: tuple[Chain, Chain], layout: OpFork) -> None:
    attributes = replace(
        l1_attributes(3),
        overhead=188,
        scalar=684_000,
        operator_fee_scalar=0x89ABCDEF,
        operator_fee_constant=0x0123456789ABCDEF,
        da_footprint_gas_scalar=0xFEDC,
    )
    deposit = l1_attributes_deposit(replace(attributes, number=attributes.number + 1), layout)
    stored = []
    for chain in chains:
        mine(chain)
        block = mine(chain, [encode_transaction(deposit)])
        assert outcomes(block) == [True, True]
        stored.append(storage(chain, L1_BLOCK, range(10)))
    assert stored[0] == stored[1]
    assert any(stored[0])


@pytest.mark.parametrize("layout", [OpFork.BEDROCK, OpFork.ECOTONE, OpFork.ISTHMUS, OpFork.JOVIAN])
def test_l1_block_refuses_others_as_the_real_one(chains: tuple[Chain, Chain], layout: OpFork) -> None:
    data = encode_l1_attributes(l1_attributes(1), layout)
    answers = [ask(chain, L1_BLOCK, data, sender=address(0)) for chain in chains]
    assert answers[0].output == answers[1].output
    assert not answers[0].succeeded


@pytest.mark.parametrize(
    "signature",
    [
        "number()", "timestamp()", "basefee()", "hash()", "sequenceNumber()", "blobBaseFeeScalar()",
        "baseFeeScalar()", "batcherHash()", "l1FeeOverhead()", "l1FeeScalar()", "blobBaseFee()",
        "operatorFeeConstant()", "operatorFeeScalar()", "daFootprintGasScalar()", "DEPOSITOR_ACCOUNT()",
        "isCustomGasToken()", "gasPayingToken()", "gasPayingTokenName()", "gasPayingTokenSymbol()",
    ],
)  # fmt: skip
def test_l1_block_getters_answer_as_the_real_one(chains: tuple[Chain, Chain], signature: str) -> None:
    answers = []
    for chain in chains:
        mine(chain, operator_fee_scalar=5, operator_fee_constant=6, da_footprint_gas_scalar=7)
        answers.append(ask(chain, L1_BLOCK, encode_call(artifact("L1Block"), signature)).output)
    if answers[1]:
        assert answers[0] == answers[1]


def initiate(target: bytes, gas: int, payload: bytes) -> bytes:
    selector = artifact("L2ToL1MessagePasser").selectors["initiateWithdrawal(address,uint256,bytes)"]
    words = target.rjust(32, b"\0") + gas.to_bytes(32, "big") + (96).to_bytes(32, "big")
    padded = payload + bytes(-len(payload) % 32)
    return selector + words + len(payload).to_bytes(32, "big") + padded


def test_withdrawals_are_recorded_as_by_the_real_passer(chains: tuple[Chain, Chain]) -> None:
    calls = (
        (L2_TO_L1_MESSAGE_PASSER, initiate(address(3), 77_000, b"hello withdrawals, more than a word"), 5),
        (L2_TO_L1_MESSAGE_PASSER, b"", ETHER),
        (L2_TO_L1_MESSAGE_PASSER, initiate(address(4), 0, b""), 0),
    )
    blocks = [send(chain, *calls) for chain in chains]
    assert outcomes(blocks[0]) == [True] * 4
    assert logs(blocks[0]) == logs(blocks[1])
    assert len(logs(blocks[0])) == 3
    ours, theirs = chains
    assert storage(ours, L2_TO_L1_MESSAGE_PASSER, range(2)) == storage(
        theirs, L2_TO_L1_MESSAGE_PASSER, range(2)
    )
    for log in blocks[0].receipts[1].logs:
        slot = int.from_bytes(keccak256(log.data[96:128] + bytes(32)), "big")
        recorded = [storage(chain, L2_TO_L1_MESSAGE_PASSER, range(slot, slot + 1)) for chain in chains]
        assert recorded == [[1], [1]]
    before = blocks[0].header.withdrawals_root
    burn = encode_call(artifact("L2ToL1MessagePasser"), "burn()")
    burnt = [send(chain, (L2_TO_L1_MESSAGE_PASSER, burn, 0), start=3) for chain in chains]
    assert logs(burnt[0]) == logs(burnt[1])
    for chain in chains:
        passer = chain.world(chain.head.hash).account(int.from_bytes(L2_TO_L1_MESSAGE_PASSER, "big"))
        assert (passer or EMPTY_ACCOUNT).balance == 0
    assert burnt[0].header.withdrawals_root == before != chains[0].genesis.withdrawals_root


def test_weth_moves_and_logs_as_the_real_one(chains: tuple[Chain, Chain]) -> None:
    weth = artifact("WETH9")
    calls = (
        (WETH, b"", 3 * ETHER),
        (WETH, encode_call(weth, "deposit()"), 2 * ETHER),
        (WETH, encode_call(weth, "transfer(address,uint256)", address(1), ETHER), 0),
        (WETH, encode_call(weth, "approve(address,uint256)", address(2), 7), 0),
        (WETH, encode_call(weth, "withdraw(uint256)", ETHER), 0),
        (WETH, encode_call(weth, "withdraw(uint256)", 100 * ETHER), 0),
        (WETH, encode_call(weth, "transferFrom(address,address,uint256)", address(1), address(2), 1), 0),
    )
    blocks = [send(chain, *calls) for chain in chains]
    assert outcomes(blocks[0]) == outcomes(blocks[1]) == [True] * 6 + [False] * 2
    assert logs(blocks[0]) == logs(blocks[1])
    for question in (
        encode_call(weth, "balanceOf(address)", address(0)),
        encode_call(weth, "balanceOf(address)", address(1)),
        encode_call(weth, "allowance(address,address)", address(0), address(2)),
        encode_call(weth, "totalSupply()"),
        encode_call(weth, "name()"),
        encode_call(weth, "symbol()"),
        encode_call(weth, "decimals()"),
    ):
        ours, theirs = (ask(chain, WETH, question) for chain in chains)
        assert ours.output == theirs.output


@pytest.mark.parametrize(
    "signature",
    ["l1BaseFee()", "blobBaseFee()", "baseFeeScalar()", "blobBaseFeeScalar()", "decimals()", "DECIMALS()",
     "isEcotone()", "isFjord()", "isIsthmus()", "isJovian()", "overhead()", "scalar()"],
)  # fmt: skip
def test_oracle_getters_answer_as_the_real_one(chains: tuple[Chain, Chain], signature: str) -> None:
    question = encode_call(artifact("GasPriceOracle"), signature)
    answers = []
    for chain in chains:
        mine(chain)
        answers.append(ask(chain, GAS_PRICE_ORACLE, question))
    assert answers[0].succeeded == answers[1].succeeded
    assert answers[0].output == answers[1].output


def test_oracle_fees_are_the_real_ones_or_above(chains: tuple[Chain, Chain]) -> None:
    oracle = artifact("GasPriceOracle")
    for chain in chains:
        mine(chain, operator_fee_scalar=5, operator_fee_constant=6)
    for signature, argument in (("getL1FeeUpperBound(uint256)", 500), ("getOperatorFee(uint256)", 21_000)):
        ours, theirs = (
            ask(chain, GAS_PRICE_ORACLE, encode_call(oracle, signature, argument)) for chain in chains
        )
        assert ours.output == theirs.output
    raw = bytes(range(256)) * 3
    question = oracle.selectors["getL1Fee(bytes)"] + (32).to_bytes(32, "big")
    question += len(raw).to_bytes(32, "big") + raw
    bound, exact = (int.from_bytes(ask(chain, GAS_PRICE_ORACLE, question).output, "big") for chain in chains)
    assert bound >= exact > 0
    block = send(chains[0], (address(1), raw, 1))
    shown = block_receipts_json(OpFork.JOVIAN, block.header, block.envelopes, block.receipts)
    assert bound >= parse_quantity(shown[1]["l1Fee"])


def aggregate3(calls: list[tuple[bytes, bool, bytes]]) -> bytes:
    """ABI encoding of `aggregate3((address,bool,bytes)[])`."""

    def word(value: int) -> bytes:
        return value.to_bytes(32, "big")

    items = []
    for target, allow_failure, data in calls:
        padded = data + bytes(-len(data) % 32)
        items.append(target.rjust(32, b"\0") + word(allow_failure) + word(96) + word(len(data)) + padded)
    offset = 32 * len(items)
    heads = b""
    for item in items:
        heads += word(offset)
        offset += len(item)
    selector = artifact("Multicall").selectors["aggregate3((address,bool,bytes)[])"]
    return selector + word(32) + word(len(items)) + heads + b"".join(items)


def test_multicall_answers_as_the_real_one(chains: tuple[Chain, Chain]) -> None:
    multicall, weth = artifact("Multicall"), artifact("WETH9")
    calls = [
        (MULTICALL, False, encode_call(multicall, "getBlockNumber()")),
        (MULTICALL, False, encode_call(multicall, "getCurrentBlockTimestamp()")),
        (MULTICALL, False, encode_call(multicall, "getCurrentBlockCoinbase()")),
        (MULTICALL, False, encode_call(multicall, "getEthBalance(address)", address(5))),
        (WETH, True, encode_call(weth, "withdraw(uint256)", 1)),
        (WETH, False, encode_call(weth, "name()")),
    ]
    answers = []
    for chain in chains:
        mine(chain)
        answers.append(ask(chain, MULTICALL, aggregate3([*calls[:4], calls[5]])).output)
        tolerated = ask(chain, MULTICALL, aggregate3(calls))
        refused = ask(chain, MULTICALL, aggregate3([(*calls[4][:1], False, calls[4][2])]))
        assert (tolerated.succeeded, refused.succeeded) == (True, False)
        assert b"Multicall3: call failed" in refused.output
    assert answers[0] == answers[1] != b""


def test_create2_deployer_deploys_where_it_should() -> None:
    chain = open_devnet()
    # Returns one byte of code, 0x00.
    init_code = bytes.fromhex("600180600a3d393df300")
    salt = b"\x01" * 32
    expected = keccak256(b"\xff" + CREATE2_DEPLOYER + salt + keccak256(init_code))[12:]
    block = send(chain, (CREATE2_DEPLOYER, salt + init_code, 0))
    assert outcomes(block) == [True, True]
    created = chain.world(chain.head.hash).account(int.from_bytes(expected, "big"))
    assert created is not None
    assert chain.world(chain.head.hash).code(created.code_hash) == b"\x00"


def test_the_depositor_is_a_deposit_sender() -> None:
    deposit = l1_attributes_deposit(l1_attributes(1), OpFork.JOVIAN)
    assert isinstance(deposit, DepositTx)
    assert deposit.sender == DEPOSITOR
